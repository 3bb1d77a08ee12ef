"""一页就是一次会话：围栏从上到下在同一个命名空间里执行，输出逐块比较。"""

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sybil import Document, Region
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer

from . import execute, figures, services, session
from .compare import agrees, shape, tidy
from .snippets import INCLUDE, SnippetError, extract, find, sections

JIEZI = "芥子"
MODELS = (
    "Qwen2-0.5B-Instruct",
    "Qwen2-7B-Instruct",
)  # 输出块的标题里可以出现的别的模型
OUTPUT, CPU, ANY, VARIES = "输出", "输出 · CPU", "输出 · 任何模型", "输出 · 每次不同"
TITLES = {OUTPUT: JIEZI, CPU: JIEZI, ANY: None, VARIES: None} | {
    f"{OUTPUT} · {model}": model for model in MODELS
}
SUFFIXES = {"python": ".py", "bash": ".sh", "powershell": ".ps1"}
SERVICE = "另一个终端"  # 一直开着的命令；它的标题
NEEDS = "需要"  # 标题以它开头的命令，这里没有它要的东西，不跑
SHOWN = {*SUFFIXES, "text", "json"}  # 整个文件只展示、不执行时可用的语言
INFO = re.compile(r'(?P<language>\w+)(?: title="(?P<title>[^"]*)")?')
LEXER = RawFencedCodeBlockLexer(re.compile(r"(?P<info>[^\n]*)\n"))


def model_name() -> str:
    """正在跑的模型，从 MODEL 的文件夹名认出；认不出就是文件夹名本身。"""
    name = Path(os.environ.get("MODEL", "examples/jiezi")).resolve().name
    known = [
        model for model in MODELS if model in name.replace("___", ".")
    ]  # ModelScope 把点存成 ___
    return JIEZI if name == "jiezi" else known[0] if known else name


@dataclass(eq=False)
class Fence:
    """页面上的一个围栏。"""

    start: int
    end: int
    line: int
    prefix: str
    info: str
    body: str
    role: str = "code"  # code 执行；output 比较；shown 整个文件，只展示；wrong 写错了
    problem: str = (
        ""  # 错在哪里；写错了的 python、bash 围栏仍是 code，后面的会话跟着停下
    )
    title: str = ""
    path: str = ""
    section: str = ""
    code: "Fence | None" = None  # output 属于哪个 code
    outputs: list["Fence"] = field(default_factory=list)
    result: execute.Result | None = None

    @property
    def for_model(self) -> str | None:
        return TITLES[self.title]


def scan(text: str) -> list[int]:
    """逐行数围栏，返回每个开头的行号；与 Sybil 的词法分析互相印证，谁也不许漏。"""
    opening, lines = None, []
    for number, line in enumerate(text.split("\n"), 1):
        mark = re.match(r"[\s>]*(?:(?:[-*+]|\d+[.)])\s+)*(`{3,}|~{3,})(.*)", line)
        if mark and opening is None:
            opening = mark[1]
            lines.append(number)
        elif mark and mark[1].startswith(opening) and not mark[2].strip():
            opening = None
    return lines + ([-1] if opening else [])  # -1：最后一个没有收尾


def fences(text: str) -> list[Fence]:
    """页面上的全部围栏，按先后排列。"""
    found, end = [], 0
    for region in sorted(LEXER(Document(text, "")), key=lambda region: region.start):
        if region.start < end:  # 长围栏里的短围栏是内容
            continue
        end = region.end
        opening, *body = text[region.start : region.end].split("\n")
        prefix = re.match("[^`~]*", opening)[0]
        body = "\n".join(line.removeprefix(prefix) for line in body[:-1])
        line = text.count("\n", 0, region.start) + 1
        found.append(
            Fence(
                region.start,
                region.end,
                line,
                prefix,
                region.lexemes["info"].strip(),
                body,
            )
        )
    if [fence.line for fence in found] != scan(text):
        raise pytest.Collector.CollectError(
            f"围栏没有收尾或没被认出：收到的在第 {[f.line for f in found]} 行，"
            f"逐行数到的在第 {scan(text)} 行（-1 是没有收尾）"
        )
    last = None
    for fence in found:
        classify(fence, last)
        last = fence if fence.role == "code" else last
    return found


def check_order(root: Path, found: list[Fence]) -> None:
    """页面上的节要照脚本里的先后：读者从上往下读，脚本从上往下跑。"""
    reached: dict[str, tuple[int, str]] = {}
    for fence in found:
        if fence.role == "code" and fence.path.endswith(".py") and not fence.problem:
            with contextlib.suppress(SnippetError, KeyError):
                start = sections(find(root, fence.path))[0][fence.section][0]
                before, name = reached.get(fence.path, (0, ""))
                if start < before:
                    fence.problem = f"节 {fence.section} 在脚本里排在节 {name} 前面：页面与脚本的次序要一致"
                reached[fence.path] = start, fence.section


def classify(fence: Fence, last: Fence | None) -> None:
    """认出围栏的角色；last 是它前面最近的 code。"""
    info = INFO.fullmatch(fence.info)
    language, fence.title = (
        (info["language"], info["title"] or "") if info else ("", "")
    )
    include = INCLUDE.fullmatch(fence.body.strip())
    if include:
        fence.path, fence.section = include["path"], include["section"] or ""
    if fence.prefix.strip():
        fence.problem = "围栏前面只能有空格"
    elif language not in SHOWN:
        fence.problem = f'不认识的围栏：{fence.info or "（空）"}；能用的是 python、bash，和 text title="输出"'
    elif language == "text" and fence.title in TITLES:
        fence.role, fence.code = "output", last
        if last is None:
            fence.problem = "这块输出前面没有代码"
        else:
            last.outputs.append(fence)
    elif not include:
        hint = (
            f"text 的标题只能是：{'、'.join(TITLES)}"
            if language == "text"
            else '要写 --8<-- "章/文件:节"'
        )
        fence.problem = f"代码和文件不能直接写在页面上，{hint}"
    elif fence.title and not (
        language == "bash" and (fence.title == SERVICE or fence.title.startswith(NEEDS))
    ):
        fence.role = "shown"
        if fence.section or fence.title != f"examples/{fence.path}":
            fence.problem = (
                f'展示整个文件时不写节名，标题写成 title="examples/{fence.path}"'
            )
    elif not fence.section:
        fence.problem = (
            f'要执行就写节名；要展示整个文件就加 title="examples/{fence.path}"'
        )
    elif Path(fence.path).suffix != SUFFIXES.get(language):
        fence.problem = f"{language} 围栏里引用了 {fence.path}"
    if fence.problem:
        fence.role = "code" if language in SUFFIXES else "wrong"


class Page:
    """一页的会话。各项都可以单独跑：需要的前文会先补跑。"""

    def __init__(self, root: Path, document: Document, model: str, update: bool):
        self.root, self.document, self.model, self.update = (
            root,
            document,
            model,
            update,
        )
        self.name = Path(document.path).relative_to(root).as_posix()
        self.fences = fences(document.text)
        check_order(root, self.fences)
        self.edits: dict[int, tuple[int, str]] = {}  # 起点 -> (终点, 新文字)
        self.groups: list[int] = []
        self.ports: dict[str, int] = {}  # 页面上写的端口 -> 真的端口
        self.environ: dict[str, str] | None = None

    def regions(self) -> Iterator[Region]:
        for fence in self.fences:
            yield Region(fence.start, fence.end, parsed=fence, evaluator=self.evaluate)
        for place in figures.INCLUDE.finditer(self.document.text):
            yield Region(*place.span(), parsed=place["name"], evaluator=self.draw)

    def draw(self, example) -> str | None:
        """插图就是此刻画出的；--update-outputs 时重画。"""
        if self.model != JIEZI or os.environ.get("DEVICE") != "cpu":
            pytest.skip("插图照芥子在 CPU 上的结果画")
        return figures.check(self.root, self.name, example.parsed, self.update)

    def evaluate(self, example) -> str | None:
        """Sybil 对每个围栏调用一次；返回失败的说明。"""
        fence = example.parsed
        problem = getattr(self, f"check_{fence.role}")(fence)
        return problem and f"{self.where(fence)}\n{problem}"

    def where(self, fence: Fence) -> str:
        source = fence.code or fence
        script = (
            f" · examples/{source.path} · 节 {source.section}" if source.section else ""
        )
        return f"{self.name}:{fence.line}{script}"

    def check_wrong(self, fence: Fence) -> str:
        return fence.problem

    def check_shown(self, fence: Fence) -> str | None:
        try:
            find(self.root, fence.path)
        except SnippetError as error:
            return str(error)

    def check_code(self, fence: Fence) -> str | None:
        result = self.run(fence)
        if result.skipped:
            pytest.skip(result.skipped)
        if result.failure:
            return result.failure
        if fence.title == SERVICE and not fence.outputs:
            return None  # 服务打印什么，页面可以不写
        if result.err:
            return f"代码发出了警告，或往标准错误写了东西：\n{result.err}"
        wanted = any(output.for_model in (None, self.model) for output in fence.outputs)
        if (
            tidy(result.out)
            and not wanted
            and (self.model == JIEZI or not fence.outputs)
        ):
            if self.update and self.model == JIEZI and not fence.outputs:
                return self.write(fence)
            return f'缺少输出：代码打印了东西，后面却没有 text title="{OUTPUT}"。打印的是：\n{tidy(result.out)}'

    def check_output(self, fence: Fence) -> str | None:
        if fence.for_model not in (None, self.model):
            pytest.skip(f"这一栏属于 {fence.for_model}，这次跑的是 {self.model}")
        if fence.title == CPU and os.environ.get("DEVICE") != "cpu":
            pytest.skip("这一栏是 CPU 上抽样的结果，别的设备的随机数不同")
        result = self.run(fence.code)
        if result.failure:
            pytest.skip(f"前面的代码没有跑通：{self.name}:{fence.code.line}")
        if result.skipped:
            pytest.skip(result.skipped)
        if not tidy(result.out):
            return "代码什么也没打印，这块输出是多余的"
        view = shape if fence.title == VARIES else tidy
        if tidy(fence.body) and agrees(view(fence.body), view(result.out)):
            return None
        if self.update:
            return self.write(fence)
        return f"输出不一致。\n页面上写的：\n{tidy(fence.body)}\n实际得到的：\n{tidy(result.out)}"

    def run(self, target: Fence) -> execute.Result:
        """target 的结果；命令要照次序执行，前面还没执行的先补上。"""
        if self.environ is None:
            self.environ = dict(os.environ)
        for fence in self.fences[: self.fences.index(target) + 1]:
            if fence.role == "code" and fence.result is None:
                if fence is target or not fence.path.endswith(".py"):
                    fence.result = self.execute(fence)
            if fence.result and fence.result.failure and fence is not target:
                pytest.skip(f"前面的代码没有跑通：{self.name}:{fence.line}")
        return target.result

    def execute(self, fence: Fence) -> execute.Result:
        if fence.problem:
            return execute.Result(failure=fence.problem)
        try:
            source = extract(self.root, fence.path, fence.section)
        except SnippetError as error:
            return execute.Result(failure=str(error))
        if fence.path.endswith(".py"):
            return session.run(self.root, fence.path).section(fence.section)
        if fence.title.startswith(NEEDS):
            return execute.unrun_bash(source, fence.title)
        if fence.title == SERVICE:
            result = services.run(source, self.ports)
            if "8000" in self.ports:
                os.environ["BASE_URL"] = f"http://127.0.0.1:{self.ports['8000']}/v1"
        else:
            if self.ports:
                source = services.for_model(services.with_ports(source, self.ports))
            run = execute.run_bash if fence.path.endswith(".sh") else execute.run_pwsh
            result = run(source, self.groups)
        result.out = services.without_ports(result.out, self.ports)
        return result

    def write(self, fence: Fence) -> str | None:
        """记下一处改写：output 换掉内容，code 后面添一块输出。"""
        out = tidy((fence.code or fence).result.out)
        if "```" in out or "~~~" in out:
            return "输出里有围栏符号，--update-outputs 写不进页面"
        body = "".join(
            (fence.prefix + line if line else "") + "\n" for line in out.split("\n")
        )
        text = self.document.text
        if fence.role == "output":
            start, end = (
                text.index("\n", fence.start) + 1,
                text.rindex("\n", fence.start, fence.end) + 1,
            )
            self.edits[start] = end, body
        else:
            self.edits[fence.end] = (
                fence.end,
                f'\n\n{fence.prefix}```text title="{OUTPUT}"\n{body}{fence.prefix}```',
            )

    def close(self) -> bool:
        """收走后台进程，还原环境变量，写回改动；返回是否改了文件。"""
        for group in self.groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGTERM)
        if self.environ is not None:
            os.environ.clear()
            os.environ.update(self.environ)
        text, path = self.document.text, Path(self.document.path)
        for start, (end, new) in sorted(self.edits.items(), reverse=True):
            text = text[:start] + new + text[end:]
        if text == self.document.text:
            return False
        draft = path.with_name(path.name + ".tmp")
        draft.write_text(text, "utf-8")
        draft.replace(path)
        return True

"""一页就是一次会话：围栏从上到下执行，输出逐块比较。"""

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sybil import Document, Region

from . import execute, figures, services, session
from .compare import agrees, shape, tidy
from .snippets import INCLUDE, SnippetError, extract, find, sections

JIEZI = "芥子"
MODELS = ("Qwen2-0.5B-Instruct", "Qwen2-7B-Instruct")  # 标题里可以出现的别的模型
OUTPUT, CPU, ANY, VARIES = "输出", "输出 · CPU", "输出 · 任何模型", "输出 · 每次不同"
TITLES = {OUTPUT: JIEZI, CPU: JIEZI, ANY: None, VARIES: None} | {
    f"{OUTPUT} · {model}": model for model in MODELS
}
SUFFIXES = {"python": ".py", "bash": ".sh", "powershell": ".ps1"}
SERVICE = "另一个终端"  # 一直开着的命令；它的标题
NEEDS = "需要"  # 标题以它开头的命令，这里没有它要的东西，不跑
SHOWN = {*SUFFIXES, "text", "json", "markdown"}  # 整个文件只展示、不执行时可用的语言
INFO = re.compile(r'(?P<language>\w+)(?: title="(?P<title>[^"]*)")?')
MARK = re.compile(
    r"(?P<prefix>[\s>]*(?:(?:[-*+]|\d+[.)])\s+)*)(?P<mark>`{3,}|~{3,})(?P<info>.*)"
)


def model_name() -> str:
    """正在跑的模型，从 MODEL 的文件夹名认出；认不出就是文件夹名本身。"""
    name = Path(os.environ.get("MODEL", "examples/jiezi")).resolve().name
    plain = name.replace("___", ".")  # ModelScope 把点存成 ___
    known = [model for model in MODELS if model in plain]
    return JIEZI if name == "jiezi" else known[0] if known else name


@dataclass(eq=False)
class Fence:
    """页面上的一个围栏。"""

    start: int
    line: int
    prefix: str
    mark: str
    info: str
    body: str = ""
    end: int = 0
    role: str = "code"  # code 执行；output 比较；shown 整个文件，只展示；wrong 写错了
    problem: str = ""  # 错在哪里；写错了的代码仍是 code，后面的会话跟着停下
    title: str = ""
    path: str = ""
    section: str = ""
    code: "Fence | None" = None  # output 属于哪个 code
    outputs: list["Fence"] = field(default_factory=list)
    result: execute.Result | None = None

    @property
    def for_model(self) -> str | None:
        return TITLES[self.title]


def fences(text: str) -> list[Fence]:
    """页面上的全部围栏，按先后排列。"""
    found, open_, place = [], None, 0
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        mark = MARK.match(line.rstrip("\n"))
        if open_ is None and mark:
            prefix, info = mark["prefix"], mark["info"].strip()
            open_ = Fence(place, number, prefix, mark["mark"], info)
        elif mark and mark["mark"].startswith(open_.mark) and not mark["info"].strip():
            open_.end = place + len(line.rstrip("\n"))
            found.append(open_)
            open_ = None
        elif open_:
            open_.body += line.removeprefix(open_.prefix)
        place += len(line)
    if open_:
        raise pytest.Collector.CollectError(f"第 {open_.line} 行的围栏没有收尾")
    last = None
    for fence in found:
        classify(fence, last)
        last = fence if fence.role == "code" else last
    return found


def classify(fence: Fence, last: Fence | None) -> None:
    """认出围栏的角色；last 是它前面最近的 code。"""
    info = INFO.fullmatch(fence.info)
    language, title = (info["language"], info["title"] or "") if info else ("", "")
    include = INCLUDE.fullmatch(fence.body.strip())
    path, section = (include["path"], include["section"] or "") if include else ("", "")
    fence.title, fence.path, fence.section = title, path, section
    output = language == "text" and title in TITLES
    aside = language == "bash" and (title == SERVICE or title.startswith(NEEDS))
    whole = bool(title) and not aside and not output
    hint = (
        f"text 的标题只能是：{'、'.join(TITLES)}"
        if language == "text"
        else '要写 --8<-- "章/文件:节"'
    )
    problems = {
        "围栏前面只能有空格": fence.prefix.strip(),
        f"不认识的围栏：{fence.info or '（空）'}；能用的是 python、bash，和 "
        'text title="输出"': language not in SHOWN,
        "这块输出前面没有代码": output and last is None,
        f"代码和文件不能直接写在页面上，{hint}": not (output or include),
        f'展示整个文件时不写节名，标题写成 title="examples/{path}"': whole
        and (section or title != f"examples/{path}"),
        f'要执行就写节名；要展示整个文件就加 title="examples/{path}"': not (
            output or whole or section
        ),
        f"{language} 围栏里引用了 {path}": not (output or whole)
        and Path(path).suffix != SUFFIXES.get(language),
    }
    fence.problem = next((words for words, wrong in problems.items() if wrong), "")
    fence.role = "output" if output else "shown" if whole else "code"
    if fence.problem:
        fence.role = "code" if language in SUFFIXES else "wrong"
    elif output:
        fence.code = last
        last.outputs.append(fence)


def check_order(root: Path, found: list[Fence]) -> None:
    """页面上的节要照脚本里的先后：读者从上往下读，脚本从上往下跑。"""
    reached: dict[str, tuple[int, str]] = {}
    for fence in found:
        if fence.role == "code" and fence.path.endswith(".py"):
            with contextlib.suppress(SnippetError, KeyError):
                start = sections(find(root, fence.path))[fence.section][0]
                before, name = reached.get(fence.path, (0, ""))
                reached[fence.path] = start, fence.section
                if start < before:
                    fence.problem = f"节 {fence.section} 在脚本里排在节 {name} 前面：页面与脚本的次序要一致"


class Page:
    """一页的会话。各项都可以单独跑：需要的前文会先补跑。"""

    def __init__(self, root: Path, document: Document, model: str, update: bool):
        self.root, self.document = root, document
        self.model, self.update = model, update
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
        source = fence.code or fence
        script = f" · examples/{source.path} · 节 {source.section}" * bool(
            source.section
        )
        return problem and f"{self.name}:{fence.line}{script}\n{problem}"

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
        if result.failure or (fence.title == SERVICE and not fence.outputs):
            return result.failure  # 服务打印什么，页面可以不写
        if result.err:
            return f"代码发出了警告，或往标准错误写了东西：\n{result.err}"
        wanted = any(output.for_model in (None, self.model) for output in fence.outputs)
        ours = self.model == JIEZI
        if tidy(result.out) and not wanted and (ours or not fence.outputs):
            if self.update and ours and not fence.outputs:
                return self.write(fence)
            return f'缺少输出：代码打印了东西，后面却没有 text title="{OUTPUT}"。打印的是：\n{tidy(result.out)}'

    def check_output(self, fence: Fence) -> str | None:
        if fence.for_model not in (None, self.model):
            pytest.skip(f"这一栏属于 {fence.for_model}，这次跑的是 {self.model}")
        if fence.title == CPU and os.environ.get("DEVICE") != "cpu":
            pytest.skip("这一栏是 CPU 上采样的结果，别的设备的随机数不同")
        result = self.run(fence.code)
        if result.failure or result.skipped:
            pytest.skip(
                result.skipped or f"代码没有跑通：{self.name}:{fence.code.line}"
            )
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
            due = fence is target or not fence.path.endswith(".py")
            if fence.role == "code" and fence.result is None and due:
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
        out, prefix = tidy((fence.code or fence).result.out), fence.prefix
        if "```" in out or "~~~" in out:
            return "输出里有围栏符号，--update-outputs 写不进页面"
        body = "".join((prefix + row if row else "") + "\n" for row in out.split("\n"))
        if fence.role == "output":
            text = self.document.text
            start = text.index("\n", fence.start) + 1
            self.edits[start] = text.rindex("\n", start - 1, fence.end) + 1, body
        else:
            new = f'\n\n{prefix}```text title="{OUTPUT}"\n{body}{prefix}```'
            self.edits[fence.end] = fence.end, new

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

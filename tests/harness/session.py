"""一个脚本在一个测试进程里只跑一次：页面的围栏、docstring、各处的测试，用的都是这一次。"""

import ast
import atexit
import functools
import os
import re
import shlex
import shutil
import sys
import tempfile
import types
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from unittest import mock

from . import execute, services
from .execute import Result
from .snippets import SnippetError, sections

ROOT = Path(__file__).resolve().parents[2]
CLEAN = dict(os.environ)  # 跑脚本时的环境变量：不受正在跑的测试影响；plugin 会补上几个
OUTSIDE = ""  # 不属于任何一节的语句


@dataclass
class Session:
    """一个脚本跑过之后：它的名字，和每一段打印的。"""

    namespace: dict
    results: list[tuple[str, Result]] = field(default_factory=list)  # [(节名, 结果)]
    failure: str = ""  # 停在哪里；跑到底就是空的

    def section(self, name: str) -> Result:
        """一节的结果。停在前面的一节，便是跳过；别的几行有毛病，谁问就告诉谁。"""
        bad = [section for section, result in self.results if result.failure]
        if self.failure and (not bad or bad == [OUTSIDE]):
            return Result(failure=self.failure)
        found = [result for section, result in self.results if section == name]
        if not found:
            stopped = f"前面的代码没有跑通：{self.failure}"
            return Result(skipped=stopped if self.failure else "")
        return replace(found[-1], out="".join(result.out for result in found))


def page(name: str) -> dict:
    """脚本跑完之后的命名空间，例如 page("generate/loop")["steps"]；没有跑通就抛 AssertionError。"""
    session = run(ROOT, f"{name}.py")
    assert not session.failure, session.failure
    return session.namespace


def usage(tree: ast.Module) -> list[str]:
    """docstring 里的第一条命令：读者照它运行，这里也照它运行。"""
    lines = (ast.get_docstring(tree) or "").splitlines()
    commands = [line for line in lines if re.match(r" {4}\w.* examples/", line)]
    return shlex.split(commands[0], comments=True) if commands else ["python", ""]


def pieces(script: Path, tree: ast.Module) -> list[tuple[str, ast.Module]]:
    """把脚本按节切开：[(节名, 语句)]，照文件的次序；不属于任何一节的，节名是空串。

    Raises:
        SnippetError: 节的标记写错了，或一个语句一半在节里。
    """
    found, problems = sections(script), []

    def section(statement):
        marks = getattr(statement, "decorator_list", [])
        first = min([statement.lineno, *(mark.lineno for mark in marks)])
        last = statement.end_lineno
        for name, (start, end) in found.items():
            if start < first and last < end:
                return name
            if first < start < last < end or start < first < end < last:
                problems.append(f"{script}:{start}: 节 {name} 要包住整个语句")
        return OUTSIDE

    def statements(body):
        """顶层的 if 里面有节时，把它拆成一句一句的 if。"""
        for statement in body:
            inside = any(
                statement.lineno < start < statement.end_lineno
                for start, _ in found.values()
            )
            if not (isinstance(statement, ast.If) and inside):
                yield statement
                continue
            no = ast.UnaryOp(ast.Not(), statement.test)
            for test, body in (
                (statement.test, statement.body),
                (no, statement.orelse),
            ):
                for each in statements(body):
                    guarded = ast.copy_location(ast.If(test, [each], []), each)
                    yield ast.fix_missing_locations(guarded)

    groups = groupby(list(statements(tree.body)), section)
    cut = [(name, ast.Module(list(body), [])) for name, body in groups]
    if problems:
        raise SnippetError("\n".join(dict.fromkeys(problems)))
    return cut


def run(root: Path, name: str) -> Session:
    """examples/ 下的一个脚本从头到尾跑一遍的结果；同一个脚本只跑一次。"""
    script = root / "examples" / name
    return run_alone(root, script, script.read_text("utf-8"))


@functools.cache
def run_alone(root: Path, script: Path, text: str) -> Session:
    """把脚本单独拷进一个空文件夹，从头到尾跑一遍，收下每一节打印的。"""
    base = Path(tempfile.mkdtemp(prefix="拷出 来的"))
    atexit.register(shutil.rmtree, base, ignore_errors=True)
    (base / "脚本").mkdir()
    copy = Path(shutil.copy(script, base / "脚本"))
    env, link = dict(CLEAN), base / "模型 一份"  # 中文和空格，读者的路径里什么都有
    link.symlink_to((root / env.pop("MODEL", "examples/jiezi")).resolve())
    port = None
    if '"BASE_URL"' in text:  # 问服务的脚本：MODEL 是服务起的名字，不写就是页面上的
        port = services.jiezi().port
        env["BASE_URL"] = f"http://127.0.0.1:{port}/v1"
    else:
        env["MODEL"] = str(link)
    try:
        command = usage(ast.parse(text))
    except SyntaxError as error:
        return Session({}, failure=f"SyntaxError: {error}")
    played = play(copy, command[2:], env, copy.parent, command[0] == "python")
    for section, result in played.results:
        result.out = result.out.replace(str(link), "examples/jiezi")
        if port:
            result.out = services.without_ports(result.out, {"8000": port})
        if section == OUTSIDE and result.err and not played.failure:
            played.failure = f"页面上没有的几行发出了警告：\n{result.err}"
    if not played.failure and (left := sorted(set(copy.parent.iterdir()) - {copy})):
        played.failure = f"它在当前文件夹里写了东西：{left}"
    return played


def play(script: Path, args, env, cwd: Path, as_script: bool = True) -> Session:
    """在本进程里把脚本跑一遍，省去再导入一次 torch；as_script 为假时像导入那样，不是 __main__。"""
    module = types.ModuleType("__main__" if as_script else script.stem)
    module.__file__ = str(script)
    session = Session(module.__dict__)
    execute.fresh_start()
    main = sys.modules["__main__"]
    with (
        mock.patch.dict(os.environ, env, clear=True),
        mock.patch.object(sys, "argv", [str(script), *args]),
        mock.patch.object(sys, "path", [str(script.parent), *sys.path]),
        execute.inside(cwd),
    ):
        try:
            text = script.read_text("utf-8")
            parts = pieces(script, ast.parse(text, script))
        except (SyntaxError, SnippetError) as error:
            return replace(session, failure=f"{type(error).__name__}: {error}")
        sys.modules["__main__"] = module  # 在这里面导入的别的模块要留着
        try:
            for section, body in parts:
                code = compile(body, str(script), "exec")
                result = execute.run_python(code, module.__dict__)
                session.results.append((section, result))
                session.failure = result.failure
                if result.failure:
                    break
        finally:
            sys.modules["__main__"] = main
            if '"BASE_URL"' in text:
                execute.sweep()
    return session


def run_script(script: Path, *args: str, cwd: Path, env) -> tuple[int, str, str]:
    """像 python script 那样从头跑一遍，返回（退出码，标准输出，标准错误）。"""
    results = [result for _, result in play(script, args, env, cwd).results]
    errors = filter(None, (result.err for result in results))
    return results[-1].code, "".join(r.out for r in results), "\n".join(errors)

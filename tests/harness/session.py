"""一个脚本在一个测试进程里只跑一次：页面的围栏、docstring、各处的测试，用的都是这一次。"""

import ast
import atexit
import functools
import os
import shlex
import shutil
import sys
import tempfile
import types
from dataclasses import dataclass, field
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
    """一个脚本跑完之后：它的名字，和每一节打印的。"""

    namespace: dict
    results: dict[str, Result] = field(default_factory=dict)  # 节 -> 结果；没跑到的没有
    failure: str = ""  # 停在哪里；跑到底就是空的

    def section(self, name: str) -> Result:
        """一节的结果。停在前面的一节，便是跳过；停在节以外的地方，谁问就告诉谁。"""
        if name in self.results or not self.failure:
            return self.results.get(name, Result())
        if any(result.failure for result in self.results.values()):
            return Result(skipped=f"前面的代码没有跑通：{self.failure}")
        return Result(failure=self.failure)


def page(name: str) -> dict:
    """脚本跑完之后的命名空间，例如 page("generate/loop")["steps"]；没有跑通就抛 AssertionError。"""
    session = run(ROOT, f"{name}.py")
    assert not session.failure, session.failure
    return session.namespace


def usage(tree: ast.Module) -> list[str]:
    """docstring 里的第一条命令：读者照它运行，这里也照它运行。"""
    lines = (ast.get_docstring(tree) or "").splitlines()
    commands = [line for line in lines if " examples/" in line]
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
    """把脚本单独拷进一个空文件夹，跑一遍，收下每一节打印的。"""
    folder = Path(tempfile.mkdtemp(prefix="单独 一份"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    copy = Path(shutil.copy(script, folder))
    env = dict(CLEAN)
    model = (root / env.pop("MODEL", "examples/jiezi")).resolve()
    port = None
    if '"BASE_URL"' in text:  # 问服务的脚本：MODEL 是服务起的名字，不写就是页面上的
        port = services.jiezi().port
        env["BASE_URL"] = f"http://127.0.0.1:{port}/v1"
    else:
        env["MODEL"] = str(model)
    try:
        tree = ast.parse(text, script)
        parts = pieces(script, tree)
    except (SyntaxError, SnippetError) as error:
        return Session({}, failure=f"{type(error).__name__}: {error}")
    command = usage(tree)
    as_script = (
        command[0] == "python"
    )  # 别的命令（streamlit）另外起它，这里只像导入那样跑
    module = types.ModuleType("__main__" if as_script else script.stem)
    module.__file__ = str(copy)
    session = Session(module.__dict__)
    execute.fresh_start()
    with (
        mock.patch.dict(os.environ, env, clear=True),
        mock.patch.dict(sys.modules, {module.__name__: module}),
        mock.patch.object(sys, "argv", [str(copy), *command[2:]]),
        mock.patch.object(sys, "path", [str(folder), *sys.path]),
        execute.inside(folder),
    ):
        for section, body in parts:
            code = compile(body, str(copy), "exec")
            result = execute.run_python(code, module.__dict__)
            result.out = result.out.replace(str(model), "examples/jiezi")
            if port:
                result.out = services.without_ports(result.out, {"8000": port})
            if section != OUTSIDE:
                session.results[section] = result
            elif result.err and not result.failure:
                result.failure = f"页面上没有的几行发出了警告：\n{result.err}"
            if result.failure:
                session.failure = result.failure
                break
    return session

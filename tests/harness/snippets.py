"""从 examples/ 里取出一节代码，语义与 pymdownx.snippets 相同。"""

import re
import textwrap
from pathlib import Path

INCLUDE = re.compile(r'--8<-- "(?P<path>[^":]+)(?::(?P<section>[^":]+))?"')
MARK = re.compile(r"\s*# --8<-- \[(?P<type>start|end):(?P<name>[a-z][a-z0-9_-]*)\]")


class SnippetError(Exception):
    """页面引用的文件或节取不出来；消息就是给作者看的话。"""


def sections(script: Path) -> tuple[dict[str, tuple[int, int]], list[str]]:
    """列出脚本里的节。

    Args:
        script: 脚本路径。

    Returns:
        (节名 -> (start 标记的行号, end 标记的行号), 标记写错的地方)；行号从 1 起。
    """
    opened, found, problems = {}, {}, []
    for number, line in enumerate(script.read_text("utf-8").split("\n"), 1):
        if "--8<--" not in line:
            continue
        mark = MARK.fullmatch(line.rstrip())
        if mark is None:
            problems.append(
                f"{script}:{number}: 节标记写错了（节名用小写 ASCII 字母、数字、- 和 _）：{line.strip()}"
            )
        elif mark["type"] == "start":
            if mark["name"] in opened or mark["name"] in found:
                problems.append(f"{script}:{number}: 节 {mark['name']} 重复")
            opened[mark["name"]] = number
        elif mark["name"] not in opened:
            problems.append(f"{script}:{number}: 节 {mark['name']} 有 end 没有 start")
        else:
            found[mark["name"]] = (opened.pop(mark["name"]), number)
    problems += [
        f"{script}:{number}: 节 {name} 没有收尾（缺 end 标记）"
        for name, number in opened.items()
    ]
    return found, problems


def find(root: Path, path: str) -> Path:
    """examples/ 下的文件；没有就抛 SnippetError。"""
    script = root / "examples" / path
    if not script.is_file() or not script.resolve().is_relative_to(
        (root / "examples").resolve()
    ):
        raise SnippetError(f"没有文件 examples/{path}")
    return script


def extract(root: Path, path: str, name: str) -> str:
    """取出一节，去掉公共的缩进；取不出来就抛 SnippetError。"""
    script = find(root, path)
    found, problems = sections(script)
    if problems:
        raise SnippetError("\n".join(problems))
    if name not in found:
        raise SnippetError(
            f"examples/{path} 里没有节 {name}；有的是：{'、'.join(found) or '（无）'}"
        )
    start, end = found[name]
    lines = script.read_text("utf-8").split("\n")[start : end - 1]
    return textwrap.dedent("\n".join(lines)) + "\n"

"""从 examples/ 里取出一节代码，语义与 pymdownx.snippets 相同。"""

import re
import textwrap
from pathlib import Path

INCLUDE = re.compile(r'--8<-- "(?P<path>[^":]+)(?::(?P<section>[^":]+))?"')
MARK = re.compile(r"\s*# --8<-- \[(?P<type>start|end):(?P<name>[a-z][a-z0-9_-]*)\]\s*")


CHAPTERS = ("use", "local", "generate", "inside", "train")
SKIPPED = ("jiezi", "skeleton")  # examples/ 里不是示例的文件夹
SUFFIXES = (".py", ".sh", ".ps1")


class SnippetError(Exception):
    """页面引用的文件或节取不出来；消息就是给作者看的话。"""


def sections(script: Path) -> dict[str, tuple[int, int]]:
    """脚本里的节：节名 -> (start 标记的行号, end 标记的行号)，行号从 1 起；写错了抛 SnippetError。"""
    opened, found = {}, {}
    for number, line in enumerate(script.read_text("utf-8").split("\n"), 1):
        if "--8<--" not in line:
            continue
        where, mark = f"{script}:{number}", MARK.fullmatch(line)
        if not mark:
            raise SnippetError(
                f"{where}: 节标记写错了（节名用小写 ASCII 字母、数字、- 和 _）：{line.strip()}"
            )
        name = mark["name"]
        if mark["type"] == "start" and name not in opened | found:
            opened[name] = number
        elif mark["type"] == "end" and name in opened:
            found[name] = opened.pop(name), number
        else:
            raise SnippetError(f"{where}: 节 {name} 重复，或有 end 没有 start")
    if opened:
        raise SnippetError(f"{script}: 节 {'、'.join(opened)} 没有收尾（缺 end 标记）")
    return found


def find(root: Path, path: str) -> Path:
    """examples/ 下的文件；没有就抛 SnippetError。"""
    script = root / "examples" / path
    if script.is_file() and script.resolve().is_relative_to(root.resolve()):
        return script
    raise SnippetError(f"没有文件 examples/{path}")


def extract(root: Path, path: str, name: str) -> str:
    """取出一节，去掉公共的缩进；取不出来就抛 SnippetError。"""
    script = find(root, path)
    found = sections(script)
    if name not in found:
        known = "、".join(found) or "（无）"
        raise SnippetError(f"examples/{path} 里没有节 {name}；有的是：{known}")
    start, end = found[name]
    lines = script.read_text("utf-8").split("\n")[start : end - 1]
    return textwrap.dedent("\n".join(lines)) + "\n"


def scripts(root: Path) -> list[str]:
    """会写节标记的脚本，含练习。"""
    base = root / "examples"
    paths = [path.relative_to(base) for path in sorted(base.rglob("*"))]
    return [
        path.as_posix()
        for path in paths
        if path.suffix in SUFFIXES and path.parts[0] not in SKIPPED
    ]


def chapter_scripts(root: Path) -> list[str]:
    """各章的脚本，不含下一级文件夹（练习、测量），也不含训练芥子的几个工具：那些里面没有节。"""
    places = [(name, name.split("/")) for name in scripts(root)]
    found = [name for name, p in places if len(p) == 2 and p[0] in CHAPTERS]
    return [n for n in found if n[:6] != "train/" or sections(root / "examples" / n)]

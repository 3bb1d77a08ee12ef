"""不运行代码就能查，而构建站点与 Sybil 又不管的事。每个函数返回问题的列表，空的就是没有问题。"""

import ast
from collections import defaultdict
from pathlib import Path

import markdown

from .pages import fences, scan
from .snippets import sections

CHAPTERS = ("use", "local", "generate", "inside")
SKIPPED = ("jiezi", "train")  # examples/ 里不是示例的文件夹
SUFFIXES = {".py", ".sh", ".ps1"}
EXTENSIONS = [
    "admonition",
    "attr_list",
    "def_list",
    "footnotes",
    "md_in_html",
    "tables",
    "pymdownx.details",
    "pymdownx.superfences",
    "pymdownx.tabbed",
]


def pages(root: Path) -> dict[str, str]:
    """docs/ 下的全部页面：相对路径 -> 内容。"""
    docs = root / "docs"
    return {
        page.relative_to(docs).as_posix(): page.read_text("utf-8")
        for page in sorted(docs.rglob("*.md"))
    }


def scripts(root: Path) -> list[str]:
    """会写节标记的脚本，含练习，不含 examples/jiezi、examples/train。"""
    base = root / "examples"
    paths = [
        path.relative_to(base)
        for path in sorted(base.rglob("*"))
        if path.suffix in SUFFIXES
    ]
    return [path.as_posix() for path in paths if path.parts[0] not in SKIPPED]


def chapter_scripts(root: Path) -> list[str]:
    """四章里的脚本，不含下一级文件夹（练习）。"""
    return [
        name
        for name in scripts(root)
        if name.count("/") == 1 and name.split("/")[0] in CHAPTERS
    ]


def includes(text: str) -> set[tuple[str, str]]:
    """页面的围栏引用的 (文件, 节)；整个文件的节是空串。"""
    return {(fence.path, fence.section) for fence in fences(text) if fence.path}


def check_sections_used(root: Path) -> list[str]:
    """每一节都有页面用到。"""
    used = set().union(*map(includes, pages(root).values()))
    found = [
        (name, section)
        for name in scripts(root)
        for section in sections(root / "examples" / name)[0]
    ]
    return [
        f"examples/{name}: 没有页面用到节 {section}"
        for name, section in found
        if (name, section) not in used
    ]


def check_scripts_mentioned(root: Path) -> list[str]:
    """四章里的每个脚本都有页面提到。"""
    text = "\n".join(pages(root).values())
    return [
        f"examples/{name}: 没有页面提到它"
        for name in chapter_scripts(root)
        if name not in text
    ]


def check_signatures(root: Path) -> list[str]:
    """一章之内，一个名字只有一种参数：读者在哪一页学会，到别的页还是那样用。"""
    problems, known = [], defaultdict(dict)
    for name in chapter_scripts(root):
        if name.endswith(".py"):
            tree = ast.parse((root / "examples" / name).read_text("utf-8"))
            for node in tree.body:
                if isinstance(node, ast.FunctionDef):
                    arguments = ast.unparse(node.args)
                    found = known[name.split("/")[0], node.name]
                    found.setdefault(arguments, name)
                    if len(found) > 1 and found[arguments] == name:
                        problems.append(
                            f"examples/{name}: {node.name}({arguments}) 与别处的不同：{found}"
                        )
    return problems


def check_mirror(root: Path) -> list[str]:
    """执行代码的页面用的是与它同名的脚本；练习页除外。"""
    problems = []
    for page, text in pages(root).items():
        name = page.removesuffix(".md")
        used = {path for path, section in includes(text) if section}
        same = {f"{name}{suffix}" for suffix in SUFFIXES}
        exempt = name.split("/")[0] not in CHAPTERS or name.endswith(
            ("/exercises", "/index")
        )
        if used and not used & same and not exempt:
            problems.append(
                f"docs/{page}: 没有用同名的 examples/{name}.py，用的是 {'、'.join(sorted(used))}"
            )
    return problems


def check_no_typed_code(root: Path) -> list[str]:
    """渲染出来的代码块都来自围栏：没有靠缩进或 <pre> 直接写在页面上的代码。"""
    problems = []
    for page, text in pages(root).items():
        configs = {"pymdownx.tabbed": {"alternate_style": True}}
        html = markdown.markdown(text, extensions=EXTENSIONS, extension_configs=configs)
        rendered, found = html.count("<pre"), len(scan(text))
        if rendered != found:
            problems.append(
                f"docs/{page}: 渲染出 {rendered} 个代码块，围栏有 {found} 个；代码只能写在围栏里"
            )
    return problems


CHECKS = [
    check_sections_used,
    check_scripts_mentioned,
    check_mirror,
    check_signatures,
    check_no_typed_code,
]

"""不运行代码就能查的事：引用、节、导航、页面与脚本的对应。每个函数返回问题的列表，空的就是没有问题。"""

import re
from pathlib import Path

import markdown
import yaml

from .pages import fences, scan
from .snippets import SnippetError, extract, find, sections

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


class Loader(yaml.SafeLoader):
    """读 mkdocs.yml；其中的 !!python/name: 之类不去解析。"""


Loader.add_multi_constructor(
    "tag:yaml.org,2002:python/", lambda loader, suffix, node: None
)
Loader.add_multi_constructor("!", lambda loader, suffix, node: None)


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


def check_includes(root: Path) -> list[str]:
    """页面引用的文件和节都在。"""
    problems = []
    for page, text in pages(root).items():
        for path, section in sorted(includes(text)):
            try:
                extract(root, path, section) if section else find(root, path)
            except SnippetError as error:
                problems.append(f"docs/{page}: {error}")
    return problems


def check_sections(root: Path) -> list[str]:
    """节的标记写对了，成对，不重名。"""
    return [
        problem
        for name in scripts(root)
        for problem in sections(root / "examples" / name)[1]
    ]


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


def check_nav(root: Path) -> list[str]:
    """导航和页面一一对应。"""
    config = root / "mkdocs.yml"
    if not config.is_file():
        return ["没有 mkdocs.yml"] if pages(root) else []
    listed = set(flatten(yaml.load(config.read_text("utf-8"), Loader).get("nav") or []))
    local = {entry for entry in listed if not re.match(r"\w+://", entry)}
    missing = [
        e
        for e in local
        if not (root / "docs" / e).is_file() and not (root / "examples" / e).is_file()
    ]
    return [f"mkdocs.yml: 导航里的 {entry} 不存在" for entry in sorted(missing)] + [
        f"docs/{page}: 不在 mkdocs.yml 的导航里"
        for page in pages(root)
        if page not in listed
    ]


def flatten(nav) -> list[str]:
    """导航树里的全部条目。"""
    if isinstance(nav, str):
        return [nav]
    return [
        entry
        for part in (nav.values() if isinstance(nav, dict) else nav)
        for entry in flatten(part)
    ]


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


def check_fences(root: Path) -> list[str]:
    """每个围栏都写对了。"""
    return [
        f"docs/{page}:{fence.line}: {fence.problem}"
        for page, text in pages(root).items()
        for fence in fences(text)
        if fence.problem
    ]


CHECKS = [
    check_includes,
    check_sections,
    check_sections_used,
    check_scripts_mentioned,
    check_nav,
    check_mirror,
    check_no_typed_code,
    check_fences,
]

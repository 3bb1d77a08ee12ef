"""不运行代码就能查，而构建站点与 Sybil 又不管的事。每个函数返回问题的列表，空的就是没有问题。"""

import ast
from collections import defaultdict
from pathlib import Path

import markdown
import pytest

from tests.harness.pages import fences
from tests.harness.snippets import (
    CHAPTERS,
    SUFFIXES,
    chapter_scripts,
    scripts,
    sections,
)

EXTENSIONS = """admonition attr_list def_list footnotes md_in_html tables pymdownx.details
pymdownx.superfences pymdownx.tabbed""".split()


def pages(root: Path) -> dict[str, str]:
    """docs/ 下的全部页面：相对路径 -> 内容。"""
    docs = root / "docs"
    found = sorted(docs.rglob("*.md"))
    return {
        page.relative_to(docs).as_posix(): page.read_text("utf-8") for page in found
    }


def includes(text: str) -> set[tuple[str, str]]:
    """页面的围栏引用的 (文件, 节)；整个文件的节是空串。"""
    return {(fence.path, fence.section) for fence in fences(text) if fence.path}


def check_sections_used(root: Path) -> list[str]:
    """每一节都有页面用到。"""
    used = set().union(*map(includes, pages(root).values()))
    return [
        f"examples/{name}: 没有页面用到节 {section}"
        for name in scripts(root)
        for section in sections(root / "examples" / name)
        if (name, section) not in used
    ]


def check_mirror(root: Path) -> list[str]:
    """每个脚本都有页面提到；执行代码的页面用的是与它同名的脚本，练习页除外。"""
    texts = pages(root)
    problems = [
        f"examples/{name}: 没有页面提到它"
        for name in chapter_scripts(root)
        if not any(name in text for text in texts.values())
    ]
    for page, text in texts.items():
        name = page.removesuffix(".md")
        used = {path for path, section in includes(text) if section}
        exempt = name.endswith(("/exercises", "/index"))
        if name.split("/")[0] in CHAPTERS and not exempt and used:
            if not used & {f"{name}{suffix}" for suffix in SUFFIXES}:
                problems.append(
                    f"docs/{page}: 没有用同名的 examples/{name}.py，用的是 {'、'.join(sorted(used))}"
                )
    return problems


def check_signatures(root: Path) -> list[str]:
    """一章之内，一个名字只有一种参数：读者在哪一页学会，到别的页还是那样用。"""
    known = defaultdict(dict)
    for name in chapter_scripts(root):
        source = (root / "examples" / name).read_text("utf-8")
        for node in ast.parse(source).body if name.endswith(".py") else ():
            if isinstance(node, ast.FunctionDef):
                function = f"{name.split('/')[0]}: {node.name}"
                known[function].setdefault(ast.unparse(node.args), name)
    return [
        f"{function} 有几种参数：{'；'.join(f'{n} 里是（{a}）' for a, n in found.items())}"
        for function, found in known.items()
        if len(found) > 1
    ]


def check_no_typed_code(root: Path) -> list[str]:
    """渲染出来的代码块都来自围栏：没有漏认的围栏，也没有靠缩进或 <pre> 写在页面上的代码。"""
    problems, tabs = [], {"pymdownx.tabbed": {"alternate_style": True}}
    for page, text in pages(root).items():
        html = markdown.markdown(text, extensions=EXTENSIONS, extension_configs=tabs)
        rendered, found = html.count("<pre"), len(fences(text))
        if rendered != found:
            problems.append(
                f"docs/{page}: 渲染出 {rendered} 个代码块，围栏有 {found} 个；代码只能写在围栏里"
            )
    return problems


CHECKS = [check_sections_used, check_mirror, check_signatures, check_no_typed_code]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_repository(check, pytestconfig):
    problems = check(pytestconfig.rootpath)
    assert not problems, "\n" + "\n".join(problems)

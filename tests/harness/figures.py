"""插图和输出一样，是跑出来的：页面引入的图，由 .mkdocs/figures/ 里与页面同名的模块画。"""

import functools
import importlib.util
import re
import sys
from pathlib import Path

from . import session

INCLUDE = re.compile(r'^ *--8<-- "(?P<name>[\w/-]+)\.svg"$', re.M)
BY_HAND = "drawn/"  # 不含数的图，手画，放在 docs/assets/figures/drawn/


def check(root: Path, page: str, name: str, update: bool) -> str | None:
    """页面上的一幅图是不是此刻画出的；update 时重画。

    Args:
        page: 页面，例如 docs/generate/loop.md。
        name: 图的文件名，不带后缀；模块里画它的函数同名，- 写成 _。

    Returns:
        哪里不对；一致就是 None。
    """
    file = root / "docs/assets/figures" / f"{name}.svg"
    if name.startswith(BY_HAND) or "/" in name:  # 训练时画的，在 examples/ 里
        return None if file.exists() or name.startswith("jiezi/") else f"没有 {file}"
    topic = Path(page).relative_to("docs").with_suffix("").as_posix()
    draw = getattr(module(root, topic), name.replace("-", "_"), None)
    if draw is None:
        return f".mkdocs/figures/{topic}.py 里没有画 {name}.svg 的函数"
    svg = draw(session.page(topic)) + "\n"
    if file.exists() and file.read_text("utf-8") == svg:
        return None
    if update:
        file.write_text(svg, "utf-8")
        return None
    return f"{name}.svg 不是此刻画出的：用 pytest docs --update-outputs 重画，再看 git diff"


@functools.cache
def module(root: Path, topic: str):
    """.mkdocs/figures/<章>/<页>.py；没有就是 None。"""
    path = root / f".mkdocs/figures/{topic}.py"
    if not path.is_file():
        return None
    if str(root / ".mkdocs/figures") not in sys.path:
        sys.path.append(str(root / ".mkdocs/figures"))  # 画图的小工具 kit.py 在这里
    spec = importlib.util.spec_from_file_location(f"figures.{topic}", path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found

"""插图和输出一样，是跑出来的：页面引入的图，由 .mkdocs/figures/<章>/ 里与图同名的模块画。"""

import functools
import importlib.util
import re
import sys
from pathlib import Path

from . import session

INCLUDE = re.compile(r'^ *--8<-- "(?P<name>[\w/-]+)\.svg"$', re.M)


def check(root: Path, page: str, name: str, update: bool) -> str | None:
    """页面上的一幅图是不是此刻画出的；update 时重画。

    Args:
        page: 页面，例如 docs/generate/loop.md。
        name: 图的文件名，不带后缀；画它的模块同名，- 写成 _。

    Returns:
        哪里不对；一致就是 None。
    """
    if "/" in name:  # 手画的在 drawn/，训练时画的在 examples/ 里；引入时由构建站点来查
        return None
    topic = Path(page).relative_to("docs").with_suffix("")
    script = root / f".mkdocs/figures/{topic.parent}/{name.replace('-', '_')}.py"
    if not script.is_file():
        return f"没有画 {name}.svg 的 {script.relative_to(root)}"
    file = root / "docs/assets/figures" / f"{name}.svg"
    played = session.run(root, f"{topic}.py")
    if played.failure:
        return f"页面的脚本没有跑通：{played.failure}"
    svg = module(script).draw(played.namespace)
    if file.exists() and file.read_text("utf-8") == svg:
        return None
    if update:
        file.write_text(svg, "utf-8")
        return None
    return f"{name}.svg 不是此刻画出的：用 pytest docs --update-outputs 重画，再看 git diff"


@functools.cache
def module(script: Path):
    """一幅图的模块；画图的小工具 kit.py 在上一层。"""
    if (folder := str(script.parents[1])) not in sys.path:
        sys.path.append(folder)
    spec = importlib.util.spec_from_file_location(f"figure_{script.stem}", script)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found

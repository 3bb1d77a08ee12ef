"""运行 examples/generate/measured/ 里的脚本；它导入的页面脚本，就用已经跑过的那一次。"""

import contextlib
import io
import runpy
import sys
import types
from unittest import mock

from tests.harness.session import ROOT, page

MEASURED = ROOT / "examples/generate/measured"
MEASURES = {"kv_time": "kv_cache", "ladder": "faster"}  # 工具 -> 它量的脚本


@contextlib.contextmanager
def measuring(tool, **changed):
    """tool 要导入的页面脚本已经在了，changed 里的名字换掉。"""
    module = types.ModuleType(MEASURES[tool])
    vars(module).update(page(f"generate/{MEASURES[tool]}") | changed)
    sys.modules[MEASURES[tool]] = module
    try:
        with mock.patch.object(sys, "path", list(sys.path)):
            yield str(MEASURED / f"{tool}.py")
    finally:
        del sys.modules[MEASURES[tool]]
        sys.modules.pop("record", None)  # 别的章可以有同名的


def run_tool(tool, *args, **changed):
    """像命令行那样运行，返回（退出码，标准输出，标准错误）。"""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        measuring(tool, **changed) as script,
        mock.patch.object(sys, "argv", [script, *args]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as stopped:
            code = stopped.code or 0
    return code, out.getvalue(), err.getvalue().strip()


def import_tool(tool):
    """像导入那样执行，返回它的命名空间。"""
    with measuring(tool) as script:
        return runpy.run_path(script, run_name=tool)

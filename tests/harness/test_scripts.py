"""每个示例脚本都跑得完：单独一份，在一个空文件夹里。页面、docstring 与别的测试用的也是这一次。"""

import pytest

from tests.harness.session import ROOT, run
from tests.harness.snippets import chapter_scripts

SCRIPTS = [name for name in chapter_scripts(ROOT) if name.endswith(".py")]


@pytest.mark.parametrize("name", SCRIPTS)
def test_runs_alone_to_the_end(name):
    assert not (failure := run(ROOT, name).failure), failure

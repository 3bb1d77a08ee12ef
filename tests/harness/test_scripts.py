"""每个示例脚本都跑得完：单独一份，在一个空文件夹里。页面、docstring 与别的测试用的也是这一次。"""

import pytest

from tests.harness import session
from tests.harness.plugin import topic
from tests.harness.session import ROOT
from tests.harness.structure import chapter_scripts

SCRIPTS = [n for n in chapter_scripts(ROOT) if n.endswith(".py")]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=pytest.mark.xdist_group(topic(ROOT, ROOT / "docs" / name))
        )
        for name in SCRIPTS
    ],
)
def test_runs_alone_to_the_end(name):
    assert not (failure := session.run(ROOT, name).failure), failure

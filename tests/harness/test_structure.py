"""这个仓库自己的结构没有问题。"""

import pytest

from tests.harness.structure import CHECKS


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_repository(check, pytestconfig):
    problems = check(pytestconfig.rootpath)
    assert not problems, "\n" + "\n".join(problems)

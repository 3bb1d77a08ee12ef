"""训练脚本是并排的几个文件，互相 import：像运行它们时那样，把那个文件夹放进搜索路径。"""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "examples/train"))


@pytest.fixture(scope="session")
def seen():
    """训练见过的全部问法（四百多万种，算一次）。"""
    import evaluate

    return evaluate.seen_wordings()

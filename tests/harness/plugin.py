"""pytest 插件：选项、档位，和两个 Sybil（页面、docstring）。"""

import os
import sys
from pathlib import Path
from unittest import mock

import pytest
from sybil import Document, Sybil
from sybil.document import PythonDocStringDocument
from sybil.example import NotEvaluated
from sybil.integration import pytest as sybil
from sybil.parsers.rest import DocTestParser

from .compare import Checker
from .pages import Page, model_name

SybilFile = sybil.SybilFile
COLLECT, WRITTEN = pytest.StashKey(), pytest.StashKey()
TIERS = {
    "default": "cpu",
    "gpu": "cuda",
    "canary": "cpu",
}  # 档位 -> DEVICE；canary 只是换了最新版本的库


class Docstrings(PythonDocStringDocument):
    """脚本里的 docstring：脚本像被导入那样执行一次（不走 __main__），doctest 用它的名字。"""

    def import_document(self, example) -> None:
        script = Path(self.path)
        self.namespace.update(__name__=script.stem, __file__=self.path)
        self.pop_evaluator(self.import_document)
        path = [str(script.parent), *sys.path]
        with (
            mock.patch.object(sys, "argv", [self.path]),
            mock.patch.object(sys, "path", path),
        ):
            exec(compile(self.text, self.path, "exec"), self.namespace)
        raise NotEvaluated


def pytest_addoption(parser):
    group = parser.getgroup("认识模型")
    group.addoption(
        "--update-outputs", action="store_true", help="用真实输出改写页面上的输出块"
    )
    group.addoption(
        "--tier",
        choices=TIERS,
        default="default",
        help="default：CPU；gpu：CUDA；canary：最新版本的库",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    if config.getoption("update_outputs"):  # 改写页面只用一个进程，改了哪些才报得出来
        config.option.numprocesses = 0


def pytest_configure(config):
    config.addinivalue_line("markers", "gpu: 需要 CUDA，只在 --tier gpu 跑")
    os.environ.update(
        DEVICE=TIERS[config.getoption("tier")],
        HF_HUB_OFFLINE="1",
        TRANSFORMERS_OFFLINE="1",
    )
    # 每个测试进程、每个服务一个线程：两个进程才不互相等
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    root, update = config.rootpath, config.getoption("update_outputs")

    def page(document: Document):
        return Page(root, document, model_name(), update).regions()

    doctests = DocTestParser()
    doctests.string_parser.evaluator.runner._checker = Checker()
    config.stash[WRITTEN] = []
    config.stash[COLLECT] = sybil.pytest_integration(
        Sybil([page], path=str(root / "docs"), pattern="*.md"),
        # 练习的起点本来就不该通过，由练习自己的测试来跑
        Sybil(
            [doctests],
            path=str(root / "examples"),
            pattern="*.py",
            exclude="exercises/*",
            document_types={".py": Docstrings},
        ),
    )


def pytest_report_header(config):
    return f"认识模型：{model_name()}，{config.getoption('tier')} 档，设备 {os.environ['DEVICE']}"


def pytest_collect_file(file_path, parent):
    return parent.config.stash[COLLECT](file_path, parent)


def pytest_collection_modifyitems(config, items):
    gpu_tier = config.getoption("tier") == "gpu"
    reason = no_cuda() if gpu_tier else "只在 gpu 档跑：pytest --tier gpu"
    for item in items:
        if reason and (
            item.get_closest_marker("gpu")
            or (gpu_tier and isinstance(item.parent, SybilFile))
        ):
            item.add_marker(pytest.mark.skip(reason=reason))


def no_cuda() -> str:
    """没有 CUDA 时的说明；有就是空串。"""
    import torch

    return "" if torch.cuda.is_available() else "这台机器没有可用的 CUDA 设备"


def pytest_runtest_setup(item):
    if isinstance(item.parent, SybilFile):  # 读者在仓库根目录下运行
        os.chdir(item.config.rootpath)


def pytest_runtest_teardown(item, nextitem):
    page = page_of(item)
    if page and page is not page_of(nextitem) and page.close():
        item.config.stash[WRITTEN].append(page.name)


def page_of(item) -> Page | None:
    """测试项所属的页面；不是页面就是 None。"""
    region = item and isinstance(item.parent, SybilFile) and item.example.region
    owner = getattr(region and region.evaluator, "__self__", None)
    return owner if isinstance(owner, Page) else None


def pytest_terminal_summary(terminalreporter, config):
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:  # 测试想让人看到的数
            terminalreporter.write_line(f"{name}：{value}")
    if config.stash[WRITTEN]:
        terminalreporter.section("改写了输出")
        terminalreporter.write_line("\n".join(config.stash[WRITTEN]))

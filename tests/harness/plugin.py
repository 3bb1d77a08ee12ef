"""pytest 插件：选项、档位、哪些测试在同一个进程里，和两个 Sybil（页面、docstring）。"""

import os
import re
import sys
from collections import Counter
from pathlib import Path
from unittest import mock

import pytest
from sybil import Document, Sybil
from sybil.document import PythonDocStringDocument
from sybil.example import NotEvaluated
from sybil.integration import pytest as sybil
from sybil.parsers.rest import DocTestParser
from xdist.scheduler import LoadScopeScheduling

from . import session
from .compare import Checker
from .pages import Page, model_name
from .snippets import CHAPTERS, chapter_scripts

SybilFile = sybil.SybilFile
COLLECT, WRITTEN, CLEAN = pytest.StashKey(), pytest.StashKey(), pytest.StashKey()
TIERS = {  # 档位 -> DEVICE
    "default": "cpu",
    "full": "cpu",  # 只跑标了 full 的：训练、负载、编译
    "gpu": "cuda",
    "canary": "cpu",  # 只是换了最新版本的库
}


TOGETHER = {  # 用了别的页面的测试，与那一页在一起
    "tests/generate/test_equality.py": "tests/generate/test_loop.py"
}


class Docstrings(PythonDocStringDocument):
    """脚本里的 docstring，用脚本那一次运行的名字；别的（训练芥子的工具），像导入那样执行一次。"""

    def import_document(self, example) -> None:
        script = Path(self.path)
        self.pop_evaluator(self.import_document)
        examples = next(p for p in script.parents if p.name == "examples")
        name = script.relative_to(examples).as_posix()
        if name in chapter_scripts(examples.parent):
            self.namespace.update(session.run(examples.parent, name).namespace)
            raise NotEvaluated
        self.namespace.update(__name__=script.stem, __file__=self.path)
        with mock.patch.object(sys, "path", [str(script.parent), *sys.path]):
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
        help="default：CPU；full：只跑慢的；gpu：CUDA；canary：最新版本的库",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    if config.getoption("update_outputs"):  # 改写页面只用一个进程，改了哪些才报得出来
        config.option.numprocesses = 0


def pytest_configure(config):
    config.addinivalue_line("markers", "gpu: 需要 CUDA，只在 --tier gpu 跑")
    config.addinivalue_line("markers", "full: 慢，只在 --tier full 跑")
    os.environ.update(
        DEVICE=TIERS[config.getoption("tier")],
        HF_HUB_OFFLINE="1",
        TRANSFORMERS_OFFLINE="1",
    )
    # 每个测试进程、每个服务一个线程：两个进程才不互相等
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    root, update = config.rootpath, config.getoption("update_outputs")
    config.stash[CLEAN] = session.CLEAN, session.ROOT
    session.CLEAN, session.ROOT = dict(os.environ), root

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


class Example(pytest.Module):
    """点了名的例子（pytest examples/local/load.py）：只有 Sybil 收的那些，不当作测试模块去导入。"""

    def collect(self):
        return []


def pytest_pycollect_makemodule(module_path, parent):
    if module_path.is_relative_to(parent.config.rootpath / "examples"):
        return Example.from_parent(parent, path=module_path)


def pytest_collection_modifyitems(config, items):
    tier = config.getoption("tier")
    slow = [item for item in items if item.get_closest_marker("full")]
    rest = [item for item in items if not item.get_closest_marker("full")]
    items[:], left = (slow, rest) if tier == "full" else (rest, slow)
    config.hook.pytest_deselected(items=left)
    reason = no_cuda() if tier == "gpu" else "只在 gpu 档跑：pytest --tier gpu"
    for item in items:
        if reason and (
            item.get_closest_marker("gpu")
            or (tier == "gpu" and isinstance(item.parent, SybilFile))
        ):
            item.add_marker(pytest.mark.skip(reason=reason))


def topic(nodeid: str) -> str:
    """页面、脚本、测试同名的是一个题目，在同一个进程里：脚本才只跑一次。第一章共用一个服务，是一个题目。

    >>> topic("docs/local/load.md::line:7,column:1"), topic("tests/use/test_chat.py::test_x")
    ('local/load', 'use')
    """
    path, _, rest = nodeid.partition("::")
    script = re.fullmatch(r"test_runs_alone\w*\[(.+)\.py\]", rest)
    place = Path(f"docs/{script[1]}.md" if script else TOGETHER.get(path, path))
    name = place.with_name(place.stem.removeprefix("test_")).parts[1:]
    if len(name) != 2 or name[0] not in CHAPTERS:
        return str(place)
    return "use" if name[0] == "use" else "/".join(name)


class Topics(LoadScopeScheduling):
    """一个题目一个进程。"""

    def _split_scope(self, nodeid: str) -> str:
        return topic(nodeid)


def pytest_xdist_make_scheduler(config, log):
    return Topics(config, log)


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


def pytest_unconfigure(config):
    session.CLEAN, session.ROOT = config.stash[CLEAN]


def pytest_terminal_summary(terminalreporter, config):
    seconds = Counter()
    for report in sum(terminalreporter.stats.values(), []):
        if hasattr(report, "duration"):
            seconds[report.nodeid.split("::")[0]] += report.duration
    if seconds.total() > 10:
        terminalreporter.section(f"各文件用的秒数，合计 {seconds.total():.0f}")
        for name, spent in seconds.most_common():
            if spent >= 1:
                terminalreporter.write_line(f"{spent:6.1f}  {name}")
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:  # 测试想让人看到的数
            terminalreporter.write_line(f"{name}：{value}")
    if left := len(terminalreporter.stats.get("deselected", [])):
        if config.getoption("tier") != "full":
            terminalreporter.write_line(f"{left} 项较慢，没有跑：pytest --tier full")
    if config.stash[WRITTEN]:
        terminalreporter.section("改写了输出")
        terminalreporter.write_line("\n".join(config.stash[WRITTEN]))

"""骨架自己的测试：该红的红，该绿的绿。每个测试在 tmp_path 里搭一个小站，在进程内跑 pytest。"""

import os
import shutil
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness import services
from tests.harness import test_structure as structure
from tests.harness.compare import agrees
from tests.harness.execute import without_progress
from tests.harness.pages import model_name
from tests.harness.plugin import topic
from tests.harness.session import run_script

pytest_plugins = ["pytester"]

SCRIPT = '''\
"""一个脚本。"""
# --8<-- [start:hello]
name = "芥子"
print(f"你好，{name}")
# --8<-- [end:hello]


# --8<-- [start:third]
def third(x):
    """x 的三分之一。

    >>> third(1.0)
    0.333
    """
    return x / 3


print(name, third(1.0), 7)
# --8<-- [end:third]
'''
HELLO = '```python\n--8<-- "local/load.py:hello"\n```\n'
THIRD = '```python\n--8<-- "local/load.py:third"\n```\n'
PAGE = f'{HELLO}\n```text title="输出"\n你好，芥子\n```\n\n{THIRD}\n```text title="输出"\n芥子 0.333 7\n```\n'


@pytest.fixture
def site(pytester, monkeypatch):
    """搭一个小站；返回的函数改它的文件、跑它，给出 (结果的计数, 打印的全部)。"""
    monkeypatch.setenv("DEVICE", "cpu")
    monkeypatch.setenv("PYTEST_ADDOPTS", "-n0")
    monkeypatch.delenv("MODEL", raising=False)
    shutil.copy(Path(__file__).parents[2] / "pyproject.toml", pytester.path)
    put(
        pytester.path,
        {
            "conftest.py": "from tests.harness.plugin import *  # noqa",
            "mkdocs.yml": "",
            "docs/local/load.md": PAGE,
            "examples/local/load.py": SCRIPT,
        },
    )

    def run(page=None, *args, **files):
        put(
            pytester.path,
            ({"docs/local/load.md": page} if page is not None else {})
            | files.get("files", {}),
        )
        result = pytester.runpytest_inprocess("docs", *args)
        return result.parseoutcomes(), result.stdout.str()

    run.root = pytester.path
    run.page = pytester.path / "docs/local/load.md"
    return run


def put(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, "utf-8")


def script(body):
    """把一段代码放进 local/load.py 的 hello 节。"""
    return {
        "examples/local/load.py": f"# --8<-- [start:hello]\n{body}\n# --8<-- [end:hello]\n"
    }


def bash(body, output=""):
    """一页只有一个 bash 围栏，和它的脚本。"""
    page = '```bash\n--8<-- "local/ask.sh:run"\n```\n' + (
        f'```text title="输出"\n{output}\n```\n' if output else ""
    )
    return page, {
        "examples/local/ask.sh": f"# --8<-- [start:run]\n{body}\n# --8<-- [end:run]\n"
    }


SERVER = """\
# --8<-- [start:serve]
python - --port 8000 <<'END'
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.headers["Host"].encode())

    def log_message(self, *args):
        pass

print(f"http://127.0.0.1:{sys.argv[2]} 开着", flush=True)
HTTPServer(("127.0.0.1", int(sys.argv[2])), Answer).serve_forever()
END
# --8<-- [end:serve]
# --8<-- [start:ask]
curl -s http://127.0.0.1:8000
# --8<-- [end:ask]
# --8<-- [start:dead]
echo "端口 被占" --port 8000; exit 3
# --8<-- [end:dead]
# --8<-- [start:portless]
sleep 100
# --8<-- [end:portless]
# --8<-- [start:broken]
if true
# --8<-- [end:broken]
"""


def served(section, title="另一个终端", output=""):
    """一页：一个带标题的 bash 围栏，再问它一句。"""
    page = f'```bash title="{title}"\n--8<-- "local/serve.sh:{section}"\n```\n' + (
        f'```text title="输出"\n{output}\n```\n' if output else ""
    )
    ask = '```bash\n--8<-- "local/serve.sh:ask"\n```\n```text title="输出"\n127.0.0.1:8000\n```\n'
    return page + ask, {"examples/local/serve.sh": SERVER}


# 绿的


def test_skeleton_of_the_guide_works(site, pytester, monkeypatch):
    """贡献指南里的样板：照抄四个文件，--update-outputs 写出输出与插图，再跑就全绿。"""
    root = Path(__file__).parents[2]
    monkeypatch.setenv("MODEL", str(root / "examples/jiezi"))
    monkeypatch.setenv("PYTHONPATH", str(root))
    shutil.copytree(root / ".mkdocs/figures", site.root / ".mkdocs/figures")
    for name, place in {
        "page.md": "docs/local/page.md",
        "page.py": "examples/local/page.py",
        "tokens.py": ".mkdocs/figures/local/tokens.py",
        "test.py": "tests/local/test_page.py",
    }.items():
        put(site.root, {place: (root / "examples/skeleton" / name).read_text("utf-8")})
    (site.root / "docs/assets/figures").mkdir(parents=True)
    # 另起进程：小站跑完会收走它导入的模块，torch 不能再导入一次
    first = pytester.runpytest_subprocess("docs", "examples", "--update-outputs")
    assert "failed" not in first.parseoutcomes(), first.stdout.str()
    again = pytester.runpytest_subprocess("docs", "examples", "tests/local")
    assert set(again.parseoutcomes()) == {"passed"}, again.stdout.str()
    assert again.parseoutcomes()["passed"] >= 12
    page = (site.root / "docs/local/page.md").read_text("utf-8")
    assert "\n什么是 token？ 3\n" in page


def test_service_runs_on_a_free_port_until_the_end_of_the_session(site):
    page, files = served("serve", output="http://127.0.0.1:8000 开着")
    counts, text = site(page, files=files)
    assert counts == {"passed": 4}, text
    (service,) = [s for c, s in services.RUNNING.items() if "开着" in c]
    assert service.port != 8000 and service.answers()
    site(page, files=files)
    assert [s for c, s in services.RUNNING.items() if "开着" in c] == [service]
    service.stop()
    assert not service.answers()


def test_command_for_absent_hardware_is_skipped_with_its_reason(site):
    page, files = served("portless", title="需要 GPU")
    counts, text = site(page.split("```bash\n")[0], files=files)
    assert counts == {"skipped": 1} and "需要 GPU" in text, text


def test_powershell_is_run_or_skipped_with_a_reason(site):
    page = (
        '```powershell\n--8<-- "local/a.ps1:a"\n```\n```text title="输出"\n你好\n```\n'
    )
    body = '# --8<-- [start:a]\nWrite-Output "你好"\n# --8<-- [end:a]\n'
    counts, text = site(page, files={"examples/local/a.ps1": body})
    if shutil.which("pwsh"):
        assert counts == {"passed": 2}, text
    else:
        assert counts == {"skipped": 2} and "没有 PowerShell" in text, text


def test_correct_page_and_docstrings(site):
    counts, text = site(None, "examples")
    assert counts == {"passed": 5}, text
    assert "模型 芥子" in text or "认识模型：芥子" in text


def test_example_named_on_the_command_line_is_not_imported(site, pytester):
    put(site.root, {"examples/local/load.py": SCRIPT + "def test_x(): 1 / 0\n"})
    result = pytester.runpytest_inprocess("examples/local/load.py")
    assert result.parseoutcomes() == {"passed": 1}, result.stdout.str()


def test_each_fence_can_run_alone(site, pytester):
    result = pytester.runpytest_inprocess("docs/local/load.md", "-k", "line:13")
    assert result.parseoutcomes()["passed"] == 1, result.stdout.str()


def test_tabs_of_the_other_model_are_skipped_with_a_reason(site):
    page = PAGE[: PAGE.index(THIRD)] + THIRD + tabs("芥子 0.333 7", "千问 0.333 7")
    counts, text = site(page)
    assert counts == {"passed": 4, "skipped": 1}, text
    assert "这一栏属于 Qwen2-0.5B-Instruct，这次跑的是 芥子" in text


def tabs(jiezi, qwen):
    return (
        f'\n=== "芥子"\n\n    ```text title="输出"\n    {jiezi}\n    ```\n'
        f'\n=== "Qwen2"\n\n    ```text title="输出 · Qwen2-0.5B-Instruct"\n    {qwen}\n    ```\n'
    )


def test_qwen2_compares_its_own_tabs(site, monkeypatch):
    monkeypatch.setenv("MODEL", "/models/Qwen2-0___5B-Instruct")
    page = HELLO + '```text title="输出 · 任何模型"\n你好，芥子\n```\n' + THIRD
    counts, text = site(page + tabs("不同", "芥子 0.333 7"))
    assert counts == {"passed": 4, "skipped": 1}, text
    counts, text = site(page + tabs("不同", "芥子 0.334 7"))
    assert counts["failed"] == 1, text
    counts, text = site(page + '```text title="输出"\n不比较\n```\n')
    assert counts == {"passed": 3, "skipped": 1}, text


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("examples/jiezi", "芥子"),
        ("/a/Qwen2-0.5B-Instruct/", "Qwen2-0.5B-Instruct"),
        ("/a/别的模型", "别的模型"),
    ],
)
def test_model_name(monkeypatch, folder, name):
    monkeypatch.setenv("MODEL", folder)
    assert model_name() == name


def test_varying_output_compares_its_shape(site):
    page = HELLO + '```text title="输出 · 每次不同"\n用时 12.5 秒，共  3 次\n```\n'
    assert site(page, files=script("print('用时 1.75 秒，共 41 次')"))[0] == {
        "passed": 2
    }
    assert site(page, files=script("print('用时 1.75 分，共 41 次')"))[0]["failed"] == 1


def test_whole_file_is_shown_not_run(site):
    page = (
        PAGE
        + '\n```python title="examples/local/load.py"\n--8<-- "local/load.py"\n```\n'
    )
    assert site(page)[0] == {"passed": 5}
    assert (
        site(page.replace('title="examples/local/load.py"', 'title="load.py"'))[0][
            "failed"
        ]
        == 1
    )
    assert (
        site(
            page.replace(
                '"examples/local/load.py"\n--8<-- "local/load.py"',
                '"examples/x.py"\n--8<-- "x.py"',
            )
        )[0]["failed"]
        == 1
    )


def test_bash_runs_our_python_in_the_repository_root(site):
    body = "python -c 'import sys; print(sys.prefix)'\ntest -f mkdocs.yml\n(sleep 60; echo) &"
    page, files = bash(body, sys.prefix)
    start = time.monotonic()
    counts, text = site(page, files=files)
    assert counts == {"passed": 2} and time.monotonic() - start < 20, text


def test_progress_bars_are_not_warnings():
    bar = "\rLoading weights:   0%|    | 0/9 [00:00<?, ?it/s]\rLoading weights: 100%|████| 9/9 [00:00<00:00, 9it/s]"
    assert without_progress(bar + "\n\r3it [00:00, 5.1it/s]\n") == ""
    assert without_progress(bar + "\n当心\n") == "当心"


def test_page_does_not_leak_environment_or_modules(site):
    counts, text = site(HELLO, files=script("import os\nos.environ['LEAK'] = '1'"))
    assert counts == {"passed": 1} and "LEAK" not in os.environ, text


def test_script_runs_once_for_page_docstrings_and_tests(site, tmp_path):
    """三处用的是同一次运行；脚本在只有它自己的文件夹里，MODEL 是绝对路径。"""
    log = tmp_path / "log"
    body = f"""
import os, sys
with open({str(log)!r}, "a") as file:
    print(os.listdir(), __name__, sys.argv[1:], os.environ["MODEL"], file=file)
"""
    files = {
        "examples/local/load.py": SCRIPT.replace('"""一个脚本。"""', f'"""一个。\n\n用法：\n    python examples/local/load.py 甲 乙  # 说明\n"""{body}'),
        "tests/test_x.py": "from pathlib import Path\nfrom tests.harness import session\n\n"
        "def test_x():\n    root = Path(__file__).parents[1]\n"
        "    assert session.run(root, 'local/load.py').namespace['third'](3) == 1\n",
    }  # fmt: skip
    assert site(None, "examples", "tests", files=files)[0] == {"passed": 6}
    [line] = log.read_text("utf-8").splitlines()
    assert line.startswith("['load.py'] __main__ ['甲', '乙'] /")
    assert line.endswith("/模型 一份")


def test_sections_inside_a_top_level_if(site):
    """顶层的 if 里可以有节：各有各的输出；else 不执行。"""
    lines = SCRIPT.split("\n\n\n", 1)
    inside = "\n".join("    " + line for line in lines[0].splitlines()[1:])
    other = inside.replace("hello", "other").replace("你好", "再见")
    text = f"if __name__ == '__main__':\n{inside}\nelse:\n{other}\n\n\n{lines[1]}"
    page = PAGE + HELLO.replace("hello", "other")
    counts, out = site(page, files={"examples/local/load.py": text})
    assert counts == {"passed": 4, "failed": 1} and "次序要一致" in out, out
    page = PAGE.replace(THIRD, HELLO.replace("hello", "other") + THIRD)
    assert site(page, files={"examples/local/load.py": text})[0] == {"passed": 5}


@pytest.mark.parametrize(
    ("nodeid", "name"),
    [
        ("docs/local/load.md::line:7,column:1", "local/load"),
        ("examples/local/load.py::line:7,column:1", "local/load"),
        ("tests/local/test_load.py::test_x[a/b.py]", "local/load"),
        ("tests/harness/test_scripts.py::test_runs_alone[local/load.py]", "local/load"),
        ("tests/generate/test_equality.py::test_x", "generate/loop"),
        ("tests/use/test_chat.py::test_x", "use"),
        ("examples/a/exercises/check.py::x", "examples/a/exercises/check.py"),
        (
            "tests/harness/test_faults.py::test_x[local/a.py]",
            "tests/harness/test_faults.py",
        ),
    ],
)
def test_one_topic_is_tested_in_one_process(nodeid, name):
    assert topic(nodeid) == name


# 红的：(页面, 要改的文件, 消息里要有的话)

RED = {
    "输出错": (
        PAGE.replace("你好，芥子", "你好，种子"),
        {},
        ["输出不一致", "你好，种子", "你好，芥子"],
    ),
    "小数错": (
        PAGE.replace("0.333 7", "0.334 7"),
        {},
        ["docs/local/load.md:13 · examples/local/load.py · 节 third"],
    ),
    "整数错": (PAGE.replace("0.333 7", "0.333 8"), {}, ["实际得到的：\n芥子 0.333"]),
    "缺少输出": (HELLO, {}, ["缺少输出", "你好，芥子"]),
    "只有别的模型的输出": (
        HELLO + '```text title="输出 · Qwen2-0.5B-Instruct"\n你好，芥子\n```\n',
        {},
        ["缺少输出"],
    ),
    "多余的输出": (
        HELLO + '```text title="输出"\nx\n```\n',
        script("x = 1"),
        ["什么也没打印"],
    ),
    "空的输出块": (HELLO + '```text title="输出"\n```\n', {}, ["输出不一致"]),
    "前面没有代码的输出": ('```text title="输出"\nx\n```\n', {}, ["前面没有代码"]),
    "直接写的代码": ("```python\nprint(1)\n```\n", {}, ["不能直接写在页面上"]),
    "引用之外还写了代码": (
        HELLO.replace("\n```\n", "\nprint(1)\n```\n"),
        {},
        ["不能直接写在页面上"],
    ),
    "不认识的围栏": ("```console\n$ ls\n```\n", {}, ["不认识的围栏：console"]),
    "没有语言的围栏": ("```\nx\n```\n", {}, ["不认识的围栏"]),
    "写错的标题": (
        PAGE + '```text title="输出 · Qwen2-0.5B-Instrcut"\nx\n```\n',
        {},
        ["标题只能是"],
    ),
    "没有标题的 text": (PAGE + "```text\nx\n```\n", {}, ["标题只能是"]),
    "列表里的围栏": ("- " + HELLO.replace("\n", "\n  ").rstrip() + "\n", {}, []),
    "没有收尾的围栏": (PAGE.rstrip("`\n"), {}, ["没有收尾"]),
    "语言与脚本不符": (
        HELLO.replace("```python", "```bash"),
        {},
        ["bash 围栏里引用了 local/load.py"],
    ),
    "没有写节": (HELLO.replace(":hello", ""), {}, ["要执行就写节名"]),
    "没有这个文件": (
        HELLO.replace("load.py", "lost.py"),
        {},
        ["没有文件 examples/local/lost.py"],
    ),
    "没有这一节": (HELLO.replace("hello", "lost"), {}, ["没有节 lost", "hello、third"]),
    "节没有收尾": (
        HELLO,
        {"examples/local/load.py": "# --8<-- [start:hello]\nx = 1\n"},
        ["hello 没有收尾"],
    ),
    "异常": (
        PAGE,
        script("x = 1\nx / 0"),
        ['load.py", line 3', "x / 0", "ZeroDivisionError", "前面的代码没有跑通"],
    ),
    "退出": (HELLO, script("raise SystemExit(2)"), ["SystemExit: 2"]),
    "次序与脚本不同": (
        PAGE[PAGE.index(THIRD) :] + HELLO + '```text title="输出"\n你好，芥子\n```\n',
        {},
        ["节 hello 在脚本里排在节 third 前面"],
    ),
    "页面上没有的几行错了": (
        PAGE,
        {"examples/local/load.py": SCRIPT.replace('"""\n#', '"""\n1 / 0\n#', 1)},
        ["ZeroDivisionError", 'load.py", line 2'],
    ),
    "页面上没有的几行发出警告": (
        PAGE,
        {
            "examples/local/load.py": SCRIPT.replace(
                '"""\n#', '"""\nimport warnings\nwarnings.warn("当心")\n#', 1
            )
        },
        ["页面上没有的几行发出了警告", "当心"],
    ),
    "在当前文件夹里写东西": (
        PAGE,
        {"examples/local/load.py": SCRIPT + 'open("x", "w").close()\n'},
        ["它在当前文件夹里写了东西", "x"],
    ),
    "导入旁边的脚本": (
        PAGE,
        script("import ask") | {"examples/local/ask.py": ""},
        ["No module named 'ask'"],
    ),
    "节只包住半个语句": (
        HELLO,
        {
            "examples/local/load.py": "# --8<-- [start:hello]\ndef f():\n    x = 1\n"
            "    # --8<-- [end:hello]\n    return x\n"
        },
        ["节 hello 要包住整个语句"],
    ),
    "语法错误": (HELLO, script("x ="), ["SyntaxError", "line 2"]),
    "警告": (
        HELLO,
        script("import warnings\nwarnings.warn('当心')"),
        ["发出了警告", "UserWarning: 当心"],
    ),
    "日志": (
        HELLO,
        script("import logging\nlogging.getLogger('a').warning('当心')"),
        ["发出了警告", "当心"],
    ),
    "标准错误": (
        HELLO,
        script("import os\nos.write(2, '当心'.encode())"),
        ["发出了警告", "当心"],
    ),
    "bash 失败": (
        *bash("echo 一\nfalse | cat\necho 二", "一\n二"),
        ["bash 的退出码是 1"],
    ),
    "bash 的标准错误": (*bash("echo 当心 >&2"), ["发出了警告", "当心"]),
    "bash 输出错": (
        *bash("echo 一", "二"),
        ["docs/local/load.md:4 · examples/local/ask.sh · 节 run", "输出不一致"],
    ),
}


@pytest.mark.parametrize(("page", "files", "words"), RED.values(), ids=RED.keys())
def test_red(site, page, files, words):
    counts, text = site(page, files=files)
    assert counts.get("failed", 0) + counts.get("errors", 0) == 1, text
    assert [word for word in words if word not in text] == [], text


def test_red_docstring(site, pytester):
    put(site.root, {"examples/local/load.py": SCRIPT.replace("0.333\n", "0.334\n")})
    assert pytester.runpytest_inprocess("examples").parseoutcomes() == {"failed": 1}


# 比较


@pytest.mark.parametrize(
    ("want", "got", "same"),
    [
        ("a ... z", "a b\nc z", True),
        ("a ... z", "a b", False),
        ("...", "", True),
        ("1...", "123", True),
        ("损失 0.12...", "损失 0.1299", True),
        ("...0.5\n...0.7\n", "x 0.5\nx 0.9\nx 0.7", True),
        ("0.33", "0.3333", True),
        ("0.33", "0.337", False),
        ("0.33", "0.34", False),
        ("-0.5", "0.5", False),
        ("1e-05", "1.04e-05", True),
        ("1e-05", "2e-05", False),
        ("1.5e+03", "1.54e+03", True),
        ("2.0", "2", False),
        ("共 12 个", "共 12.1 个", False),
        ("共 12 个", "共 13 个", False),
        ("12", "123", False),
        ("0.5", "10.5", False),
        ("a  \nb\n\n", "a\nb", True),
        ("  a", "a", False),
        ("a b", "a  b", False),
        ("a\n\nb", "a\nb", False),
        ("张量([0.10, 0.90])", "张量([0.101, 0.899])", True),
        ("x…", "xyz", False),
        ("", "a", False),
    ],
)
def test_agrees(want, got, same):
    assert agrees(want, got) is same


@given(
    st.text("ab ,.-[]\n0123456789", max_size=40), st.integers(0, 40), st.integers(1, 9)
)
def test_a_changed_digit_is_always_caught(text, place, change):
    text = text.replace("..", ".")
    assert agrees(text, text)
    digits = [i for i, c in enumerate(text) if c.isdigit()]
    if digits:
        i = digits[place % len(digits)]
        assert not agrees(
            text[:i] + str((int(text[i]) + change) % 10) + text[i + 1 :], text
        )


# --update-outputs


def test_update_rewrites_inserts_and_then_changes_nothing(site):
    wrong = (
        HELLO
        + '\n说明。\n\n=== "芥子"\n\n'
        + "".join(f"    {line}\n" for line in THIRD.splitlines())
        + '\n    ```text title="输出"\n    旧\n\n    的\n    ```\n'
        + '\n    ```text title="输出 · Qwen2-0.5B-Instruct"\n    不动\n    ```\n'
    )
    counts, text = site(wrong, "--update-outputs")
    assert counts == {"passed": 3, "skipped": 1} and "改写了输出" in text, text
    right = wrong.replace("旧\n\n    的", "芥子 0.3333333333333333 7").replace(
        HELLO, HELLO + '\n```text title="输出"\n你好，芥子\n```\n'
    )
    assert site.page.read_text("utf-8") == right
    before = site.page.stat()
    counts, text = site(None, "--update-outputs")
    assert counts == {"passed": 4, "skipped": 1} and "改写了输出" not in text, text
    assert (
        site.page.stat().st_mtime_ns == before.st_mtime_ns
        and site.page.stat().st_ino == before.st_ino
    )
    assert site()[0] == {"passed": 4, "skipped": 1}
    assert os.listdir(site.page.parent) == ["load.md"]


def test_update_leaves_what_agrees_and_rewrites_what_varies_only_in_shape(site):
    again = HELLO + '```text title="输出 · 每次不同"\n你好，芥子\n```\n'
    page = PAGE.replace("你好，芥子\n```\n", f"你...\n```\n{again}")
    site(page, "--update-outputs")
    assert site.page.read_text("utf-8") == page
    site(
        page,
        "--update-outputs",
        files={"examples/local/load.py": SCRIPT.replace("你好，", "早，3")},
    )
    assert site.page.read_text("utf-8") == page.replace("你...", "早，3芥子").replace(
        "你好，芥子", "早，3芥子"
    )


def test_update_writes_the_tab_of_the_running_model(site, monkeypatch):
    monkeypatch.setenv("MODEL", "/models/Qwen2-0.5B-Instruct")
    site(HELLO + tabs("不动", "旧"), "--update-outputs")
    assert site.page.read_text("utf-8") == HELLO + tabs("不动", "你好，芥子")


def test_update_keeps_the_page_when_code_fails_or_prints_fences(site):
    files = script("x / 0")
    assert site(PAGE, "--update-outputs", files=files)[0] == {"failed": 1, "skipped": 3}
    assert site.page.read_text("utf-8") == PAGE
    assert (
        site(HELLO, "--update-outputs", files=script("print('```')"))[0]["failed"] == 1
    )
    assert site.page.read_text("utf-8") == HELLO


# 插图


FIGURE = {
    ".mkdocs/figures/local/a_b.py": "def draw(page):\n"
    '    return f\'<svg>{page["third"](3)} {page["name"]}</svg>\\n\'\n'
}
SVG = "docs/assets/figures/a-b.svg"
DRAWN = f'{PAGE}\n<figure>\n--8<-- "a-b.svg"\n</figure>\n'


def test_figure_is_compared_and_redrawn_like_an_output(site):
    """数从页面那一次运行里来；旧了就红，--update-outputs 重画，再跑就绿。"""
    counts, text = site(DRAWN, files=FIGURE | {SVG: "<svg>2.0 芥子</svg>\n"})
    assert counts == {"passed": 4, "failed": 1}, text
    assert "a-b.svg 不是此刻画出的" in text
    assert site(None, "--update-outputs")[0] == {"passed": 5}
    assert (site.root / SVG).read_text("utf-8") == "<svg>1.0 芥子</svg>\n"
    assert site(None)[0] == {"passed": 5}


def test_figure_without_a_module_is_red_and_a_hand_drawn_one_is_not(site):
    counts, text = site(DRAWN.replace("a-b", "lost"))
    assert counts["failed"] == 1 and "没有画 lost.svg 的" in text, text
    assert site(DRAWN.replace("a-b", "drawn/x"))[0] == {"passed": 5}


# 档位


def test_gpu_mark_is_skipped_with_a_reason(site, pytester):
    put(
        site.root,
        {"tests/test_x.py": "import pytest\n\n@pytest.mark.gpu\ndef test_x(): pass\n"},
    )
    result = pytester.runpytest_inprocess("tests")
    assert (
        result.parseoutcomes() == {"skipped": 1}
        and "只在 gpu 档跑" in result.stdout.str()
    )


def test_full_mark_runs_only_in_its_tier(site, pytester):
    text = (
        "import pytest\n\n@pytest.mark.full\ndef test_x(): pass\n\ndef test_y(): pass\n"
    )
    put(site.root, {"tests/test_x.py": text})
    result = pytester.runpytest_inprocess("tests")
    assert result.parseoutcomes() == {"passed": 1, "deselected": 1}
    assert "1 项较慢，没有跑：pytest --tier full" in result.stdout.str()
    result = pytester.runpytest_inprocess("tests", "--tier", "full", "-v")
    assert result.parseoutcomes() == {"passed": 1, "deselected": 1}
    assert "::test_x" in result.stdout.str()


def test_gpu_tier_without_cuda_skips_pages(site, monkeypatch):
    monkeypatch.setattr(
        "tests.harness.plugin.no_cuda", lambda: "这台机器没有可用的 CUDA 设备"
    )
    counts, text = site(None, "--tier", "gpu")
    assert counts == {"skipped": 4} and "没有可用的 CUDA" in text, text


# 结构


def test_structure_of_a_correct_site(site):
    assert [check(site.root) for check in structure.CHECKS] == [[]] * len(
        structure.CHECKS
    )


STRUCTURE = {
    "没用到的节": (
        "check_sections_used",
        {"examples/local/load.py": SCRIPT + "# --8<-- [start:a]\n# --8<-- [end:a]\n"},
        "没有页面用到节 a",
    ),
    "没提到的脚本": (
        "check_mirror",
        {"examples/use/a.sh": ""},
        "examples/use/a.sh: 没有页面提到它",
    ),
    "参数不同": (
        "check_signatures",
        {
            "examples/local/load.py": SCRIPT + "def f(a, *, b=1): pass\n",
            "examples/local/more.py": "def f(a, b=1): pass\n",
            "docs/local/load.md": f"{PAGE}\n`local/more.py`\n",
        },
        "f 有几种参数",
    ),
    "没有同名脚本": (
        "check_mirror",
        {"docs/local/more.md": HELLO},
        "没有用同名的 examples/local/more.py",
    ),
    "缩进的代码": (
        "check_no_typed_code",
        {"docs/local/more.md": "看：\n\n    print(1)\n"},
        "渲染出 1 个代码块",
    ),
    "HTML 的代码": (
        "check_no_typed_code",
        {"docs/local/more.md": "<pre>print(1)</pre>\n"},
        "渲染出 1 个代码块",
    ),
}


@pytest.mark.parametrize(
    ("section", "title", "words"),
    [
        ("dead", "另一个终端", ["退出码 3", "端口 被占"]),
        ("portless", "另一个终端", ["要写明 --port"]),
        ("broken", "需要 GPU", ["syntax error"]),
        ("serve", "别的终端", ["展示整个文件时不写节名"]),
    ],
)
def test_service_that_cannot_start_is_red(site, section, title, words):
    page, files = served(section, title)
    counts, text = site(page, files=files)
    assert counts.get("failed"), text
    assert all(word in text for word in words), text


@pytest.mark.parametrize(
    ("check", "files", "words"), STRUCTURE.values(), ids=STRUCTURE.keys()
)
def test_structure_red(tmp_path, check, files, words):
    put(
        tmp_path,
        {"mkdocs.yml": "", "docs/local/load.md": PAGE, "examples/local/load.py": SCRIPT}
        | files,
    )
    problems = getattr(structure, check)(tmp_path)
    assert len(problems) == 1 and words in problems[0], problems


def test_structure_leaves_out_tools_model_and_exercises(tmp_path):
    """训练芥子的工具里没有节，不当作页面的脚本。"""
    exercise = '```python\n--8<-- "local/exercises/a.py:a"\n```\n'
    put(
        tmp_path,
        {
            "mkdocs.yml": "nav: [local/exercises.md]",
            "docs/local/exercises.md": exercise,
            "examples/train/a.py": "def a(): pass\n",
            "examples/train/b.py": "def a(x): pass\n",
            "examples/jiezi/a.py": "# --8<-- [start:a]\n",
            "examples/local/exercises/a.py": "# --8<-- [start:a]\n# --8<-- [end:a]\n",
        },
    )
    assert [problem for check in structure.CHECKS for problem in check(tmp_path)] == []


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        ("print(__name__, sys.argv[1:])", (0, "__main__ ['甲']\n", "")),
        ("sys.exit(2)", (2, "", "")),
        ("sys.exit()", (0, "", "")),
        ("sys.exit('要一个名字')", (1, "", "要一个名字")),
        ("print(os.getcwd(), os.environ['X'])", (0, "{cwd} 乙\n", "")),
        ("print('坏了', file=sys.stderr)", (0, "", "坏了")),
        ("import warnings; warnings.warn('当心')", (0, "", "UserWarning: 当心")),
        ("1 / 0", (1, "", "ZeroDivisionError")),
        ("import sibling", (1, "", "ModuleNotFoundError")),
    ],
)
def test_run_script_is_like_a_process(tmp_path, body, outcome):
    put(tmp_path, {"a/b.py": f"import os, sys\n{body}\n", "sibling.py": ""})
    before = dict(os.environ), os.getcwd(), sys.argv
    code, out, err = run_script(
        tmp_path / "a/b.py", "甲", cwd=tmp_path, env={"X": "乙"}
    )
    wanted = outcome[1].replace("{cwd}", os.path.realpath(tmp_path))
    assert (code, out) == (outcome[0], wanted) and outcome[2] in err
    assert bool(err) == bool(outcome[2])
    assert before == (dict(os.environ), os.getcwd(), sys.argv)

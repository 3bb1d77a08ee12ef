"""ask.py：写错了参数、说不通的设置、坏的模型文件夹，都是一行中文，没有回溯。"""

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.harness import session
from tests.harness.execute import finish, start_script

ROOT = session.ROOT
SCRIPT = ROOT / "examples/local/ask.py"
MODEL = str(ROOT / os.environ.get("MODEL", "examples/jiezi"))
HAN = re.compile("[\u4e00-\u9fff]")


def run(*args, **env):
    """在仓库根目录运行 ask.py；用本进程，省去重新导入 torch 的几秒。"""
    env = session.CLEAN | {"MODEL": MODEL} | env
    return session.run_script(SCRIPT, *args, cwd=ROOT, env=env)


def assert_told(result, *words):
    code, out, err = result
    first = err.split("\n")[0]
    assert code == 2 and not out and HAN.search(first) and "Traceback" not in err, (
        result
    )
    assert [word for word in words if word not in first] == [], err


ASK = {
    "没有问题": ([], ["参数不对"]),
    "空的": ([""], ["问题是空的"]),
    "空白": ([" \t\n\u3000"], ["问题是空的"]),
    "第二句是空的": (["你好", " "], ["问题是空的"]),
    "零个 token": (
        ["你好", "--max-new-tokens", "0"],
        ["--max-new-tokens 至少是 1", "0"],
    ),
    "负数个 token": (
        ["你好", "--max-new-tokens", "-5"],
        ["--max-new-tokens 至少是 1", "-5"],
    ),
    "负温度": (["你好", "--temperature", "-0.5"], ["温度", "-0.5"]),
    "温度 nan": (["你好", "--temperature", "nan"], ["温度", "nan"]),
    "温度 inf": (["你好", "--temperature", "inf"], ["温度", "inf"]),
    "温度 -inf": (["你好", "--temperature=-inf"], ["温度", "-inf"]),
    "温度不是数": (["你好", "--temperature", "abc"], ["参数不对", "abc"]),
    "种子不是数": (["你好", "--seed", "1.5"], ["参数不对", "1.5"]),
    "缺了值": (["你好", "--temperature"], ["参数不对", "--temperature"]),
    "没有的选项": (["你好", "--top-k", "5"], ["参数不对", "--top-k"]),
    "温度小到除不动": (["你好", "--temperature", "1e-40"], ["温度", "1e-40"]),
    "种子大到装不下": (["你好", "--seed", "9" * 20], ["--seed", "9" * 20]),
    "不是 UTF-8": ([os.fsdecode(b"\xff\xfe")], ["UTF-8"]),
    "没有这个模型": (["你好", "--model", "没有"], ["找不到模型文件夹", "MODEL"]),
    "没有这种设备": (["你好", "--device", "nonsense"], ["nonsense", "DEVICE"]),
    "提示语太长": (["你好吗" * 1024], ["上下文", "缩短问题"]),
    "加上要写的才太长": (
        ["你好", "--max-new-tokens", "1024"],
        ["上下文", "--max-new-tokens"],
    ),
}


@pytest.mark.parametrize("args, words", ASK.values(), ids=ASK.keys())
def test_bad_arguments(args, words):
    assert_told(run(*args), *words)


@pytest.mark.parametrize("temperature", ["0.01", "100"])
def test_edges_work(temperature):
    """边上的值是好的。"""
    options = (
        "--temperature",
        temperature,
        "--max-new-tokens",
        "1",
        "--seed",
        str(2**63 - 1),
    )
    assert run("你好", *options)[0] == 0


def test_bad_argument_at_once():
    """真的另起进程；写错了参数，不必等 torch 导入就知道。"""
    code = (
        "import sys; sys.modules['torch'] = None; sys.argv = ['ask.py', '你好', '--seed', '-1'];"
        f"import runpy; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    process = start_script("-c", code, cwd=ROOT, env=session.CLEAN)
    assert_told(finish(process), "--seed")


def test_too_long_for_real():
    """真的另起进程：transformers 自己的警告不掺进来，恰好一行。"""
    process = start_script(SCRIPT, "你好吗" * 1024, cwd=ROOT, env=session.CLEAN)
    result = finish(process)
    assert_told(result, "上下文")
    assert result[2].count("\n") <= 1


BROKEN = {
    "没有分词器": lambda folder: [
        path.unlink() for path in folder.glob("*") if path.name in TOKENIZER_FILES
    ],
    "没有聊天模板": lambda folder: (folder / "chat_template.jinja").unlink(),
    "没有权重": lambda folder: (folder / "model.safetensors").unlink(),
    "权重只下载了一半": lambda folder: os.truncate(
        folder / "model.safetensors", 100_000
    ),
    "配置不是 JSON": lambda folder: (folder / "config.json").write_text("{"),
}
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)


@pytest.mark.parametrize("spoil", BROKEN.values(), ids=BROKEN.keys())
def test_broken_model(spoil, tmp_path):
    folder = Path(shutil.copytree(MODEL, tmp_path / "坏的模型"))
    spoil(folder)
    assert_told(run("你好", MODEL=str(folder)), str(folder))


def test_several_questions_and_a_system_prompt():
    code, out, err = run("你是谁？", "你好", "--system", "请用中文回答。")
    assert (code, err) == (0, "") and len(out.splitlines()) == 2


def test_help_is_chinese():
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    options = re.split(r"\n  (?=-|\S+ {2,})", out.split("\n\n", 2)[2])[1:]
    assert len(options) == 8 and all(map(HAN.search, options)), out

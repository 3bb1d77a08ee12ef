"""第二章的脚本碰到坏的输入：标准错误上一行中文，退出码 2，没有回溯。"""

import logging
import os
import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest

from tests.harness.execute import finish, start_script, without_progress

ROOT = Path(__file__).resolve().parents[2]
LOCAL = ROOT / "examples/local"
MODEL = str(ROOT / os.environ.get("MODEL", "examples/jiezi"))
PAGES = ["load", "template", "encode", "generate", "decode"]
HAN = re.compile("[\u4e00-\u9fff]")


def question(name):
    """这个脚本非有不可的参数。"""
    return ["你好"] if name == "ask" else []


def start(name, *args, **env):
    """在仓库根目录运行 examples/local/<name>.py。"""
    env = os.environ | {"MODEL": MODEL} | env
    return start_script(LOCAL / f"{name}.py", *args, cwd=ROOT, env=env)


def assert_one_line(result, *words):
    code, out, err = result
    assert (code, out) == (2, "") and HAN.search(err) and "\n" not in err, (
        f"退出码 {code}\n{out}\n{err}"
    )
    assert [word for word in words if word not in err] == [], err


@pytest.fixture
def run_here(monkeypatch, capsys):
    """在本进程里把脚本整个跑一遍：省去重新导入 torch 的几秒。"""

    def run(name, *args, **env):
        for key, value in {"MODEL": MODEL, **env}.items():
            monkeypatch.setenv(key, value)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *args])
        monkeypatch.chdir(ROOT)
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(LOCAL / f"{name}.py"), run_name="__main__")
        out, err = capsys.readouterr()
        return stopped.value.code, out, without_progress(err)

    logger = logging.getLogger("transformers")
    level = logger.level
    yield run
    logger.setLevel(level)  # 脚本可以不要 transformers 的警告，别的测试还要


def test_every_script_is_covered():
    assert {path.stem for path in LOCAL.glob("*.py")} == {*PAGES, "ask"}


def test_missing_model_folder(tmp_path):
    for name in [*PAGES, "ask"]:
        for folder in (tmp_path / "没有", tmp_path):  # 不存在的，和存在却不是模型的
            assert_one_line(
                finish(start(name, *question(name), MODEL=str(folder))),
                "找不到模型文件夹",
                "MODEL",
            )
    assert_one_line(
        finish(start("ask", "你好", "--model", str(tmp_path))),
        "找不到模型文件夹",
        "MODEL",
    )


@pytest.mark.parametrize("device", ["tpu", "nonsense", "cuda:99", "mps", "hpu", "meta"])
@pytest.mark.parametrize("name", [*PAGES, "ask"])
def test_unknown_device(name, device, run_here):
    assert_one_line(
        run_here(name, *question(name), DEVICE=device), "用不了设备", device, "cpu"
    )


def test_unknown_device_for_real():
    """真的另起进程：连 transformers 自己写的警告也算在那一行里。"""
    page, ask = (
        start("load", DEVICE="tpu"),
        start("ask", "你好", "--device", "nonsense"),
    )
    results = finish(page), finish(ask)
    assert_one_line(results[0], "用不了设备 tpu")
    assert_one_line(results[1], "用不了设备 nonsense")


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
}


def test_ask_bad_arguments_at_once():
    """参数写错了，不必等 torch 导入就知道。"""
    for name, (args, words) in ASK.items():
        process = start("ask", *args)
        try:
            assert_one_line(finish(process), *words)
        except AssertionError as error:
            raise AssertionError(f"{name}：{error}") from None


def test_ask_too_long_for_real():
    """提示语超过上下文，或加上要生成的才超过。"""
    prompt, room = (
        start("ask", "你好吗" * 1024),
        start("ask", "你好", "--max-new-tokens", "1024"),
    )
    results = finish(prompt), finish(room)
    assert_one_line(results[0], "上下文", "缩短问题")
    assert_one_line(results[1], "上下文", "--max-new-tokens")


STRANGE = {
    "温度小到除不动": ["你好", "--temperature", "1e-40"],
    "种子大到装不下": ["你好", "--seed", "99999999999999999999"],
    "不是 UTF-8 的问题": [os.fsdecode(b"\xff\xfe"), "--max-new-tokens", "5"],
}


@pytest.mark.parametrize("args", STRANGE.values(), ids=STRANGE.keys())
def test_ask_strange_arguments(args, run_here):
    assert_one_line(run_here("ask", *args))


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
def test_ask_broken_model(spoil, run_here, tmp_path):
    folder = Path(shutil.copytree(MODEL, tmp_path / "坏的模型"))
    spoil(folder)
    assert_one_line(run_here("ask", "你好", MODEL=str(folder)), str(folder))


def test_ask_help_is_chinese():
    code, out, err = finish(start("ask", "--help"))
    assert (code, err) == (0, "")
    options = re.split(r"\n  (?=-|\S+ {2,})", out.split("\n\n", 2)[2])[1:]
    assert (
        len(options) == 8
        and [option for option in options if not HAN.search(option)] == []
    ), out

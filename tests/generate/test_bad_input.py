"""手动一步、循环、采样、输出的差别：四个脚本碰到坏的输入，标准错误上一行中文，退出码 2，没有回溯。"""

import logging
import os
import re
import runpy
import sys
from pathlib import Path

import pytest

from tests.harness.execute import finish, start_script, without_progress

ROOT = Path(__file__).resolve().parents[2]
GENERATE = ROOT / "examples/generate"
MODEL = str(ROOT / os.environ.get("MODEL", "examples/jiezi"))
NAMES = ["next_token", "loop", "sampling", "differences"]
HAN = re.compile("[\u4e00-\u9fff]")


def assert_one_line(result, *words):
    code, out, err = result
    assert (code, out) == (2, "") and HAN.search(err) and "\n" not in err, (
        f"退出码 {code}\n{out}\n{err}"
    )
    assert [word for word in words if word not in err] == [], err


def start(*args, **env):
    """在仓库根目录运行 examples/generate/loop.py。"""
    env = os.environ | {"MODEL": MODEL} | env
    return start_script(GENERATE / "loop.py", *args, cwd=ROOT, env=env)


@pytest.fixture
def run_here(monkeypatch, capsys):
    """在本进程里把脚本整个跑一遍：省去重新导入 torch 的几秒。"""

    def run(name, *args, **env):
        for key, value in {"MODEL": MODEL, **env}.items():
            monkeypatch.setenv(key, value)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *args])
        monkeypatch.chdir(ROOT)
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(GENERATE / f"{name}.py"), run_name="__main__")
        out, err = capsys.readouterr()
        return stopped.value.code or 0, out, without_progress(err)

    logger = logging.getLogger("transformers")
    level = logger.level
    yield run
    logger.setLevel(level)  # 脚本可以不要 transformers 的警告，别的测试还要


@pytest.mark.parametrize("name", NAMES)
def test_missing_model_folder(name, run_here, tmp_path):
    for folder in (tmp_path / "没有", tmp_path):  # 不存在的，和存在却不是模型的
        result = run_here(name, MODEL=str(folder))
        assert_one_line(result, "找不到模型文件夹", "MODEL")


@pytest.mark.parametrize("device", ["tpu", "nonsense", "cuda:99", "mps", "hpu", "meta"])
@pytest.mark.parametrize("name", NAMES)
def test_unknown_device(name, device, run_here):
    assert_one_line(run_here(name, DEVICE=device), "用不了设备", device, "cpu")


LOOP = {
    "空的": ([""], ["问题是空的"]),
    "空白": ([" \t\n\u3000"], ["问题是空的"]),
    "两个问题": (["你好", "再见"], ["参数不对", "再见"]),
    "零个 token": (["你好", "--max-new-tokens", "0"], ["max_new_tokens 至少是 1", "0"]),
    "负数个 token": (["你好", "--max-new-tokens", "-5"], ["max_new_tokens", "-5"]),
    "半个 token": (["你好", "--max-new-tokens", "0.5"], ["参数不对", "0.5"]),
    "负温度": (["你好", "--temperature", "-0.5"], ["温度", "-0.5"]),
    "温度小到除不动": (["你好", "--temperature", "1e-40"], ["温度", "1e-40"]),
    "温度 nan": (["你好", "--temperature", "nan"], ["温度", "nan"]),
    "温度 inf": (["你好", "--temperature", "inf"], ["温度", "inf"]),
    "温度不是数": (["你好", "--temperature", "abc"], ["参数不对", "abc"]),
    "k 是 0": (["你好", "--top-k", "0"], ["top_k 至少是 1", "0"]),
    "k 是负数": (["你好", "--top-k", "-1"], ["top_k", "-1"]),
    "k 不是整数": (["你好", "--top-k", "1.5"], ["参数不对", "1.5"]),
    "p 是 0": (["你好", "--top-p", "0"], ["top_p", "0"]),
    "p 大于 1": (["你好", "--top-p", "1.2"], ["top_p", "1.2"]),
    "p 是负数": (["你好", "--top-p", "-0.1"], ["top_p", "-0.1"]),
    "p 是 nan": (["你好", "--top-p", "nan"], ["top_p", "nan"]),
    "惩罚是 0": (["你好", "--repetition-penalty", "0"], ["重复惩罚", "0"]),
    "惩罚是 inf": (["你好", "--repetition-penalty", "inf"], ["重复惩罚", "inf"]),
    "负的种子": (["你好", "--seed", "-1"], ["--seed", "-1"]),
    "种子大到装不下": (["你好", "--seed", "9" * 20], ["--seed", "9" * 20]),
    "种子不是数": (["你好", "--seed", "1.5"], ["参数不对", "1.5"]),
    "缺了值": (["你好", "--top-k"], ["参数不对", "--top-k"]),
    "没有的选项": (["你好", "--beams", "5"], ["参数不对", "--beams"]),
    "只有选项": (["--temperature", "1"], ["参数不对"]),
    "不是 UTF-8": ([os.fsdecode(b"\xff\xfe")], ["UTF-8"]),
}


@pytest.mark.parametrize("args, words", LOOP.values(), ids=LOOP.keys())
def test_loop_bad_arguments(args, words, run_here):
    assert_one_line(run_here("loop", *args), *words)


def test_loop_bad_arguments_at_once():
    """真的另起进程；写错了参数，不必等 torch 导入就知道。"""
    code = (
        "import sys; sys.modules['torch'] = None; sys.argv = ['loop.py', '你好', '--top-k', '0'];"
        f"import runpy; runpy.run_path({str(GENERATE / 'loop.py')!r}, run_name='__main__')"
    )
    assert_one_line(
        finish(start_script("-c", code, cwd=ROOT, env=os.environ | {"MODEL": MODEL})),
        "top_k",
    )


def test_loop_beyond_the_context(run_here):
    """提示语超过上下文，或加上要写的才超过；transformers 自己的警告不掺进来。"""
    assert_one_line(run_here("loop", "你好吗" * 1024), "上下文", "缩短提示语")
    too_many = run_here("loop", "你好", "--max-new-tokens", "1024")
    assert_one_line(too_many, "上下文", "max_new_tokens")


def test_loop_beyond_the_context_for_real():
    assert_one_line(finish(start("你好吗" * 1024)), "上下文")


def test_loop_answers(run_here):
    """几种用法都答得出来；种子相同，答案相同，有没有缓存都一样。"""
    assert run_here("loop", "你好", "--max-new-tokens", "2") == (0, "你好！\n", "")
    sampled = ["什么是 token？", "--temperature", "1.5", "--top-k", "50", "--top-p"]
    sampled += ["0.9", "--repetition-penalty", "1.1", "--max-new-tokens", "8"]
    results = [
        run_here("loop", *sampled, "--seed", seed, *cache)
        for seed in ("1", "2")
        for cache in ([], ["--no-cache"])
    ]
    assert [code for code, _, _ in results] == [0] * 4
    assert results[0] == results[1] and results[2] == results[3] != results[0]
    code, out, err = run_here("loop", "你好", "--candidates", "--max-new-tokens", "3")
    assert (code, err) == (0, "") and len(out.splitlines()) == 3
    assert all("「" in line and "%" in line for line in out.splitlines())


def test_loop_help_is_chinese(run_here):
    code, out, err = run_here("loop", "--help")
    assert (code, err) == (0, "")
    options = re.split(r"\n  (?=-|\S+ {2,})", out.split("\n\n", 2)[2])[1:]
    assert len(options) == 10, out
    assert [option for option in options if not HAN.search(option)] == [], out

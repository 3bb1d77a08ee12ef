"""坏的输入，一个测试管全部脚本：第一行是中文，说出该改什么，退出码不是 0，没有回溯。

新脚本站进 examples/<章>/ 就在这里面。中文带空格的路径、不往当前文件夹里写，由 session.run_alone 在每个脚本的那一次运行里证明。
"""

import contextlib
import os
import re
import shutil
from pathlib import Path

import pytest

from tests.harness import session
from tests.harness.session import ROOT, play, run_script
from tests.harness.snippets import chapter_scripts

SCRIPTS = [name for name in chapter_scripts(ROOT) if name.endswith(".py")]
MODEL = ROOT / os.environ.get("MODEL", "examples/jiezi")
WEIGHTS = "model.safetensors"


def text(name):
    return (ROOT / "examples" / name).read_text("utf-8")


def spoiled(file, change):
    """一个坏的模型文件夹：别的文件照旧，只有这一个被 change 改坏。"""

    def make(folder):
        shutil.copytree(MODEL, folder)
        change(folder / file)
        return {"MODEL": str(folder)}

    return make


# 毛病 -> (读了哪样东西的脚本才有, 造出它来的函数：文件夹 -> 环境变量, 话里要提到的)
LOCAL, SERVER = '"DEVICE"', '"BASE_URL"'
READS, LOADS = "from_pretrained(MODEL", "AutoModelForCausalLM.from_pretrained(MODEL"
FAULTS = {
    "没有这个文件夹": (LOCAL, lambda folder: {"MODEL": str(folder)}, "MODEL"),
    "不是模型的文件夹": (
        LOCAL,
        lambda folder: folder.mkdir() or {"MODEL": str(folder)},
        "MODEL",
    ),
    "config.json 不是 JSON": (
        READS,
        spoiled("config.json", lambda file: file.write_text("{")),
        "坏的",
    ),
    "没有权重": (LOADS, spoiled(WEIGHTS, Path.unlink), "坏的"),
    "权重只下载了一半": (
        LOADS,
        spoiled(WEIGHTS, lambda file: os.truncate(file, 100_000)),
        "坏的",
    ),
    **{
        f"设备 {device}": (LOCAL, lambda _, d=device: {"DEVICE": d}, f"{device}")
        for device in ("tpu", "nonsense", "cuda:99", "mps")
    },
    "没有服务": (SERVER, lambda _: {"BASE_URL": "http://127.0.0.1:1/v1"}, "BASE_URL"),
    "地址不是地址": (SERVER, lambda _: {"BASE_URL": "不是地址"}, "BASE_URL"),
}
CASES = [
    pytest.param(name, fault, id=f"{name} · {fault}")
    for name in SCRIPTS
    for fault, (mark, _, _) in FAULTS.items()
    if mark in text(name)
]


def arguments(name):
    """docstring 里第一条命令的参数；不由 python 运行的（streamlit），另有测试。"""
    return session.usage(session.ast.parse(text(name)))


@pytest.mark.parametrize(("name", "fault"), CASES)
def test_fault_is_told_in_chinese(name, fault, tmp_path):
    _, make, words = FAULTS[fault]
    python, _, *args = arguments(name)
    if python != "python":
        pytest.skip(f"由 {python} 运行，另有测试")
    env = session.CLEAN | {"MODEL": str(MODEL)} | make(tmp_path / "坏的 模型")
    script = ROOT / "examples" / name
    code, out, err = run_script(script, *args, cwd=tmp_path, env=env)
    first = err.split("\n")[0]
    assert code not in (0, None) and not out, f"退出码 {code}\n{out}\n{err}"
    assert re.search("[\u4e00-\u9fff]", first) and words in first, err
    assert "Traceback" not in err, err


class Closed:
    """读的人走了的管道：写到第一个字就断。"""

    written = 0

    def write(self, text):
        self.written += 1
        raise BrokenPipeError

    flush = isatty = lambda self: False


@pytest.mark.parametrize("name", SCRIPTS)
def test_closed_pipe_stops_the_script(name, tmp_path, monkeypatch):
    """`| head` 走了以后，脚本就停在那一句：不当成别的错来解释，也不接着算。"""
    python, _, *args = arguments(name)
    if python != "python" or SERVER in text(name):
        pytest.skip("由别的程序运行，或要有服务")
    pipe = Closed()
    monkeypatch.setattr(session.execute, "STREAMS", session.execute.STREAMS)
    original = session.execute.captured

    @contextlib.contextmanager
    def captured(result):
        with original(result), contextlib.redirect_stdout(pipe):
            yield

    monkeypatch.setattr(session.execute, "captured", captured)
    env = session.CLEAN | {"MODEL": str(MODEL)}
    played = play(ROOT / "examples" / name, args, env, tmp_path)
    assert pipe.written == 1, played.failure
    assert "BrokenPipeError" in played.failure or "管道" in played.failure
    assert not list(tmp_path.iterdir())


WRITERS = {  # 会写文件的脚本：写到哪里的选项
    "train.py": ["--smoke", "--out", "{nowhere}"],
    "tokenizer.py": ["--out", "{nowhere}"],
    "evaluate.py": ["--sets", "dev", "--wrong", "{nowhere}/错的.jsonl"],
}


@pytest.mark.parametrize("name", WRITERS)
def test_place_that_cannot_be_written_is_told_at_once(name, tmp_path, monkeypatch):
    """写不了的地方，开工之前就说；页面的脚本什么也不写，由 session.run_alone 证明。"""
    (tmp_path / "是个文件").write_text("")
    where = [part.format(nowhere=tmp_path / "是个文件/里面") for part in WRITERS[name]]
    monkeypatch.setattr("torch.Tensor.backward", lambda *_: pytest.fail("已经开工了"))
    script = ROOT / "examples/train" / name
    code, out, err = run_script(script, *where, cwd=tmp_path, env=session.CLEAN)
    assert code == 2 and not out and "写不了" in err and "是个文件" in err, err
    assert err.count("\n") == 0 and "Traceback" not in err


def test_every_script_that_writes_is_covered():
    writes = re.compile(r"write_text|write_bytes|save_pretrained|open\([^)]*\"w")
    found = {
        path.name
        for path in (ROOT / "examples").rglob("*.py")
        if writes.search(path.read_text("utf-8"))
    }
    assert found <= {*WRITERS}, "会写文件的新脚本要列进 WRITERS"

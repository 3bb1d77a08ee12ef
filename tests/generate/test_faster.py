"""更快：每一级写出的 token 与下一级相同（float32）；JSON 的样子；坏的输入一行中文。不比快慢。"""

import json
import os
import re
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, Qwen2Config

from tests.generate.tools import MEASURED, import_tool, run_tool
from tests.harness import session
from tests.harness.execute import finish, start_script
from tests.harness.session import CLEAN, ROOT, play

LADDER = MEASURED / "ladder.py"
MODEL = str(ROOT / os.environ.get("MODEL", "examples/jiezi"))
HAN = re.compile("[\u4e00-\u9fff]")
RUNG = {  # --json 里每一级都有的
    "name",
    "batch",
    "tokens_per_second",
    "ratio_to_generate",
    "share_of_bandwidth_limit",
}


@pytest.fixture(scope="module")
def page():
    return session.page("generate/faster")


def tiny(layers=1, heads=2, kv_heads=1, tied=True, seed=0):
    """一个随机的小 Qwen2；偏置和 norm 的增益也打乱，少乘、少加一个都看得出来。"""
    torch.manual_seed(seed)
    config = Qwen2Config(
        num_hidden_layers=layers,
        hidden_size=16 * heads,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        intermediate_size=48,
        vocab_size=128,
        tie_word_embeddings=tied,
        max_position_embeddings=64,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def rows(lengths, seed=0):
    """几行随机的提示语，左填充。"""
    generator, width = torch.Generator().manual_seed(seed), max(lengths)
    mask = torch.tensor([[0] * (width - n) + [1] * n for n in lengths])
    ids = torch.randint(1, 128, mask.shape, generator=generator)
    return {"input_ids": ids * mask, "attention_mask": mask}


def test_rungs_write_the_same_tokens(page):
    """芥子：从没有缓存到自己的前向，再到一批，逐级相同。"""
    model, prompt, batch, n = *(page[k] for k in ("model", "prompt", "batch")), 24
    weights = page["merged_weights"](model)
    want = page["reference"](model, prompt, n)
    assert want.shape == (1, n)
    assert page["no_cache"](model, prompt, n).equal(want)
    assert page["with_cache"](model, prompt, n).equal(want)
    own = page["writer"](model, weights, prompt, n)
    assert own().equal(want)
    assert own().equal(want), "第二遍：上一遍留在缓存里的不该有影响"
    together = page["writer"](model, weights, batch, n)()
    assert together[:1].equal(want)
    assert together.equal(page["reference"](model, batch, n))


@settings(max_examples=8, deadline=None)
@given(
    shape=st.sampled_from([(1, 2, 1), (2, 4, 2), (2, 3, 3), (3, 6, 2)]),
    tied=st.booleans(),
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    seed=st.integers(0, 2**16),
)
def test_own_forward_is_qwen2(page, shape, tied, lengths, seed):
    """随机的小模型，长短不一的几行：自己的前向与 generate 相同。"""
    model, inputs = tiny(*shape, tied, seed), rows(lengths, seed)
    weights, n = page["merged_weights"](model), 6
    ours = page["writer"](model, weights, inputs, n)()
    assert ours.equal(page["reference"](model, inputs, n))


def test_compiled_writes_the_same_tokens(page):
    """页面上编译过的那一个，再写两遍，与没有编译的相同。"""
    if not shutil.which(os.environ.get("CXX", "g++")):
        pytest.skip("没有 C++ 编译器 g++，编译的一级没有测")
    want = page["own"]()
    assert want.shape == (1, page["n"])
    assert page["fast"]().equal(want) and page["fast"]().equal(want)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inductor 自己的旧写法
def test_compiled_strides_write_the_same_tokens(page):
    """编译过的、几步一次的，与没有编译的相同。小模型，只编译这一次。"""
    if not shutil.which(os.environ.get("CXX", "g++")):
        pytest.skip("没有 C++ 编译器 g++，编译的几级没有测")
    model, inputs, n = tiny(), rows([3, 5]), 10
    weights = page["merged_weights"](model)
    change, stride = lambda go: page["compiled"](page["strides"](go)), page["STRIDE"]
    ours = page["writer"](model, weights, inputs, n, change, stride)
    want = page["writer"](model, weights, inputs, n)()
    assert ours().equal(want) and ours().equal(want)


@pytest.mark.gpu
def test_cuda_graph_writes_the_same_tokens(page):
    """GPU：编译、录成 CUDA graph，与没有编译的相同。"""
    model = tiny().to(page["DEVICE"])
    inputs = {k: v.to(page["DEVICE"]) for k, v in rows([3, 5]).items()}
    weights, n = page["merged_weights"](model), 10
    want = page["writer"](model, weights, inputs, n)()
    for change in (page["recorded"], lambda go: page["recorded"](page["compiled"](go))):
        ours = page["writer"](model, weights, inputs, n, change)
        assert ours().equal(want) and ours().equal(want)


GOLDEN = {"0.5b": 494_032_768, "1.5b": 1_543_714_304, "7b": 7_615_616_512}


@pytest.mark.parametrize("size, parameters", GOLDEN.items())
def test_random_model_has_the_real_shape(page, size, parameters, monkeypatch):
    """--random 在 meta 设备上搭出来：参数个数与真的 Qwen2 一样，每步读的字节也对。"""
    random_model = import_tool("ladder")["random_model"]
    monkeypatch.setattr(os, "sysconf", lambda name: 2**20)  # 内存当作 1 TB
    model, batch = random_model(size, 16, "meta")
    assert model.num_parameters() == parameters
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (16, 22)
    assert model.config.rope_parameters["rope_theta"] == 1e6
    skipped = 152_064 * 3584 if size == "7b" else 0  # 首尾不共用，嵌入只读一行
    assert page["bytes_per_step"](model) == (parameters - skipped) * 2


LOW = ["generate", "没有缓存", "有缓存", "自己的前向", "编译"]
BATCHES = ["generate 批 16", "批 16"]


def check_rungs(rungs):
    """每一级该有的都有，互相对得上。"""
    for rung in rungs:
        assert rung.keys() >= RUNG | {"device", "torch", "transformers", "date"}
        if "skipped" in rung:
            continue
        assert rung["same_tokens"] is True
        low, high = rung["tokens_per_second_range"]
        assert 0 < low <= rung["tokens_per_second"] <= high
        share = rung["tokens_per_second"] / rung["batch"] * rung["bytes_per_step"]
        assert rung["share_of_bandwidth_limit"] == pytest.approx(
            share / rung["bandwidth"], abs=1e-3
        )
    ratios = {rung["name"]: rung["ratio_to_generate"] for rung in rungs}
    assert ratios["generate"] == ratios["generate 批 16"] == 1
    batches = {rung["name"]: rung["batch"] for rung in rungs}
    assert (batches["编译"], batches["generate 批 16"], batches["批 16"]) == (1, 16, 16)


SHORT = ["--tokens", "3", "--rounds", "5"]


def test_ladder(page):
    """短的一遍，编译换成原样：各级与记下的一样多、一样的项。"""
    fake = dict(compiled=lambda go: go, bandwidth=lambda: 1e10)
    code, out, err = run_tool("ladder", "--json", *SHORT, **fake)
    assert (code, err) == (0, "")
    rungs = json.loads(out)
    assert [rung["name"] for rung in rungs] == [*LOW, "一次 4 步", *BATCHES]
    for rung, old in zip(rungs, recorded("jiezi"), strict=True):
        assert (rung["name"], list(rung)) == (old["name"], list(old))
    check_rungs(rungs)


def test_ladder_stops_at_a_wrong_token(page):
    """哪一级写出的 token 与下一级不同，就报错停下（float32）。"""
    fake = dict(
        compiled=lambda go: go,
        bandwidth=lambda: 1e10,
        with_cache=lambda model, inputs, n: page["with_cache"](model, inputs, n) + 1,
    )
    assert_one_line(run_tool("ladder", *SHORT, **fake), "「有缓存」", "不同")


def test_ladder_without_a_compiler(page):
    """编译不了，别的几级照样跑，编译那一级说为什么；不写 --json 就打印表格。"""

    def broken(go):
        def fail():
            raise RuntimeError("g++ 不在\n第二行")

        return fail

    fake = dict(compiled=broken, bandwidth=lambda: 1e10)
    code, out, err = run_tool("ladder", *SHORT, **fake)
    assert code == 0 and len(out.splitlines()) == 1 + 6
    assert re.fullmatch("跳过「编译」：.*g\\+\\+ 不在", err)


@pytest.mark.full
def test_ladder_for_real(tmp_path):
    """真的跑一遍短的：标准输出是 JSON；没有编译器时，编译那一级是空的，说了为什么。"""
    env = os.environ | {
        "MODEL": MODEL,
        "CXX": "no-such-compiler",
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path),
    }
    arguments = ["--json", "--tokens", "4", "--rounds", "5"]
    code, out, err = finish(start_script(LADDER, *arguments, cwd=ROOT, env=env))
    assert code == 0, err
    rungs = json.loads(out)
    assert [rung["name"] for rung in rungs] == [*LOW, *BATCHES]
    check_rungs(rungs)
    skipped = rungs[LOW.index("编译")]
    assert "g++" in skipped["skipped"] and skipped["tokens_per_second"] is None
    assert err == f"跳过「编译」：{skipped['skipped']}"
    assert not any("skipped" in rung for rung in rungs if rung is not skipped)


def test_import_does_not_experiment(tmp_path):
    """导入只得到函数：measured/ladder.py 要用它们。"""
    script = ROOT / "examples/generate/faster.py"
    played = play(script, [], CLEAN | {"MODEL": MODEL}, tmp_path, as_script=False)
    assert not played.failure and not any(r.out for _, r in played.results)
    assert played.namespace.keys() >= {"race", "writer", "prompt", "batch", "model"}


def recorded(model):
    record = json.loads((MEASURED / "faster.json").read_text("utf-8"))
    return [rung for rung in record if rung["model"] == model]


def test_recorded_run_is_on_the_page():
    """页面的表格逐格等于记下的那一次；记下的每一级都写出了相同的 token。"""
    rungs = recorded("jiezi")
    page = (ROOT / "docs/generate/faster.md").read_text("utf-8")
    for rung in rungs:
        assert rung["same_tokens"] is True and rung["rounds"] >= 5
        low, high = rung["tokens_per_second_range"]
        form = "{:,.0f}" if low >= 100 else "{:.1f}"
        speed, low, high = map(form.format, (rung["tokens_per_second"], low, high))
        bottom, top = rung["ratio_range"]
        ratio = f"{rung['ratio_to_generate']:.2f}"
        if not rung["name"].startswith("generate"):
            ratio += f"（{bottom:.2f}–{top:.2f}）"
        share = f"{rung['share_of_bandwidth_limit']:.0%}".replace("%", " %")
        row = f"| {rung['name']} | {speed}（{low}–{high}） | {ratio} | {share} |"
        assert row in page, row
    shared = ("device", "threads", "bandwidth", "date", "torch")
    [about] = {tuple(rung[name] for name in shared) for rung in rungs}
    device, threads, speed, day, torch_version = about
    assert f"{device}，{threads} 个线程，内存每秒读 {speed / 1e9:.1f} GB" in page
    assert day in page
    assert torch_version.split("+")[0] in page


def test_recorded_cpu_goal():
    """记下的芥子那一次：批 1 最高的一级至少是 generate 的 5 倍。"""
    single = [rung for rung in recorded("jiezi") if rung["batch"] == 1]
    assert max(rung["ratio_to_generate"] for rung in single) >= 5


def assert_one_line(result, *words):
    code, out, err = result
    assert (code, out) == (2, "") and HAN.search(err) and "\n" not in err, (
        f"退出码 {code}\n{out}\n{err}"
    )
    assert [word for word in words if word not in err] == [], err


BAD = {
    "零个 token": (["--tokens", "0"], ["--tokens 至少是 2", "0"]),
    "一个 token": (["--tokens", "1"], ["--tokens", "1"]),
    "负数个 token": (["--tokens", "-3"], ["--tokens", "-3"]),
    "半个 token": (["--tokens", "1.5"], ["参数不对", "1.5"]),
    "写出上下文": (["--tokens", "1000"], ["上下文 1024", "--tokens"]),
    "没有的大小": (["--random", "3b"], ["0.5b、1.5b、7b", "3b"]),
    "大小写错了": (["--random", "7B"], ["7b", "7B"]),
    "没写大小": (["--random"], ["参数不对", "--random"]),
    "四轮": (["--rounds", "4"], ["--rounds 至少是 5", "4"]),
    "没有的选项": (["--batch", "4"], ["参数不对", "--batch"]),
}


@pytest.mark.parametrize("args, words", BAD.values(), ids=BAD.keys())
def test_bad_arguments(args, words):
    assert_one_line(run_tool("ladder", *args), *words)


def test_bad_argument_at_once():
    """写错了参数，不必等 torch 导入就知道。"""
    code = (
        "import sys; sys.modules['torch'] = None;"
        "sys.argv = ['ladder.py', '--random', '3b'];"
        f"import runpy; runpy.run_path({str(LADDER)!r}, run_name='__main__')"
    )
    process = start_script("-c", code, cwd=ROOT, env=os.environ | {"MODEL": MODEL})
    assert_one_line(finish(process), "--random", "3b")


def test_no_room_for_a_big_model(monkeypatch):
    """内存装不下就说要多少、有多少，不等系统来杀。"""
    monkeypatch.setattr(os, "sysconf", lambda name: 2**15)  # 内存当作 1 GB
    assert_one_line(
        run_tool("ladder", "--random", "7b", "--json"), "7b", "61 GB", "1 GB"
    )


def test_help_is_chinese():
    code, out, err = run_tool("ladder", "--help")
    assert (code, err) == (0, "")
    options = re.split(r"\n  (?=-)", out.split("参数", 1)[1])[1:]
    assert len(options) == 5 and all(HAN.search(option) for option in options), out

"""KV 缓存：手写的与不用缓存、与 DynamicCache 都相同；内存的公式就是量出来的；记下的时间合乎页面所说。"""

import json
import os
import re
import runpy
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache, Qwen2Config

from tests.harness.execute import without_progress
from tests.harness.snippets import extract

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "examples/generate/kv_cache.py"
RECORD = ROOT / "examples/generate/measured/kv_cache.json"
PAGE = ROOT / "docs/generate/kv_cache.md"
QUESTIONS = ["你是谁？", "红烧肉怎么做？", "什么是因果掩码？", "hi 🙂"]
HAN = re.compile("[\u4e00-\u9fff]")


@pytest.fixture(scope="module")
def page():
    """kv_cache.py 里几节执行之后的命名空间：测的就是页面上的代码。"""
    os.chdir(ROOT)
    namespace = {"__name__": "kv_cache"}
    for name in (
        "setup",
        "load",
        "cache",
        "write",
        "measure",
        "same",
        "bytes",
        "sizes",
    ):
        exec(extract(ROOT, "generate/kv_cache.py", name)[1], namespace)
    return namespace


def encode(page, *questions):
    tokenizer = page["tokenizer"]
    tokenizer.padding_side = "left"
    return tokenizer.apply_chat_template(
        [[{"role": "user", "content": question}] for question in questions],
        add_generation_prompt=True,
        padding=True,
        return_dict=True,
        return_tensors="pt",
    )


def logits(page, batch, cache, parts):
    """把一批分几次送进模型，每次送的列数在 parts 里；返回全部位置的 logits，和最后的键与值。"""
    mask, start, found = batch.attention_mask, 0, []
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    for size in parts:
        end = start + size
        output = page["model"](
            batch.input_ids[:, start:end],
            attention_mask=mask[:, :end],
            position_ids=positions[:, start:end],
            past_key_values=cache,
            use_cache=cache is not None,
        )
        found.append(output.logits)
        start = end
    return torch.cat(found, dim=1)


@pytest.mark.parametrize("questions", [*[[q] for q in QUESTIONS], QUESTIONS[:2]])
def test_same_logits(page, questions):
    """一条，和左填充的两条；一次送一个、送几个：logits 与不用缓存、与 DynamicCache 相同。"""
    batch = encode(page, *questions)
    length, real = batch.input_ids.size(1), batch.attention_mask.bool()
    assert len(questions) == 1 or not real.all(), "要有填充"
    ours, theirs = page["KVCache"](), DynamicCache(config=page["model"].config)
    parts = [length - 6, 1, 1, 3, 1]
    with torch.inference_mode():
        whole = logits(page, batch, None, [length])[real]
        by_hand = logits(page, batch, ours, parts)[real]
        library = logits(page, batch, theirs, parts)[real]
    assert torch.allclose(by_hand, whole, atol=1e-4, rtol=0)
    assert torch.allclose(by_hand, library, atol=1e-4, rtol=0)
    assert len(ours.keys) == len(ours.values) == len(theirs.layers)
    for keys, values, layer in zip(ours.keys, ours.values, theirs.layers, strict=True):
        assert keys.equal(layer.keys) and values.equal(layer.values)


@pytest.mark.parametrize("question", QUESTIONS)
def test_same_tokens(page, question):
    """有缓存、没有缓存、generate，写出的编号相同；写多少个就是多少个。"""
    batch = encode(page, question)
    ids = batch.input_ids[0].tolist()
    cache = page["KVCache"]()
    new = page["write"](ids, cache, 12)
    assert new == page["write"](ids, None, 12)
    theirs = page["model"].generate(
        **batch, max_new_tokens=12, do_sample=False, repetition_penalty=1.0
    )
    assert new == theirs[0, len(ids) :].tolist()
    assert cache.get_seq_length() == len(ids) + len(new) - 1


def test_every_end_stops(page, monkeypatch):
    want = page["answer"]
    monkeypatch.setattr(
        page["model"].generation_config, "eos_token_id", [4095, want[3]]
    )
    assert page["write"](page["prompt"], page["KVCache"]()) == want[:4]


def test_crop_takes_back(page):
    """裁掉几个之后，与从没送过它们一样，一位不差；与 DynamicCache 的 crop 相同。"""
    prompt, answer, next_token = page["prompt"], page["answer"], page["next_token"]
    cache, clean = page["KVCache"](), page["KVCache"]()
    library = DynamicCache(config=page["model"].config)
    for each in (cache, library):
        next_token(prompt + answer[:3], each)
        next_token([100, 101], each)
        each.crop(-2)
    next_token(prompt + answer[:3], clean)
    for n, layer in enumerate(library.layers):
        assert cache.keys[n].equal(clean.keys[n]) and cache.keys[n].equal(layer.keys)
        assert cache.values[n].equal(clean.values[n])
        assert cache.values[n].equal(layer.values)
    assert page["write"]([answer[3]], cache) == answer[4:]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_formula_is_what_is_stored(page, dtype):
    """0.5B 的注意力形状，随机的权重，真的占内存：存下的字节数与公式、与 DynamicCache 相同。"""
    config = Qwen2Config(
        num_hidden_layers=24,
        hidden_size=896,
        num_attention_heads=14,
        num_key_value_heads=2,
        intermediate_size=8,
        vocab_size=8,
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model = model.to_empty(device="cpu").eval()  # 权重是什么都行
    cache, library = page["KVCache"](), DynamicCache(config=config)
    with torch.inference_mode():
        for each in (cache, library):
            for count in (5, 1):
                ids = torch.zeros(3, count, dtype=torch.long)
                model(ids, past_key_values=each)
    stored = sum(tensor.nbytes for tensor in cache.keys + cache.values)
    theirs = sum(layer.keys.nbytes + layer.values.nbytes for layer in library.layers)
    assert stored == theirs == page["cache_bytes"](config, 3 * 6, dtype)
    assert cache.keys[0].shape == (3, 2, 6, 64)


def test_golden_sizes(page):
    """每个 token 的字节数，bf16；页面上的芥子就是 examples/jiezi 的形状。"""
    small, half, seven = page["configs"].values()
    cache_bytes = page["cache_bytes"]
    assert [cache_bytes(c) for c in (small, half, seven)] == [1024, 12_288, 57_344]
    assert cache_bytes(half, 32_768) == 384 * 2**20
    real = AutoConfig.from_pretrained(ROOT / "examples/jiezi")
    for name in ("num_hidden_layers", "hidden_size", "num_attention_heads"):
        assert getattr(small, name) == getattr(real, name)
    assert small.num_key_value_heads == real.num_key_value_heads


def test_recorded_times():
    """记下的那一次：没有缓存，400 个处是 50 个处的两倍以上；有缓存，不超过 1.3 倍。"""
    record = json.loads(RECORD.read_text("utf-8"))
    lengths, without, cached = (
        record[key] for key in ("lengths", "without_ms", "with_ms")
    )
    assert len(lengths) == len(without) == len(cached)
    assert lengths == sorted(set(lengths)) and record["rounds"] >= 5
    near, far = lengths.index(50), lengths.index(400)
    assert without[far] / without[near] >= 2
    assert cached[far] / cached[near] <= 1.3
    assert all(a > b > 0 for a, b in zip(without, cached, strict=True))


def test_page_quotes_the_record():
    """图注里的设备、版本、日期和倍数，就是记下的。"""
    record, text = json.loads(RECORD.read_text("utf-8")), PAGE.read_text("utf-8")
    [caption] = re.findall(r"<figcaption>前面有多少个.*?</figcaption>", text)
    for key in ("device", "transformers", "date", "rounds", "threads"):
        assert str(record[key]) in caption, key
    assert record["torch"].split("+")[0] in caption
    near, far = (record["lengths"].index(n) for n in (50, 400))
    ratios = [record[key][far] / record[key][near] for key in ("without_ms", "with_ms")]
    assert f"没有缓存是 {ratios[0]:.1f} 倍，有缓存是 {ratios[1]:.2f} 倍" in text


def test_measure_times_every_length(page):
    """每种长度一对毫秒数，都是正的；前面长，没有缓存就慢。"""
    times = page["measure"]([3, 600], rounds=5)
    assert list(times) == [3, 600]
    assert all(ms > 0 for pair in times.values() for ms in pair)
    assert times[600][0] > times[3][0]


@pytest.fixture
def run_here(monkeypatch, capsys):
    """在本进程里把脚本整个跑一遍。"""

    def run(*args, **env):
        for key, value in env.items():
            monkeypatch.setenv(key, value)
        monkeypatch.setattr(sys, "argv", ["kv_cache.py", *args])
        monkeypatch.chdir(ROOT)
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        out, err = capsys.readouterr()
        return stopped.value.code or 0, out, without_progress(err)

    return run


BAD = {
    "没有的选项": (["--length", "5"], "参数不对"),
    "缺了文件名": (["--json"], "参数不对"),
    "空的文件名": (["--json", ""], "文件名"),
    "是个文件夹": (["--json", "docs"], "docs"),
    "文件夹不在": (["--json", "没有/x.json"], "没有/x.json"),
    "轮数不是数": (["--json", "x.json", "--rounds", "多"], "参数不对"),
    "轮数太少": (["--json", "x.json", "--rounds", "4"], "--rounds 至少是 5"),
    "只有轮数": (["--rounds", "7"], "--json"),
}


@pytest.mark.parametrize("args, word", BAD.values(), ids=BAD.keys())
def test_bad_arguments(args, word, run_here):
    code, out, err = run_here(*args)
    assert (code, out) == (2, "") and word in err and HAN.search(err)
    assert "\n" not in err, err


@pytest.mark.parametrize(
    "env, word", [({"MODEL": "没有"}, "MODEL"), ({"DEVICE": "tpu"}, "用不了设备 tpu")]
)
def test_bad_surroundings(env, word, run_here):
    code, out, err = run_here(**env)
    assert (code, out) == (2, "") and word in err and "\n" not in err


def test_help_is_chinese(run_here):
    code, out, err = run_here("--help")
    assert (code, err) == (0, "")
    options = re.split(r"\n  (?=-)", out.split("参数", 1)[1])[1:]
    assert len(options) == 3 and all(HAN.search(option) for option in options), out


def test_json_is_written(tmp_path, monkeypatch):
    """--json 写下的文件，各项与仓库里记的那份一样多；中位数由 measure 给。"""
    monkeypatch.setattr(
        sys, "argv", ["kv_cache.py", "--json", str(tmp_path / "x"), "--rounds", "5"]
    )
    monkeypatch.chdir(ROOT)
    code = SCRIPT.read_text("utf-8").replace(
        "range(50, min(800, context) + 1, 50)", "(3, 4)"
    )
    assert "(3, 4)" in code
    with pytest.raises(SystemExit) as stopped:
        exec(compile(code, str(SCRIPT), "exec"), {"__name__": "__main__"})
    assert not stopped.value.code
    written = json.loads((tmp_path / "x").read_text("utf-8"))
    assert list(written) == list(json.loads(RECORD.read_text("utf-8")))
    assert written["lengths"] == [3, 4] and written["rounds"] == 5

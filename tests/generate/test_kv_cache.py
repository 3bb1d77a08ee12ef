"""KV 缓存：手写的与不用缓存、与 DynamicCache 都相同；内存的公式就是量出来的；记下的时间合乎页面所说。"""

import json
import re

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache, Qwen2Config

from tests.generate.tools import MEASURED, run_tool
from tests.harness import session
from tests.harness.session import CLEAN, ROOT, play

RECORD = MEASURED / "kv_cache.json"
PAGE = ROOT / "docs/generate/kv_cache.md"
QUESTIONS = ["你是谁？", "红烧肉怎么做？", "什么是因果掩码？", "hi 🙂"]
HAN = re.compile("[\u4e00-\u9fff]")


@pytest.fixture(scope="module")
def page():
    return session.page("generate/kv_cache")


def encode(page, *questions):
    return page["tokenizer"].apply_chat_template(
        [[{"role": "user", "content": question}] for question in questions],
        add_generation_prompt=True,
        padding=True,
        return_dict=True,
        return_tensors="pt",
        tokenizer_kwargs={"padding_side": "left"},
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


@pytest.mark.parametrize("several", [True, False])
def test_every_end_stops(page, monkeypatch, several):
    """结束符可以有几个，也可以只有一个；碰到哪个都停。"""
    want, config = page["answer"], page["model"].generation_config
    last = next(n for n in range(3, len(want) - 1) if want[n] not in want[:n])
    ends = [page["tokenizer"].eos_token_id, want[last]]
    monkeypatch.setattr(config, "eos_token_id", ends if several else want[last])
    assert page["write"](page["prompt"], page["KVCache"]()) == want[: last + 1]


def test_crop_takes_back(page):
    """裁掉几个之后，与从没送过它们一样，一位不差；与 DynamicCache 的 crop 相同。"""
    prompt, answer, most_likely = page["prompt"], page["answer"], page["most_likely"]
    cache, clean = page["KVCache"](), page["KVCache"]()
    library = DynamicCache(config=page["model"].config)
    for each in (cache, library):
        most_likely(prompt + answer[:3], each)
        most_likely([100, 101], each)
        each.crop(-2)
        each.crop(0)  # 不去掉谁
    most_likely(prompt + answer[:3], clean)
    for n, layer in enumerate(library.layers):
        assert cache.keys[n].equal(clean.keys[n]) and cache.keys[n].equal(layer.keys)
        assert cache.values[n].equal(clean.values[n])
        assert cache.values[n].equal(layer.values)
    assert page["write"]([answer[3]], cache) == answer[4:]


def test_page_shows_what_forgetting_to_crop_does(page):
    """页面最后的例子：裁了，与原来一样；没裁，写出的不同。"""
    answer, cache = page["answer"], page["KVCache"]()
    page["most_likely"](page["prompt"] + answer[:3] + page["wrong"], cache)
    assert page["write"]([answer[3]], cache) != answer[4:]


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


def test_import_does_not_experiment(tmp_path):
    """导入只得到函数：measured/kv_time.py 要用它们。"""
    script = ROOT / "examples/generate/kv_cache.py"
    env = CLEAN | {"MODEL": str(ROOT / "examples/jiezi")}
    played = play(script, [], env, tmp_path, as_script=False)
    assert not played.failure and not any(r.out for _, r in played.results)
    assert played.namespace.keys() >= {"measure", "model", "DEVICE"}


BAD = {
    "没有的选项": (["--length", "5"], "参数不对"),
    "轮数不是数": (["--rounds", "多"], "参数不对"),
    "轮数太少": (["--json", "--rounds", "4"], "--rounds 至少是 5"),
    "多写了文件名": (["--json", "x.json"], "x.json"),
}


@pytest.mark.parametrize("args, word", BAD.values(), ids=BAD.keys())
def test_bad_arguments(args, word):
    code, out, err = run_tool("kv_time", *args)
    assert (code, out) == (2, "") and word in err and HAN.search(err)
    assert "\n" not in err, err


def test_help_is_chinese():
    code, out, err = run_tool("kv_time", "--help")
    assert (code, err) == (0, "")
    options = re.split(r"\n  (?=-)", out.split("参数", 1)[1])[1:]
    assert len(options) == 3 and all(HAN.search(option) for option in options), out


def test_tool_prints_what_is_recorded(page):
    """--json 打印的，各项、各种长度与仓库里记的那份一样；中位数由 measure 给。"""
    record, asked = json.loads(RECORD.read_text("utf-8")), []

    def measure(lengths, rounds):
        asked.append((list(lengths), rounds))
        return page["measure"]([3, 4], rounds)

    code, out, err = run_tool("kv_time", "--json", "--rounds", "5", measure=measure)
    assert (code, err) == (0, "")
    printed = json.loads(out)
    assert list(printed) == list(record)
    assert out.count("\n") == len(record) + 2  # 一行一项
    assert printed["lengths"] == [3, 4] and printed["rounds"] == 5
    code, table, err = run_tool("kv_time", "--rounds", "6", measure=measure)
    assert (code, err) == (0, "") and len(table.splitlines()) == 3
    assert asked == [(record["lengths"], 5), (record["lengths"], 6)]

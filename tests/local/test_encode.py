"""序列化：页面上的 bpe 与 Qwen2 真正的分词器切得一样；原教程的编号、词表和文件大小都对得上。"""

import json
import os
import struct
from pathlib import Path

import dashscope
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from tests.harness import session
from tests.harness.pages import fences

ROOT = Path(__file__).resolve().parents[2]
MODEL = str(ROOT / os.environ.get("MODEL", "examples/jiezi"))
PROMPT = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n详细介绍下你自己。<|im_end|>\n<|im_start|>assistant\n"
)
PROMPT_IDS = """
151644 8948 198 2610 525 264 10950 17847 13 151645 198
151644 872 198 113511 16872 107828 1773 151645 198 151644 77091 198
"""
PROMPT_IDS = [int(i) for i in PROMPT_IDS.split()]
ANSWER_IDS = """
104198 101919 102661 99718 104197 100176 102064 104949 3837
35946 99882 31935 64559 99320 56007 1773 151645
"""
ANSWER_IDS = [int(i) for i in ANSWER_IDS.split()]
QWEN2 = {
    "0.5B": dict(
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
    )
    | dict(num_key_value_heads=2, vocab_size=151_936, tie_word_embeddings=True),
    "7B": dict(
        hidden_size=3584,
        intermediate_size=18_944,
        num_hidden_layers=28,
        num_attention_heads=28,
    )
    | dict(num_key_value_heads=4, vocab_size=152_064, tie_word_embeddings=False),
}

qwen = dashscope.get_tokenizer("qwen-7b-chat")


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(MODEL)


@pytest.fixture(scope="module")
def page():
    return session.page("local/encode")


@pytest.fixture(scope="module")
def encode(page, tokenizer):
    """用页面上的 bpe 和本站模型自己的预分词，切 Qwen2 的词表。"""
    split = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str
    normalize = tokenizer.backend_tokenizer.normalizer.normalize_str
    ranks, bpe = page["ranks"], page["bpe"]

    def encode(text):
        text = normalize(text)
        pieces = [text[start:end] for _, (start, end) in split(text)]
        return [ranks[part] for piece in pieces for part in list(bpe(piece, ranks))[-1]]

    return encode


# bpe


CHINESE = st.text(
    st.characters(min_codepoint=0x4E00, max_codepoint=0x9FA5), min_size=1, max_size=8
)
LATIN = st.text(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZéüñß'", min_size=1, max_size=12
)
WORDS = st.sampled_from(
    "token congratulation don't I'LL softmax past_key_values 详细 你自己 早点 龘罅 e\u0301 한국어 кот".split()
)
EMOJI = st.text("😀🎉👍🏽👨\u200d👩\u200d👧🇨🇳❤️✓", min_size=1, max_size=4)
NUMBER = st.integers(0, 10**9).map(str) | st.text(
    "０１２３½²Ⅷ一二三", min_size=1, max_size=4
)
MARKS = st.text(" \t\n\r，。！？「」、…,.!?'\"()<>|_-\u3000", min_size=1, max_size=4)
TEXT = st.lists(CHINESE | LATIN | WORDS | EMOJI | NUMBER | MARKS, max_size=8).map(
    "".join
)


@settings(max_examples=400, deadline=None)
@given(text=TEXT)
def test_bpe_equals_qwen2(encode, text):
    assert encode(text) == qwen.encode(text, allowed_special=set())


def test_bpe_equals_qwen2_on_the_corpus(encode):
    files = sorted((ROOT / "examples/train/corpus").glob("*.txt"))
    lines = [
        line.partition("：")
        for file in files
        for line in file.read_text("utf-8").splitlines()
    ]
    texts = [text for name, _, text in lines if name == "问"][::20] + [
        text for name, _, text in lines if name in ("答", "又")
    ]
    assert len(texts) > 500
    assert [
        text
        for text in texts
        if encode(text) != qwen.encode(text, allowed_special=set())
    ] == []


def test_bpe_yields_every_merge(page):
    steps = list(page["bpe"]("congratulation", page["ranks"]))
    assert steps[-1] == [b"con", b"gr", b"at", b"ulation"]
    assert [len(step) for step in steps] == [*range(14, 3, -1)]
    assert {b"".join(step) for step in steps} == {b"congratulation"}
    assert list(page["bpe"]("", page["ranks"])) == [[]]


# 原教程的编号


def test_golden_ids():
    assert qwen.encode(PROMPT) == PROMPT_IDS
    assert qwen.decode(PROMPT_IDS) == PROMPT
    assert (
        qwen.decode(ANSWER_IDS)
        == "我是来自阿里云的大规模语言模型，我叫通义千问。<|im_end|>"
    )
    assert [qwen.decode([i]) for i in qwen.encode("congratulation")] == [
        "con",
        "gr",
        "at",
        "ulation",
    ]


def test_prompt_of_this_model_is_the_same_text(tokenizer):
    messages = [{"role": "user", "content": "详细介绍下你自己。"}]
    assert (
        tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        == PROMPT
    )


def test_vocabulary(page):
    assert sorted(page["ranks"].values()) == list(range(151_643))
    assert [
        qwen.encode(s) for s in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    ] == [[151643], [151644], [151645]]
    assert all(bytes([b]) in page["ranks"] for b in range(256))


# 字节级


def test_bytes_are_shown_as_characters(tokenizer):
    [(shown, _)] = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("详")
    assert shown == "è¯¦" and "详".encode() == b"\xe8\xaf\xa6"
    assert "".join(tokenizer.tokenize("详细")) == "è¯¦ç»Ĩ"
    assert tokenizer.backend_tokenizer.decoder.decode(["è¯¦"]) == "详"


@settings(max_examples=200, deadline=None)
@given(text=TEXT)
def test_nothing_is_lost(tokenizer, text):
    ids = tokenizer(text).input_ids
    assert tokenizer.decode(
        ids
    ) == tokenizer.backend_tokenizer.normalizer.normalize_str(text)
    assert all(i < tokenizer.convert_tokens_to_ids("<|endoftext|>") for i in ids)


# 行数、参数个数、文件大小


def build(size):
    """只有形状、没有数的 Qwen2。"""
    with torch.device("meta"):
        return Qwen2ForCausalLM(Qwen2Config(**QWEN2[size]))


def test_counts_from_the_config():
    assert Qwen2Config().vocab_size == 151_936
    assert build("0.5B").num_parameters() == 494_032_768
    assert build("7B").num_parameters() == 7_615_616_512


def header(parameters):
    """safetensors 的文件头：8 字节长度，加一段补空格到 8 的倍数的 JSON；bfloat16，按名字排列。"""
    described, start = {"__metadata__": {"format": "pt"}}, 0
    for name, p in sorted(parameters):
        end = start + 2 * p.numel()
        described[name] = {
            "dtype": "BF16",
            "shape": list(p.shape),
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(described, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def test_header_is_what_safetensors_writes(tmp_path):
    """自己拼的文件头与 safetensors 库写的逐字节相同，所以 1 GB 的文件不必真的写出来。"""
    small = Qwen2Config(
        **QWEN2["0.5B"] | dict(hidden_size=28, intermediate_size=32, vocab_size=64)
    )
    model = Qwen2ForCausalLM(small).to(torch.bfloat16)
    save_file(
        dict(model.named_parameters()), tmp_path / "a.safetensors", {"format": "pt"}
    )
    written, mine = (
        (tmp_path / "a.safetensors").read_bytes(),
        header(model.named_parameters()),
    )
    assert (
        written[: len(mine)] == mine
        and len(written) == len(mine) + 2 * model.num_parameters()
    )


def test_file_size_of_qwen2():
    model = build("0.5B")
    assert "lm_head.weight" not in dict(
        model.named_parameters()
    )  # 与嵌入共用，只存一份
    assert len(header(model.named_parameters())) == 32_288
    assert 2 * model.num_parameters() + 32_288 == 988_097_824


def test_file_size_of_this_model():
    with open(f"{MODEL}/model.safetensors", "rb") as file:
        length = 8 + int.from_bytes(file.read(8), "little")
    config = Qwen2Config.from_pretrained(MODEL)
    with torch.device("meta"):
        count = Qwen2ForCausalLM(config).num_parameters()
    assert os.path.getsize(f"{MODEL}/model.safetensors") == length + 2 * count


# 页面上属于 Qwen2 的两栏：没有它的权重，也能逐个数地核对


def test_qwen2_tabs_on_the_pages():
    tabs = [
        (path.name, fence.body.strip())
        for path in sorted((ROOT / "docs/local").glob("*.md"))
        for fence in fences(path.read_text("utf-8"))
        if fence.role == "output" and fence.for_model == "Qwen2-0.5B-Instruct"
    ]
    model = build("0.5B")
    count, head = model.num_parameters(), len(header(model.named_parameters()))
    size = f"""\
参数        {count:>13,} 个
每个 2 字节 {count * 2:>13,} 字节
文件头      {head:>13,} 字节
相加        {count * 2 + head:>13,} 字节
文件实际    {988_097_824:>13,} 字节"""
    assert tabs == [("encode.md", str(qwen.encode(PROMPT))), ("load.md", size)]

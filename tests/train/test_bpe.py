"""分词器：自己写的训练与切分，和 tokenizers 库逐条相同；页面上的数另算一遍。"""

import copy
import json
import random
import re
from pathlib import Path
from xml.etree import ElementTree

import corpus
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer import PATTERN
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM

from tests.harness import session

ROOT = Path(__file__).resolve().parents[2]
FIGURE = ROOT / "docs/assets/figures/vocab-size.svg"
# 字少、重复多：并列多，同一对也常常首尾相接
TEXT = st.text("aab模型的模，。 12\n", min_size=1, max_size=30)


@pytest.fixture(scope="module")
def page():
    return session.page("train/bpe")


def train(texts, vocab_size):
    """库的分词器，与页面上的设置无关地另建一个：正则取自真正的训练脚本。"""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return backend


def assert_same(page, texts, vocab_size, sentences):
    """合并、编号、切法都与库的相同。"""
    backend, spell = train(texts, vocab_size), page["spell"]
    merges, vocab = page["train_bpe"](texts, vocab_size)
    expected = json.loads(backend.to_str())["model"]["merges"]
    assert [[spell(left), spell(right)] for left, right, _ in merges] == expected
    assert {spell(token): i for token, i in vocab.items()} == backend.get_vocab()
    for text in sentences:
        tokens = page["segment"](text, merges)
        assert b"".join(tokens) == text.encode()
        assert [vocab[token] for token in tokens] == backend.encode(text).ids


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(TEXT, min_size=1, max_size=6), sentence=TEXT)
def test_equals_the_library(page, texts, sentence):
    assert_same(page, texts, 256 + 40, [*texts, sentence])


def test_equals_the_library_on_the_page(page):
    sentences = page["TEXTS"] + page["UNSEEN"] + ["龘 token，don't 2024"]
    assert_same(page, page["clauses"], 256 + 800, sentences)
    assert_same(page, page["TEXTS"], 256 + 200, sentences)


def test_stops_when_nothing_is_left(page):
    assert_same(page, ["模型"], 1000, ["模型型"])
    merges, vocab = page["train_bpe"](["模型"], 1000)
    assert len(merges) == 5 and len(vocab) == 261  # 六个字节，合五次


def test_counts_are_counts_of_bytes(page):
    """头一次合并的次数，从原文的字节里直接数得出。"""
    left, right, count = page["merges"][0]
    texts = [text.encode() for text in page["clauses"]]
    assert len(left + right) == 2
    assert sum(text.count(left + right) for text in texts) == count
    counts = [count for *_, count in page["merges"]]
    assert counts == sorted(counts, reverse=True)


def test_sentences_are_from_the_corpus(page):
    answers = {text for e in corpus.entries() for text in e.answers}
    assert [t for t in page["TEXTS"] + page["UNSEEN"] if t not in answers] == []
    assert not set(page["TEXTS"]) & set(page["UNSEEN"])
    # 中文标点与训练芥子时断开的相同
    source = (ROOT / "examples/train/tokenizer.py").read_text("utf-8")
    assert f"(?<=[{page['MARKS']}])|(?=[{page['MARKS']}])" in source


def test_curve_and_figure(page):
    """每个点与库另训练一个那么大的分词器时的相同；图上的点落在这些数上。"""
    for size, *ratios in page["curve"]:
        backend = train(page["clauses"], size)
        assert backend.get_vocab_size() == size
        for texts, ratio in zip((page["TEXTS"], page["UNSEEN"]), ratios, strict=True):
            tokens = sum(len(backend.encode(text).ids) for text in texts)
            assert ratio == pytest.approx(tokens / len("".join(texts)))
    root = ElementTree.parse(FIGURE).getroot()
    texts = [(e.attrib, "".join(e.itertext())) for e in root.iter("text")]
    marks = [(float(a["x"]), float(a["y"]), int(t)) for a, t in texts if t.isdigit()]
    ys = {n: y - 4.5 for x, y, n in marks if x == marks[0][0]}
    xs = {n: x for x, y, n in marks if x != marks[0][0]}
    low, high = min(xs), max(xs)
    assert (low, high) == (256, 1056)
    curves = [
        [tuple(map(float, point.split(","))) for point in e.get("points").split()]
        for e in root.iter("polyline")
    ]
    for column, points in zip((2, 1), curves, strict=True):
        for row, (x, y) in zip(page["curve"], points, strict=True):
            across = (row[0] - low) / (high - low)
            assert x == pytest.approx(xs[low] + across * (xs[high] - xs[low]), abs=0.1)
            assert y == pytest.approx(ys[0] + row[column] * (ys[1] - ys[0]), abs=0.1)


def test_embedding_share(page):
    """占比与真的建一个那么大的模型时相同。"""
    result = session.run(ROOT, "train/bpe.py").section("embedding")
    rows = re.findall(
        r"词表 +([\d,]+)  嵌入表 +([\d,]+) 个，占全部参数的 ([\d.]+)%", result.out
    )
    config = copy.deepcopy(page["model"].config)
    config.pad_token_id = None  # 256 行的表里没有它
    assert len(rows) == 4
    for size, table, share in rows:
        size, table = (int(n.replace(",", "")) for n in (size, table))
        config.vocab_size = size
        with torch.device("meta"):
            built = AutoModelForCausalLM.from_config(config)
        assert table == built.get_input_embeddings().weight.numel()
        expected = 100 * table / built.num_parameters()
        assert float(share) == pytest.approx(expected, abs=0.06)


def test_mixed(page):
    assert page["mixed"](["，", "，，", "这", "这，", "，这", "a，", ""]) == [
        "这，",
        "，这",
        "a，",
    ]


@pytest.mark.parametrize("text", ["为什么要用左填充？", "龘 token，don't 2024", ""])
def test_split_randomly(page, text):
    """总能还原；0 是整句编码，1 是逐字编码，中间的切法不止一种。"""
    split, tokenizer = page["split_randomly"], page["tokenizer"]
    whole = tokenizer(text).input_ids
    by_char = [i for char in text for i in tokenizer(char).input_ids]
    assert split(text, 0.0, random.Random(0)) == whole
    assert split(text, 1.0, random.Random(0)) == by_char
    some = [split(text, 0.5, random.Random(n)) for n in range(20)]
    assert {tokenizer.decode(ids) for ids in some} == {text}
    assert len({tuple(ids) for ids in some}) > 2 or not text

"""流式：手写的不露半个字、不多扣一个字，接起来与解码相同；与库的先后；SSE 来回一趟不变样。"""

import json
import queue
from itertools import islice
from pathlib import Path
from threading import Event, Thread

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import TextIteratorStreamer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from tests.harness import session
from tests.harness.execute import fresh_start

ROOT = Path(__file__).resolve().parents[2]
HALF = "\N{REPLACEMENT CHARACTER}"
CJK = st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF)
EMOJI = st.sampled_from(
    ["😀", "👍🏽", "👨\u200d👩\u200d👧", "🇨🇳", "é", "e\u0301", "カ", "\u3099", HALF]
)
WORDS = st.sampled_from([" ", "\n", "token", " is", "，", "。", "\u2028", "\r\n", "\0"])
TEXT = st.lists(st.text() | st.text(CJK, max_size=4) | EMOJI | WORDS, max_size=8)
TEXT = TEXT.map("".join)
IDS = st.lists(st.integers(0, 4092), max_size=30)


@pytest.fixture(scope="module")
def page():
    return session.page("generate/streaming")


@pytest.fixture(scope="module")
def chunks(page):
    """编号 → 字节：(用芥子词表切，用 Qwen2 词表切)，各返回 (编号, 字节串的列表)。"""

    def jiezi(text):
        ids = page["tokenizer"](text).input_ids
        return ids, [page["token_bytes"](page["tokenizer"], i) for i in ids]

    def qwen(text):
        ids = page["qwen"].encode(text, allowed_special=set())
        return ids, [page["qwen_bytes"][i] for i in ids]

    return jiezi, qwen


# 手写的


@settings(max_examples=120, deadline=None)
@given(text=TEXT)
def test_any_text_comes_out_whole(page, chunks, text):
    """芥子的词表：接起来等于解码；没有空的，没有半个字。"""
    ids, _ = chunks[0](text)
    pieces = list(page["stream_ids"](page["tokenizer"], ids))
    whole = page["tokenizer"].decode(ids)
    assert "".join(pieces) == whole and all(pieces)
    assert "".join(pieces).count(HALF) == whole.count(HALF) == text.count(HALF)


@settings(max_examples=120, deadline=None)
@given(text=TEXT)
def test_any_text_in_qwen2_tokens(page, chunks, text):
    _, pieces = chunks[1](text)
    out = "".join(page["stream"](pieces))
    assert out == page["qwen"].decode(page["qwen"].encode(text, allowed_special=set()))
    assert out.count(HALF) == text.count(HALF)


@settings(max_examples=120, deadline=None)
@given(text=TEXT)
def test_nothing_is_held_longer_than_needed(page, chunks, text):
    """每来一个 token，能显示的都显示了：给出的正是到此为止的字节里完整的那些字。"""
    for split in chunks:
        _, pieces = split(text)
        given_out, arrived = "", b""
        for piece, chunk in zip(page["stream"](pieces), pieces, strict=False):
            given_out, arrived = given_out + piece, arrived + chunk
            assert given_out == arrived.decode("utf-8", "ignore")


@settings(max_examples=200, deadline=None)
@given(ids=IDS)
def test_broken_bytes_are_shown_as_decode_shows_them(page, ids):
    """模型可能写出不成字的字节：� 的个数和位置与一起解码相同。"""
    pieces = page["stream_ids"](page["tokenizer"], ids)
    assert "".join(pieces) == page["tokenizer"].decode(ids)


def test_borrowed_characters(page):
    assert page["BYTES"] == {char: b for b, char in bytes_to_unicode().items()}
    tokenizer = page["tokenizer"]
    for i in tokenizer.all_special_ids:
        assert page["token_bytes"](tokenizer, i) == b""
    assert all(
        page["token_bytes"](tokenizer, i)
        for i in set(tokenizer.get_vocab().values()) - {*tokenizer.all_special_ids}
    )


# 库的


@settings(max_examples=100, deadline=None)
@given(text=TEXT)
def test_library_is_never_earlier(page, chunks, text):
    """两种词表：库也不露半个字，接起来相同，只是从不更早。"""
    for (ids, pieces), decoder in (
        (chunks[0](text), page["tokenizer"]),
        (chunks[1](text), page["qwen"]),
    ):
        library, hand = page["by_library"](decoder, ids), [*page["stream"](pieces)]
        assert "".join(library) == "".join(hand)
        assert len(library) == len(hand) == len(ids) + 1
        shown = ""
        for late, early in zip(library, hand, strict=True):
            shown += early
            assert late in shown
            shown = shown.removeprefix(late)


def test_library_rules_the_page_names(page):
    """换行全给、汉字全给、否则给到最后一个空格。"""
    by_library, qwen = page["by_library"], page["qwen"]
    for text, held in (
        ("好", ""),
        ("好，", "，"),
        ("a b", " b"),
        ("https://a.cn/b", "https://a.cn/b"),
        ("a.b\n", ""),
        ("カ", "カ"),
        ("🎉", "🎉"),
    ):
        *_, last = by_library(qwen, qwen.encode(text))
        assert last.strip() == held.strip(), text


def test_nobody_answers(page):
    """线程里没有人往队列里放：到了 timeout 抛 queue.Empty。"""
    with pytest.raises(queue.Empty):
        next(TextIteratorStreamer(page["tokenizer"], timeout=0.01))


def test_stopping_criteria_stops_the_thread(page):
    """页面说的 stopping_criteria：人走了，线程也停。"""
    gone = Event()
    streamer = TextIteratorStreamer(page["tokenizer"], skip_prompt=True, timeout=60)
    output = []

    def work():
        stop = [lambda ids, scores, **_: torch.tensor([gone.is_set()])]
        settings_ = {**page["inputs"], **page["settings"], "stopping_criteria": stop}
        output.append(page["model"].generate(**settings_, streamer=streamer))

    gone.set()
    thread = Thread(target=work)
    thread.start()
    thread.join(60)
    assert output[0].size(1) == page["inputs"].input_ids.size(1) + 1
    assert list(streamer)[0] == ""


# 接上循环


@pytest.mark.parametrize("question", ["你是谁？", "什么是字节？", "写一个龘字"])
def test_loop_equals_generate(page, question):
    inputs = page["tokenizer"].apply_chat_template(
        [{"role": "user", "content": question}],
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
    )
    fresh_start()
    output = page["model"].generate(**inputs, **page["settings"])
    want = output[0, inputs.input_ids.size(1) :].tolist()
    assert list(page["generate_ids"](inputs.input_ids)) == want
    assert list(page["generate_ids"](inputs.input_ids, 5)) == want[:5]
    text = "".join(page["stream_ids"](page["tokenizer"], want))
    assert text == page["tokenizer"].decode(want, skip_special_tokens=True)


def test_leaving_early_costs_nothing(page):
    passes, taken = [], []
    hook = page["model"].register_forward_hook(lambda *_: passes.append(1))
    ids = page["generate_ids"](page["inputs"].input_ids)
    noted = (taken.append(i) or i for i in ids)
    pieces = page["stream_ids"](page["tokenizer"], noted)
    assert passes == []
    shown = list(islice(pieces, 3))  # 一个字可能分在几个 token 里，前向可以多于三次
    hook.remove()
    assert len(shown) == 3 <= len(passes) == len(taken) < len(page["answer"])
    assert "".join(shown) == page["tokenizer"].decode(taken)
    assert taken == page["answer"][: len(taken)]
    before = page["stream_ids"](page["tokenizer"], taken[:-1])
    assert len([piece for piece in before if HALF not in piece]) == 2


@pytest.mark.parametrize("many", [False, True])
def test_every_end_stops_the_loop(page, monkeypatch, many):
    """结束符写成一个数、写成几个，都认。"""
    answer, config = page["answer"], page["model"].generation_config
    n = next(n for n in range(4, len(answer)) if answer[n] not in answer[:n])
    monkeypatch.setattr(
        config, "eos_token_id", [4095, answer[n]] if many else answer[n]
    )
    assert list(page["generate_ids"](page["inputs"].input_ids)) == answer[: n + 1]


# 网络


@settings(max_examples=120, deadline=None)
@given(pieces=st.lists(TEXT))
def test_events_round_trip(page, pieces):
    """片段里有换行、U+2028、`data: `、`[DONE]` 都不要紧。"""
    sent = "".join(page["events"](pieces))
    assert list(page["received"](sent.split("\n"))) == pieces
    assert sent.count("\n\n") == len(pieces) + 1 and "\n\n\n" not in sent
    sent.encode()


def test_splitlines_would_break_it(page):
    [event, _] = page["events"](["一\u2028二"])
    assert len(event.splitlines()) > 2
    with pytest.raises(json.JSONDecodeError):
        list(page["received"](event.splitlines()))

"""循环的几个零件：挑 token、打字机、候选、一次算完等于一步一步。"""

from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tests.harness import session

FAST = settings(max_examples=60, deadline=None)


@pytest.fixture(scope="module")
def loop():
    return session.page("generate/loop")


@FAST
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 4),
    shift=st.sampled_from([-20.0, 0.0, 20.0]),  # 全是负的，有正有负，全是正的
    temperature=st.sampled_from([0.0, 0.3, 0.7, 1.0, 2.0]),
    top_k=st.sampled_from([None, 1, 3, 20, 99]),
    top_p=st.sampled_from([0.05, 0.5, 0.8, 0.99, 1.0]),
    penalty=st.sampled_from([0.5, 1.0, 1.1, 2.0, 3.0]),
)
def test_pick(loop, seed, rows, shift, temperature, top_k, top_p, penalty):
    """与 transformers 的几个 processor 连起来相同：贪心挑中的、采样用的概率、抽中的；填充不算出现过。"""
    torch.manual_seed(seed)
    logits = torch.randn(rows, 30).mul(4).add(shift).round(decimals=1)  # 有并列
    ids, padding = torch.randint(30, (rows, 8)), torch.randint(8, (rows,))
    mask = (torch.arange(8) >= padding[:, None]).long()
    chain = LogitsProcessorList()
    if penalty != 1:
        chain.append(
            RepetitionPenaltyLogitsProcessor(penalty, prompt_ignore_length=padding)
        )
    if temperature:
        chain.append(TemperatureLogitsWarper(temperature))
        if top_k:
            chain.append(TopKLogitsWarper(top_k))
        if top_p < 1:
            chain.append(TopPLogitsWarper(top_p))
    scores, before = chain(ids, logits.clone()), logits.clone()
    with mock.patch("torch.multinomial", wraps=torch.multinomial) as multinomial:
        got = loop["pick"](logits, ids, mask, temperature, top_k, top_p, penalty)
    assert logits.equal(before)
    if temperature:
        [(probs, _)] = [call.args for call in multinomial.call_args_list]
        assert probs.equal(scores.softmax(-1))
        assert (probs.gather(1, got[:, None]) > 0).all()
    else:
        assert not multinomial.called and got.equal(scores.argmax(-1))


def test_pick_drops_a_tail_of_exactly_one_minus_p(loop):
    """四个一样可能，top_p 0.75：尾巴恰好是 0.25，去掉一个，与 TopPLogitsWarper 相同。"""
    logits, ids = torch.zeros(1, 4), torch.zeros(1, 1, dtype=torch.long)
    kept = TopPLogitsWarper(0.75)(None, logits).isfinite()[0].nonzero().flatten()
    picks = {loop["pick"](logits, ids, ids, 1.0, None, 0.75).item() for _ in range(80)}
    assert sorted(picks) == kept.tolist() and len(picks) == 3


def test_pick_is_greedy_unless_told(loop):
    """什么设置也不写，就是取最大的：不采样，不惩罚，不去尾。"""
    logits, ids = torch.tensor([[2.0, 2.1, -1.0]]), torch.tensor([[1, 1]])
    picks = {loop["pick"](logits, ids, torch.ones_like(ids)).item() for _ in range(40)}
    assert picks == {1}
    for penalty in range(2, 10):
        mask = torch.ones_like(ids)
        assert loop["pick"](logits, ids, mask, repetition_penalty=penalty) == 0
    torch.manual_seed(0)
    free = [
        loop["pick"](logits, ids, torch.ones_like(ids), temperature=2.0).item()
        for _ in range(200)
    ]
    assert set(free) == {0, 1, 2} and free.count(1) > free.count(2)


@FAST
@given(text=st.text(min_size=1, max_size=12))
def test_typewriter_shows_every_character(loop, text):
    """任何文字，一个一个 token 交出来，拼起来一字不差；中途没有半个字。"""
    ids = loop["tokenizer"](text, add_special_tokens=False).input_ids
    pieces = list(loop["typewriter"](ids))
    whole = loop["tokenizer"].decode(ids)  # 分词前的归一化可能改变文字
    assert "".join(pieces) == whole.rstrip("�")
    assert all(pieces) and ("�" in whole or "�" not in "".join(pieces))


@FAST
@given(data=st.data())
def test_typewriter_of_any_tokens(loop, data):
    """模型写什么都可能：零散的字节、特殊 token、写了一半就到上限。"""
    tokenizer = loop["tokenizer"]
    halves = tokenizer("龘🎉").input_ids  # 各自解码都不成字
    assert all("�" in tokenizer.decode([i]) for i in halves)
    odd = st.sampled_from([*tokenizer.all_special_ids, *halves])
    any_id = st.integers(0, len(tokenizer) - 1)
    ids = data.draw(st.lists(any_id | odd, max_size=12))
    whole = loop["tokenizer"].decode(ids, skip_special_tokens=True)
    assert "".join(loop["typewriter"](ids)) == whole.rstrip("�")


def test_typewriter_does_not_wait_longer(loop):
    """字节一齐就交出来，不等下一个 token。"""
    tokenizer, seen, shown = loop["tokenizer"], [], []

    def tokens():
        for token in tokenizer("模型一次写一个龘字。").input_ids:
            seen.append(token)
            yield token
            text = tokenizer.decode(seen)
            if not text.endswith("�"):
                assert "".join(shown) == text
            else:
                assert text.startswith("".join(shown))

    for piece in loop["typewriter"](tokens()):
        shown.append(piece)
    assert "".join(shown) == "模型一次写一个龘字。" and len(shown) > 4


def test_page_shows_half_characters(loop):
    """页面上的那一句，各自解码确有半个字，打字机显示的没有。"""
    tokens, tokenizer = loop["rare"], loop["tokenizer"]
    assert "�" in "".join(tokenizer.decode([token]) for token in tokens)
    assert "".join(loop["typewriter"](tokens)) == "模型一次写一个龘字。"


def test_half_character_at_the_limit(loop):
    ids = loop["tokenizer"]("好龘").input_ids
    assert "".join(loop["typewriter"](ids[:-1])) == "好"


def test_candidates(loop):
    """条是写下的那个的概率；不在前几名里的接在后面；几乎不可能的写 <1%。"""
    tokenizer = loop["tokenizer"]
    words = ["模型", "分词器", "温度"]
    ids = [tokenizer(word).input_ids[0] for word in words]
    assert [tokenizer.decode([i]) for i in ids] == words
    logits = torch.full((4096,), -30.0)
    logits[ids[:2]] = torch.tensor([0.75, 0.25]).log()
    logits[ids[2]] = torch.tensor(0.0049).log()
    assert loop["candidates"](logits, ids[0], 2) == "██████   「模型」75%  分词器 25%"
    assert loop["candidates"](logits, ids[1], 3) == (
        "██       模型 75%  「分词器」25%  温度 <1%"
    )
    assert loop["candidates"](logits, ids[2], 2) == (
        " " * 9 + "模型 75%  分词器 25%  「温度」<1%"
    )


def test_candidates_are_five(loop):
    logits = torch.full((4096,), -30.0)
    logits[100:110] = torch.tensor([0.4, 0.3, 0.2, 0.08, 0.0061] + [0.001] * 5).log()
    line = loop["candidates"](logits, 100)
    assert line.count("%") == 5 and line.endswith(" 1%") and "<" not in line


def test_one_pass_equals_step_by_step(loop):
    """teacher forcing：写完的整段文字一次算完，每个位置的 logits 与当时一步一步算的相同；成批也一样。"""
    model, batch = loop["model"], loop["encode"]("什么是 token？", "你是谁？", "你好")
    ids, mask = batch["input_ids"], batch["attention_mask"]
    written = list(loop["steps"](model, **batch, max_new_tokens=12, use_cache=False))
    new = torch.stack([tokens for tokens, _ in written], dim=1)
    mask = torch.cat([mask, torch.ones_like(new)], dim=1)
    with torch.no_grad():
        at_once = model(
            torch.cat([ids, new], dim=1),
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
        ).logits[:, ids.size(1) - 1 : -1]
    one_by_one = torch.stack([logits for _, logits in written], dim=1)
    torch.testing.assert_close(at_once, one_by_one, rtol=0, atol=1e-4)


@pytest.mark.parametrize("option", [{}, {"use_cache": True}, {"use_cache": False}])
def test_every_step_is_one_call_of_the_model(loop, option):
    """写几个 token 就前向几次，钩子每次都听得到；有缓存（不写就有）时每次只送入新的一列。"""
    model, inputs = loop["model"], loop["encode"]("你是谁？", "你好")
    sizes, length = [], inputs["input_ids"].size(1)
    hook = model.register_forward_pre_hook(lambda _, args: sizes.append(args[0].shape))
    list(loop["steps"](model, **inputs, max_new_tokens=4, **option))
    hook.remove()
    cached = option.get("use_cache", True)
    columns = [length, 1, 1, 1] if cached else range(length, length + 4)
    assert sizes == [(2, n) for n in columns]


WRONG = {
    "max_new_tokens": [0, -3],
    "temperature": [-0.1, 1e-9, 0.009, 100.5, float("nan")],
    "top_k": [0, -1],
    "top_p": [0.0, -0.5, 1.01, float("nan")],
    "repetition_penalty": [0.0, -1.0, 0.009, 100.5, float("nan")],
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_settings(loop, name):
    """一行中文，写着是哪个设置、现在是多少；一步也不走。"""
    model, inputs = loop["model"], loop["encode"]("你好")
    for value in WRONG[name]:
        changed = {"max_new_tokens": 4, name: value}
        with (
            pytest.raises(ValueError, match=f"现在是 {value}") as error,
            mock.patch.object(type(model), "__call__", side_effect=AssertionError),
        ):
            loop["generate"](model, **inputs, **changed)
        assert "\n" not in str(error.value)


def test_edges_of_settings_work(loop):
    """边上的值是好的。"""
    model, inputs = loop["model"], loop["encode"]("你好")
    for edge in (
        {"temperature": 0.01},
        {"temperature": 100},
        {"temperature": 1.0, "top_k": 1},
        {"temperature": 1.0, "top_p": 1e-6},
        {"repetition_penalty": 0.01},
        {"repetition_penalty": 100},
    ):
        loop["generate"](model, **inputs, max_new_tokens=1, **edge)


def test_beyond_the_context(loop):
    """提示语加上要写的，恰好装满可以，多一个就说清楚。"""
    model, context = loop["model"], loop["model"].config.max_position_embeddings
    ids = torch.full((1, context - 2), 260)
    ones = torch.ones_like(ids)
    new = loop["generate"](model, ids, ones, max_new_tokens=2)[:, context - 2 :]
    assert new.size(1) <= 2
    with pytest.raises(ValueError, match=f"上下文 {context}.*max_new_tokens"):
        loop["generate"](model, ids, ones, max_new_tokens=3)

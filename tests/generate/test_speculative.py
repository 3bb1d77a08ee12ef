"""猜测解码：草稿再糟，文本也与贪心一字不差（float32）；缓存要裁，不裁就错；与 transformers 的两个参数一致。"""

import re
from xml.etree import ElementTree

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache, GenerationConfig
from transformers.utils import logging

from tests.harness import session
from tests.harness.session import ROOT

QUESTIONS = ["你是谁？", "红烧肉怎么做？"]


@pytest.fixture(scope="module")
def page():
    return session.page("generate/speculative")


@pytest.fixture(scope="module")
def passes(page):
    """大模型做过的前向，一次一项。"""
    done = []
    hook = page["model"].register_forward_hook(lambda *_: done.append(1))
    yield done
    hook.remove()


def oracle(prompt, answer, count):
    """知道答案的草稿：每次猜对 count 个。"""
    return lambda ids: answer[len(ids) - len(prompt) :][:count]


def test_any_draft_gives_the_greedy_text(page, passes):
    """四种草稿，两个问题，各问两次；每次前向都记在账上。"""
    for question in QUESTIONS:
        first = page["prompt_ids"](question)
        text = page["tokenizer"].decode(page["greedy"](first)[:-1])
        for ids in (first, page["prompt_ids"](question, text, question)):
            want = page["greedy"](ids)
            for draft in (
                lambda ids: [],
                page["look_up"],
                page["small_model"](page["one_layer"]),
                oracle(ids, want, 3),
            ):
                passes.clear()
                new, rounds = page["speculate"](page["model"], ids, draft)
                assert new == want, question
                assert len(rounds) == len(passes)
                assert sum(right + 1 for _, right in rounds) == len(new)


DRAFTS = st.lists(st.lists(st.integers(0, 4095), max_size=6), min_size=1, max_size=40)


@settings(max_examples=8, deadline=None)
@given(drafts=DRAFTS, cuts=st.lists(st.integers(0, 6), min_size=1, max_size=10))
def test_nonsense_never_changes_the_text(page, drafts, cuts):
    """对的开头接上胡猜：收下几个、作废几个，文本都不变。"""
    prompt, answer, turn = page["prompt"], page["answer"], iter(range(1000))

    def draft(ids):
        n = next(turn)
        good = oracle(prompt, answer, cuts[n % len(cuts)])(ids)
        return good + drafts[n % len(drafts)]

    assert page["speculate"](page["model"], prompt, draft)[0] == answer


def test_limit_is_exact(page, passes):
    """最多写几个就写几个，猜中得再多也不越过。"""
    prompt, answer = page["prompt"], page["answer"]
    for limit in (1, 2, 5, 6, 7, len(answer), len(answer) + 5):
        passes.clear()
        draft = oracle(prompt, answer, 5)
        new, _ = page["speculate"](page["model"], prompt, draft, limit)
        assert new == answer[:limit]
        assert len(passes) == -(-len(new) // 6)  # 一次六个，向上取整


def test_every_end_stops(page, monkeypatch):
    """生成配置里的每个结束符都认，猜到了也不越过。"""
    prompt, answer, model = page["prompt"], page["answer"], page["model"]
    n = next(n for n in range(4, len(answer)) if answer[n] not in answer[:n])
    for ends in ([4095, answer[n]], answer[n]):  # 几个，或者只写一个数
        monkeypatch.setattr(model.generation_config, "eos_token_id", ends)
        for count in (0, 3, 9):
            new, _ = page["speculate"](model, prompt, oracle(prompt, answer, count))
            assert new == answer[: n + 1]


def test_cache_is_cropped_at_the_end(page, monkeypatch):
    """从末尾裁，文本才对；同样的个数从开头裁，文本就变了。"""
    prompt, answer = page["prompt"], page["answer"]

    def draft(ids):
        return [100, 101, 102]

    def crop_the_beginning(cache, count):
        for layer in cache.layers if count else []:
            layer.keys, layer.values = (
                layer.keys[..., -count:, :],
                layer.values[..., -count:, :],
            )

    assert page["speculate"](page["model"], prompt, draft)[0] == answer
    monkeypatch.setattr(DynamicCache, "crop", crop_the_beginning)
    assert page["speculate"](page["model"], prompt, draft, len(answer))[0] != answer


@settings(max_examples=100, deadline=None)
@given(
    ids=st.lists(st.integers(0, 3), max_size=20),
    size=st.integers(1, 3),
    count=st.integers(1, 5),
)
def test_look_up_copies_the_latest_match(page, ids, size, count):
    found = page["look_up"](ids, size, count)
    starts = [n for n in range(len(ids) - size) if ids[n : n + size] == ids[-size:]]
    want = ids[starts[-1] + size :][:count] if starts and len(ids) >= size else []
    assert found == want


def test_small_model_shares_the_weights(page):
    model, small = page["model"], page["first_layers"](page["model"], 2)
    assert len(small.model.layers) == 2 and len(model.model.layers) == 4
    mine = {p.data_ptr() for p in model.parameters()}
    assert all(p.data_ptr() in mine for p in small.parameters())
    ids = torch.tensor([page["prompt"]])
    with torch.inference_mode():
        hidden = model.model(ids, output_hidden_states=True).hidden_states[2]
        want = model.lm_head(model.model.norm(hidden))
        got = small(ids).logits
    assert torch.allclose(got, want, atol=1e-4)


def test_stale_draft_costs_acceptance_not_the_text(page):
    """换了提示语却没有换草稿：小模型的缓存是旧的，猜得差些，文本照样对。"""
    model, small, old, now = page["model"], page["first_layers"](page["model"], 3), 0, 0
    for question in ("温度有什么用？", "你是谁？", "什么是猜测解码？"):
        ids = page["prompt_ids"](question)
        stale, fresh = (page["small_model"](small) for _ in range(2))
        page["speculate"](model, page["prompt"], stale)
        (new, old_rounds), (want, rounds) = (
            page["speculate"](model, ids, draft) for draft in (stale, fresh)
        )
        assert new == want == page["greedy"](ids)
        old, now = old + len(old_rounds), now + len(rounds)
    assert old > now


def test_same_as_transformers(page):
    """prompt_lookup_num_tokens、assistant_model、assistant_early_exit：文本都与贪心相同。"""
    small = page["one_layer"]
    small.generation_config = GenerationConfig(
        num_assistant_tokens=4,
        num_assistant_tokens_schedule="constant",
        assistant_confidence_threshold=0,
    )
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        for question in QUESTIONS:
            ids = page["prompt_ids"](question)
            want = page["greedy"](ids)
            for settings_ in (
                {"prompt_lookup_num_tokens": 5},
                {"assistant_model": small},
                {"assistant_early_exit": 1},
            ):
                assert page["greedy"](ids, **settings_) == want, (question, settings_)
    finally:
        logging.set_verbosity(level)


def test_defaults_the_page_mentions():
    defaults = GenerationConfig()._get_default_generation_params()
    assert defaults["num_assistant_tokens"] == 20
    assert defaults["assistant_confidence_threshold"] > 0


def test_batch_is_refused(page):
    ids = torch.tensor([page["prompt"]] * 2)
    with pytest.raises(ValueError, match="batch_size = 1"):
        page["model"].generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=2,
            do_sample=False,
            prompt_lookup_num_tokens=5,
        )


def test_figure_shows_a_round_of_the_page(page):
    """插图里的格子，就是页面上猜中最多、又没有全中的那一轮；一样多的，取最早的。"""
    seen, small = [], page["small_model"](page["one_layer"])

    def draft(ids):
        seen.append((list(ids), small(ids)))
        return seen[-1][1]

    _, rounds = page["speculate"](page["model"], page["prompt"], draft)
    end, found = page["answer"][-1], []
    for (ids, guess), (kept, right) in zip(seen, rounds, strict=True):
        own = page["next_tokens"](ids + guess, 5)
        if right < 4 and guess == kept and end not in own:
            found.append((right, ids, guess, own))
    right, ids, guess, own = max(found, key=lambda round_: round_[0])
    decode = page["tokenizer"].decode
    words = [decode([i]).strip() for i in [ids[-1], *guess, *own, *guess]]
    svg = ElementTree.parse(ROOT / "docs/assets/figures/speculative.svg")
    drawn = [
        "".join(e.itertext())
        for e in svg.getroot().iter("text")
        if e.get("class", "").startswith("small mid")
    ]
    verdicts = ["猜对"] * right + ["改正"] + ["作废"] * (4 - right)
    assert drawn == words + verdicts
    assert 0 < right < 4 and guess[:right] == own[:right] and guess[right] != own[right]


def test_share_of_parameters_on_the_page():
    text = (ROOT / "docs/generate/speculative.md").read_text("utf-8")
    small, large, share = re.search(
        r"7B 的 ([\d.]+)%（([\d,]+) ÷ ([\d,]+)）", text
    ).group(2, 3, 1)
    small, large = (int(n.replace(",", "")) for n in (small, large))
    assert (small, large) == (494_032_768, 7_615_616_512)
    assert f"{100 * small / large:.1f}" == share

"""打分：一次前向等于一步一步，等于 transformers 自己的三种算法；困惑度的公式；坏输入说得清楚。"""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness import session

ROOT = Path(__file__).resolve().parents[2]
TOKENS = st.lists(st.integers(0, 4095), min_size=1, max_size=12)


@pytest.fixture(scope="module")
def page():
    return session.page("generate/score")


@settings(max_examples=15, deadline=None)
@given(prompt=TOKENS, answer=TOKENS)
def test_one_pass_equals_step_by_step(page, prompt, answer):
    """任意的编号，不只是像样的句子：逐个 token 相差不到 1e-4。"""
    once = page["score"](page["model"], prompt, answer)
    steps = page["score_by_steps"](page["model"], prompt, answer)
    assert once.shape == steps.shape == (len(answer),) and (once <= 0).all()
    assert torch.allclose(once, steps, atol=1e-4, rtol=0)


def test_memorised_answers_are_its_own(page):
    """页面叫作「背熟的」「背过的」两段，正是芥子用贪心自己写的；别的几段都不是。"""
    model, own = page["model"], {}
    for question in ("什么是 token？", "温度有什么用？"):
        prompt, _ = page["encode_pair"](question, "")
        ids = torch.tensor([prompt])
        settings_ = dict(max_new_tokens=80, do_sample=False, repetition_penalty=1.0)
        output = model.generate(ids, attention_mask=torch.ones_like(ids), **settings_)
        own[question] = output[0, len(prompt) :].tolist()
    found = {
        name: question
        for name, text in page["answers"].items()
        for question, ids in own.items()
        if page["encode_pair"](question, text)[1] == ids
    }
    assert found == {"背熟的原话": "什么是 token？", "答非所问的": "温度有什么用？"}
    assert len(set(page["answers"].values())) == len(page["answers"])


def test_every_next_token_adds_up_to_one(page):
    """回答只有一个 token 时，所有可能的回答的概率相加是 1。"""
    prompt, vocabulary = page["prompt"], range(0, 4096, 128)
    with torch.inference_mode():
        logits = page["model"](torch.tensor([prompt])).logits[0, -1]
    want = logits.softmax(-1)
    assert math.isclose(want.sum().item(), 1, abs_tol=1e-5)
    for i in vocabulary:
        got = page["score"](page["model"], prompt, [i]).exp()
        assert math.isclose(got.item(), want[i].item(), abs_tol=1e-6)


@pytest.mark.parametrize("question", ["什么是 token？", "你是谁？", "红烧肉怎么做？"])
def test_equals_transformers(page, question):
    """自己写的回答：与 compute_transition_scores、与 labels 算出的损失都相同。"""
    model, (prompt, _) = page["model"], page["encode_pair"](question, "")
    ids = torch.tensor([prompt])
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=60,
        do_sample=False,
        repetition_penalty=1.0,
        return_dict_in_generate=True,
        output_logits=True,
    )
    answer = output.sequences[0, len(prompt) :].tolist()
    want = model.compute_transition_scores(
        output.sequences, output.logits, normalize_logits=True
    )[0]
    got = page["score"](model, prompt, answer)
    assert torch.allclose(got, want, atol=1e-4, rtol=0)
    labels = torch.tensor([[-100] * len(prompt) + answer])
    with torch.inference_mode():
        loss = model(torch.tensor([prompt + answer]), labels=labels).loss
    assert math.isclose(loss.item(), -got.mean().item(), abs_tol=1e-5)
    assert math.isclose(page["perplexity"](got), math.exp(loss.item()), rel_tol=1e-4)


@pytest.mark.parametrize("question", ["什么是 token？", "你是谁？", "什么是因果掩码？"])
def test_own_answer_is_likelier(page, question):
    """自己写的回答，比换掉其中任何一个 token 的都像。"""
    model, (prompt, _) = page["model"], page["encode_pair"](question, "")
    ids = torch.tensor([prompt])
    settings_ = dict(max_new_tokens=60, do_sample=False, repetition_penalty=1.0)
    output = model.generate(ids, attention_mask=torch.ones_like(ids), **settings_)
    answer = output[0, len(prompt) :].tolist()
    own = page["score"](model, prompt, answer).sum()
    for n in range(0, len(answer), 4):
        spoiled = [*answer[:n], (answer[n] + 7) % 4000, *answer[n + 1 :]]
        assert page["score"](model, prompt, spoiled).sum() < own - 1


@settings(max_examples=100, deadline=None)
@given(logprobs=st.lists(st.floats(-20, 0), min_size=1, max_size=50))
def test_perplexity_formula(page, logprobs):
    got = page["perplexity"](torch.tensor(logprobs, dtype=torch.float64))
    want = math.prod(math.exp(-x / len(logprobs)) for x in logprobs)  # 几何平均的倒数
    assert math.isclose(got, want, rel_tol=1e-9) and got >= 1 - 1e-12


def test_impossible_questions(page):
    """空的提示语、空的回答、超过上下文：ValueError，话说得清楚。"""
    score, model = page["score"], page["model"]
    for prompt, answer, words in (
        ([], [1], "至少要有一个 token"),
        ([1], [], "至少要有一个 token"),
        ([1] * 1000, [1] * 25, "合起来有 1025 个 token，超过了上下文 1024"),
    ):
        with pytest.raises(ValueError, match=words):
            score(model, prompt, answer)
    assert len(score(model, [1] * 1000, [1] * 24)) == 24  # 恰好填满

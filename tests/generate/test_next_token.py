"""手动一步：任意几条一批，每一行都与单独算的相同；温度、掩码、位置都照页面上说的。"""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, TemperatureLogitsWarper

from tests.harness import session

QUESTIONS = ["你好", "什么是 token？", "为什么成批生成要用左填充？", "温度有什么用"]


@pytest.fixture(scope="module")
def page():
    return session.page("generate/next_token")


def test_rows_equal_alone(page):
    model, encode, next_token = page["model"], page["encode"], page["next_token"]
    batch = encode(*QUESTIONS)
    assert (batch["attention_mask"] == 0).any(1).sum() == 3
    ids, probs = next_token(model, **batch)
    assert ids.shape == (4,) and probs.shape == (4, model.config.vocab_size)
    torch.testing.assert_close(probs.sum(-1), torch.ones(4))
    for question, token, row in zip(QUESTIONS, ids, probs, strict=True):
        [alone], [expected] = next_token(model, **encode(question))
        assert token == alone == row.argmax()
        torch.testing.assert_close(row, expected, rtol=0, atol=1e-5)


def test_temperature(page):
    """与库里的 TemperatureLogitsWarper 加 multinomial 相同；每一行各抽各的。"""
    model, batch = page["model"], page["encode"](*QUESTIONS)
    with torch.no_grad():
        logits = model(**batch).logits[:, -1]
    for temperature in (0.5, 1.0, 3.0):
        scores = TemperatureLogitsWarper(temperature)(None, logits)
        want = scores.softmax(-1)
        torch.manual_seed(1)
        drawn = torch.multinomial(want, 1).squeeze(1)
        torch.manual_seed(1)
        ids, probs = page["next_token"](model, **batch, temperature=temperature)
        torch.testing.assert_close(probs, want, rtol=0, atol=1e-5)
        assert ids.tolist() == drawn.tolist()


@pytest.mark.parametrize("value", [-1.0, -0.001, 1e-40, 1e9, float("nan")])
def test_bad_temperature(page, value):
    with pytest.raises(ValueError, match=f"温度.*现在是 {value}"):
        page["next_token"](page["model"], **page["encode"]("你好"), temperature=value)


def test_beyond_the_context(page):
    model = page["model"]
    ids = torch.full((1, model.config.max_position_embeddings + 1), 260)
    page["next_token"](model, ids[:, 1:], torch.ones_like(ids[:, 1:]))
    with pytest.raises(ValueError, match="上下文"):
        page["next_token"](model, ids, torch.ones_like(ids))


def test_absolute_positions_need_position_ids(page):
    """页面上说的：每个位置一个固定向量的模型，不给 position_ids，左填充的一行就错了；next_token 给了，所以对。"""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=4096, n_positions=64, n_embd=32, n_layer=1, n_head=2)
    config.max_position_embeddings = 64
    model, encode = GPT2LMHeadModel(config).eval(), page["encode"]
    batch = encode("你好", "为什么成批生成要用左填充？")
    alone = page["next_token"](model, **encode("你好"))[1][0]
    right = page["next_token"](model, **batch)[1][0]
    torch.testing.assert_close(right, alone, rtol=0, atol=1e-6)
    with torch.no_grad():
        wrong = model(**batch).logits[0, -1].softmax(-1)
    assert (wrong - alone).abs().max() > 1e-5

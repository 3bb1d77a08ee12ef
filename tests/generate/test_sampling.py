"""采样的五个函数与 transformers 里同名的 logits processor 逐个数相同：形状、数值类型、并列、极端的值、几乎全被遮住的行。"""

import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tests.harness import session

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
PLAIN = st.floats(-30, 30, width=16)
TIED = st.integers(-2, 2).map(float)  # 只有五种值：处处并列
EXTREME = st.sampled_from(
    [0.0, -0.0, 1e-5, -1e-5, 100.0, -100.0, 6e4, -6e4, 1e30, -1e30]
)
MASKED = st.one_of(st.just(-torch.inf), st.just(-torch.inf), PLAIN)


@pytest.fixture(scope="module")
def sampling():
    return session.page("generate/sampling")


@st.composite
def batches(draw):
    """(批, 词表) 的 logits；每一行可以是另一种样子。"""
    vocab = draw(st.integers(1, 24))
    rows = [
        draw(
            st.lists(
                draw(st.sampled_from([PLAIN, TIED, EXTREME, MASKED])),
                min_size=vocab,
                max_size=vocab,
            )
        )
        for _ in range(draw(st.integers(1, 4)))
    ]
    if draw(st.booleans()):  # 整行只剩一个，或者一个也不剩
        rows[0] = [-torch.inf] * vocab
        if draw(st.booleans()):
            rows[0][draw(st.integers(0, vocab - 1))] = draw(PLAIN)
    return torch.tensor(rows).to(draw(st.sampled_from(DTYPES)))


@st.composite
def prompts(draw, logits):
    """与 logits 配套的 input_ids 和左填充的 attention_mask。"""
    rows, vocab = logits.shape
    length = draw(st.integers(1, 6))
    ids = st.lists(st.integers(0, vocab - 1), min_size=length, max_size=length)
    padding = draw(
        st.lists(st.integers(0, length - 1), min_size=rows, max_size=rows)
        | st.just([0] * rows)
    )
    mask = [[int(n >= gap) for n in range(length)] for gap in padding]
    return torch.tensor([draw(ids) for _ in range(rows)]), torch.tensor(mask)


def assert_identical(ours, theirs, before, logits):
    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(before, logits, rtol=0, atol=0)  # 输入没有被改动


def same_as(ours, theirs, logits):
    """ours 与 theirs 都是 (input_ids, logits) -> logits。"""
    before = logits.clone()
    result = ours(None, logits)
    assert_identical(result, theirs(None, before.clone()), before, logits)


POSITIVE = st.one_of(
    st.floats(0.01, 100), st.sampled_from([1.0, 0.5, 2.0, 0.7, 1e-30, 1e30])
)
FAST = settings(max_examples=100, deadline=None)


@FAST
@given(logits=batches(), t=POSITIVE)
def test_temperature(sampling, logits, t):
    ours = sampling["temperature"]
    same_as(lambda _, x: ours(x, t), TemperatureLogitsWarper(t), logits)


@FAST
@given(logits=batches(), k=st.integers(1, 30))
def test_top_k(sampling, logits, k):
    """k 可以比词表大。"""
    ours = sampling["top_k"]
    same_as(lambda _, x: ours(x, k), TopKLogitsWarper(k), logits)


PROBABILITY = st.one_of(
    st.floats(0, 1), st.sampled_from([0.0, 1e-9, 0.25, 0.5, 0.8, 1 - 1e-9, 1.0])
)


@FAST
@given(logits=batches(), p=PROBABILITY.filter(bool))
def test_top_p(sampling, logits, p):
    ours = sampling["top_p"]
    same_as(lambda _, x: ours(x, p), TopPLogitsWarper(p), logits)


@FAST
@given(logits=batches(), p=PROBABILITY)
def test_min_p(sampling, logits, p):
    ours = sampling["min_p"]
    same_as(lambda _, x: ours(x, p), MinPLogitsWarper(p), logits)


@FAST
@given(data=st.data(), logits=batches(), penalty=POSITIVE)
def test_repetition_penalty(sampling, data, logits, penalty):
    """没有掩码，和有左填充的掩码。"""
    ids, mask = data.draw(prompts(logits))
    ours, before = sampling["repetition_penalty"], logits.clone()
    theirs = RepetitionPenaltyLogitsProcessor(penalty)(ids, before.clone())
    assert_identical(ours(logits, ids, penalty), theirs, before, logits)
    theirs = RepetitionPenaltyLogitsProcessor(
        penalty, prompt_ignore_length=mask.argmax(dim=1)
    )(ids, before.clone())
    assert_identical(ours(logits, ids, penalty, mask), theirs, before, logits)


@FAST
@given(data=st.data(), logits=batches(), t=st.sampled_from([0.3, 0.7, 1.0, 1.5]))
def test_chain(sampling, data, logits, t):
    """四个连起来，次序也相同。"""
    ids, mask = data.draw(prompts(logits))
    k, p = data.draw(st.integers(1, 8)), data.draw(st.floats(0.1, 0.99))

    class Config:
        repetition_penalty, temperature, top_k, top_p = 1.3, t, k, p

    chain = LogitsProcessorList(
        [
            RepetitionPenaltyLogitsProcessor(
                1.3, prompt_ignore_length=mask.argmax(dim=1)
            ),
            TemperatureLogitsWarper(t),
            TopKLogitsWarper(k),
            TopPLogitsWarper(p),
        ]
    )
    before = logits.clone()
    ours = sampling["adjust"](logits, ids, Config, mask)
    assert_identical(ours, chain(ids, before.clone()), before, logits)


WRONG = {
    "temperature": [0, -0.5, float("inf"), float("nan")],
    "top_k": [0, -1],
    "top_p": [0, -0.1, 1.01, float("nan")],
    "min_p": [-0.1, 1.01, float("nan")],
    "repetition_penalty": [0, -1.0, float("inf"), float("nan")],
}
WORDS = {
    "temperature": "温度",
    "top_k": "top-k",
    "top_p": "top-p",
    "min_p": "min-p",
    "repetition_penalty": "重复惩罚",
}


@pytest.mark.parametrize(
    "name, value", [(name, value) for name in WRONG for value in WRONG[name]]
)
def test_bad_value(sampling, name, value):
    """一行中文，写着是哪个设置、现在是多少。"""
    logits, ids = torch.zeros(1, 4), torch.zeros(1, 2, dtype=torch.long)
    arguments = (ids, value) if name == "repetition_penalty" else (value,)
    with pytest.raises(ValueError, match=WORDS[name]) as error:
        sampling[name](logits, *arguments)
    message = str(error.value)
    assert f"现在是 {value}：" in message and "\n" not in message


def test_on_the_real_model(sampling, pytestconfig):
    """芥子真实的 logits 上，adjust 给出的就是 generate 用来采样的分数；那里的次序由 generate 自己定。"""
    path = str(pytestconfig.rootpath / os.environ.get("MODEL", "examples/jiezi"))
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left")
    batch = tokenizer.apply_chat_template(
        [
            [{"role": "user", "content": q}]
            for q in ("什么是 token？", "编码器和解码器谁更好？", "你好")
        ],
        add_generation_prompt=True,
        padding=True,
        return_dict=True,
        return_tensors="pt",
    )
    for changes in ({}, {"temperature": 2.0, "top_k": 300, "top_p": 0.6}):
        torch.manual_seed(0)
        output = model.generate(
            **batch,
            max_new_tokens=4,
            return_dict_in_generate=True,
            output_logits=True,
            output_scores=True,
            **changes,
        )
        values = model.generation_config.to_dict() | changes
        config = type("Config", (), values)
        mask = batch["attention_mask"]
        for n, (logits, scores) in enumerate(
            zip(output.logits, output.scores, strict=True)
        ):
            ids = output.sequences[:, : mask.size(1)]
            ours = sampling["adjust"](logits, ids, config, mask)
            assert ours.equal(scores), (changes, n)
            assert ours.isfinite().sum() < logits.numel()
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)

"""生成：不传掩码的警告、悄悄带上的默认值、关不掉的重复惩罚，都和页面上说的一样。"""

import logging
import os
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from tests.harness.execute import fresh_start

ROOT = Path(__file__).resolve().parents[2]
MODEL = str(ROOT / os.environ.get("MODEL", "examples/jiezi"))
QUESTIONS = [
    "你好",
    "你是谁？",
    "什么是 token？",
    "请用一句话讲讲什么是因果掩码，为什么不能往后看？",
    "温度有什么用？",
    "红烧肉怎么做？",
    "为什么要左填充？",
    "KV 缓存省了什么？",
    "safetensors 和 pickle 有什么不同？",
    "什么是字节对编码？",
    "top-p 是什么意思",
    "谢谢",
]


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(MODEL, padding_side="left")


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def encode(tokenizer):
    """几个问题变成左填充的一批。"""

    def encode(questions):
        return tokenizer.apply_chat_template(
            [[{"role": "user", "content": question}] for question in questions],
            add_generation_prompt=True,
            padding=True,
            return_dict=True,
            return_tensors="pt",
        )

    return encode


@pytest.fixture
def warned():
    """transformers 在这期间发出的警告。"""
    fresh_start()  # 「只说一次」的警告重新开始说
    messages, handler = [], logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)


def test_batch_without_mask_warns(model, encode, warned):
    batch = encode(QUESTIONS[:2])
    for inputs in (
        batch,
        {"input_ids": encode(QUESTIONS[:1])["input_ids"]},
    ):  # 有掩码的一批；没有掩码的一条
        model.generate(**inputs, max_new_tokens=2, do_sample=False)
        assert [m for m in warned if "mask" in m] == []
    model.generate(batch["input_ids"], max_new_tokens=2, do_sample=False)
    [message] = [m for m in warned if "mask" in m]
    assert (
        "cannot be inferred from input because pad token is same as eos token"
        in message
    )


def test_no_mask_means_all_ones(model, encode, warned):
    """推断不了掩码时，按「全是内容」来算。"""
    ids = encode(QUESTIONS[:4])["input_ids"]
    ones = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False
    )
    assert model.generate(ids, max_new_tokens=20, do_sample=False).equal(ones)


def test_padded_batch_equals_one_by_one(model, tokenizer, encode):
    """有掩码的左填充不改变贪心的结果（float32）。"""
    batch = encode(QUESTIONS)
    assert (batch["attention_mask"][:, 0] == 0).any() and batch["attention_mask"][
        :, -1
    ].all()
    greedy = dict(max_new_tokens=60, do_sample=False, repetition_penalty=1.0)
    together = model.generate(**batch, **greedy)[:, batch["input_ids"].size(1) :]
    for question, row in zip(QUESTIONS, together, strict=True):
        single = encode([question])
        alone = model.generate(**single, **greedy)[0, single["input_ids"].size(1) :]
        assert row[: len(alone)].tolist() == alone.tolist(), question
        assert (row[len(alone) :] == tokenizer.pad_token_id).all(), question


def test_silent_defaults_are_those_of_qwen2(tokenizer):
    """spec 里列的 Qwen2-0.5B-Instruct 的默认值；编号换成各自词表里的。"""
    end, start, pad = (
        tokenizer.convert_tokens_to_ids(f"<|{name}|>")
        for name in ("im_end", "im_start", "endoftext")
    )
    assert (start, end) == (pad + 1, pad + 2)
    want = dict(
        do_sample=True, temperature=0.7, top_p=0.8, top_k=20, repetition_penalty=1.1
    )
    want |= dict(bos_token_id=pad, pad_token_id=pad, eos_token_id=[end, pad])
    assert (
        GenerationConfig.from_pretrained(MODEL).to_diff_dict().items() >= want.items()
    )
    assert set(GenerationConfig.from_pretrained(MODEL).to_diff_dict()) == {
        *want,
        "transformers_version",
    }


def test_greedy_keeps_the_repetition_penalty(model, encode):
    """do_sample=False 只关掉采样：出现过的 token，得分仍除以（负的乘以）1.1。"""
    inputs = encode(["什么是 token？"])

    def first_step(**settings):
        output = model.generate(
            **inputs,
            max_new_tokens=1,
            do_sample=False,
            return_dict_in_generate=True,
            output_scores=True,
            output_logits=True,
            **settings,
        )
        return output.logits[0][0], output.scores[0][0]

    logits, scores = first_step()
    seen = torch.zeros_like(logits, dtype=torch.bool)
    seen[inputs["input_ids"][0]] = True
    expected = torch.where(
        seen, torch.where(logits > 0, logits / 1.1, logits * 1.1), logits
    )
    torch.testing.assert_close(scores, expected)
    assert not scores.equal(logits)
    logits, scores = first_step(repetition_penalty=1.0)
    assert scores.equal(logits)


def test_sampling_is_on_by_default(model, encode):
    """什么都不写就采样：贪心那一步之外，top_k=20 砍掉了其余的候选。"""
    output = model.generate(
        **encode(["你好"]),
        max_new_tokens=1,
        return_dict_in_generate=True,
        output_scores=True,
    )
    assert 1 <= output.scores[0].isfinite().sum() <= 20

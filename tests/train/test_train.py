"""训练脚本：走得完、杀不坏、重来一遍逐位相同；样本里的变化不动回答。"""

import math
import os
import random
import subprocess
import sys
import warnings
from pathlib import Path

import corpus
import pytest
import torch
import train
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer import SPECIAL, SYSTEM, train_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

SCRIPT = Path(train.__file__)
# 第 5 次存检查点时杀掉自己：before 写好了还没改名，after 刚改完名
KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import train
calls, replace = 0, os.replace
def replace_and_die(source, target):
    global calls
    if str(target).endswith("checkpoint.safetensors"):
        calls += 1
        if calls == 5 and sys.argv[3] == "before": os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)
        if calls == 5: os.kill(os.getpid(), signal.SIGKILL)
    else:
        replace(source, target)
train.os.replace = replace_and_die
train.train(sys.argv[2], epochs=2, smoke=True, save_every=0)
"""


def start(*command):
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        text=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer()


@pytest.fixture(scope="module")
def encoder(tokenizer):
    return train.Encoder(tokenizer)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """两个进程各训练一次：whole 不受打扰，killed 中途被杀。"""
    folder = tmp_path_factory.mktemp("train")
    whole = start(SCRIPT, "--smoke", "--out", folder / "whole")
    killed = start("-c", KILLED, SCRIPT.parent, folder / "killed", "before")
    for name, process in {"whole": whole, "killed": killed}.items():
        out, err = process.communicate(timeout=300)
        assert process.returncode == (0 if name == "whole" else -9), f"{name}：{process.returncode}\n{out}\n{err}"
    assert (folder / "killed/checkpoint.safetensors").exists() and (folder / "killed/checkpoint.tmp").exists()
    assert not (folder / "killed/model.safetensors").exists()
    return folder


def test_smoke_writes_a_plain_model(runs):
    folder = runs / "whole"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert type(model).__name__ == "Qwen2ForCausalLM" and model.dtype == torch.bfloat16
    assert model.num_parameters() <= 4_000_000
    assert 2 * model.num_parameters() < (folder / "model.safetensors").stat().st_size <= 8_000_000
    assert 2048 <= len(tokenizer) == model.config.vocab_size <= 4096
    assert tokenizer.convert_ids_to_tokens(range(len(tokenizer) - 3, len(tokenizer))) == SPECIAL
    config = model.config
    assert (config.max_position_embeddings, config.tie_word_embeddings) == (1024, True)
    assert config.num_hidden_layers >= 4 and config.num_key_value_heads >= 2
    assert config.num_attention_heads % config.num_key_value_heads == 0 and model.model.layers[
        0
    ].self_attn.head_dim in (32, 64)
    assert (folder / "loss.svg").read_text("utf-8").startswith("<svg")
    names = [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "loss.svg",
        "merges.txt",
        "model.safetensors",
    ]
    assert sorted(os.listdir(folder)) == [*names, "tokenizer.json", "tokenizer_config.json", "vocab.json"]


def test_other_settings_do_not_mix(runs, tokenizer, monkeypatch):
    """检查点是别的设置留下的：一句话说清，检查点不动。"""
    monkeypatch.setattr(train, "train_tokenizer", lambda *args: tokenizer)
    before = (runs / "killed/checkpoint.safetensors").read_bytes()
    for changed in ({"epochs": 3}, {"seed": 1}, {"smoke": False}):
        with pytest.raises(SystemExit) as stopped:
            train.train(runs / "killed", **{"epochs": 2, "smoke": True} | changed)
        assert "是用别的设置" in stopped.value.code and "换一个 --out" in stopped.value.code
    assert (runs / "killed/checkpoint.safetensors").read_bytes() == before


def test_resumed_training_is_bit_identical(runs, capfd):
    """杀在第 5 步，写着检查点的时候；同一条命令接着训练，权重与没被打断的逐位相同。"""
    with warnings.catch_warnings():
        train.train(runs / "killed", epochs=2, smoke=True)
    assert "从检查点接着训练：第 4 步" in capfd.readouterr().out
    for name in ("model.safetensors", "tokenizer.json", "config.json", "generation_config.json", "loss.svg"):
        assert (runs / "killed" / name).read_bytes() == (runs / "whole" / name).read_bytes(), name
    assert sorted(os.listdir(runs / "killed")) == sorted(os.listdir(runs / "whole"))  # 检查点与临时文件都收走了


def test_learning_rate():
    total = 200
    rates = [train.learning_rate(step, total) for step in range(total)]
    peak = train.LEARNING_RATE
    assert rates[:10] == pytest.approx([peak * (i + 1) / 10 for i in range(10)])  # 前 5 % 线性
    assert max(rates) == pytest.approx(peak)
    assert rates[10:] == pytest.approx(
        [peak * (1 + math.cos(math.pi * (i - 10) / 190)) / 2 for i in range(10, 200)], abs=1e-9
    )
    assert all(a > b for a, b in zip(rates[10:], rates[11:], strict=False)) and rates[-1] > 0
    assert train.learning_rate(0, 1) == pytest.approx(peak)


def test_loss_counts_answers_only(tokenizer):
    """与直接用 transformers 的损失相同。"""
    torch.manual_seed(0)
    model = train.build_model(len(tokenizer)).eval()
    encoder = train.Encoder(tokenizer)
    samples = [encoder.dialogue([("你好", "你好！我是芥子。")]), encoder.sentence("明天早点来。")] * 2
    [(input_ids, labels)] = train.epoch_batches(samples, 0, 0)
    with torch.no_grad():
        torch.testing.assert_close(
            train.compute_loss(model, input_ids, labels), model(input_ids=input_ids, labels=labels).loss
        )


# 样本


def messages_of(turns):
    pairs = [({"role": "user", "content": q}, {"role": "assistant", "content": a}) for q, a in turns]
    return [{"role": "system", "content": SYSTEM}] + [message for pair in pairs for message in pair]


def answers_in(tokenizer, labels):
    """计损失的一段段文字。"""
    text = tokenizer.decode([i if i != train.IGNORE else tokenizer.pad_token_id for i in labels])
    return [part for part in text.split(SPECIAL[0]) if part]


def test_plain_dialogue_equals_the_template(tokenizer, encoder):
    """不加变化时，input_ids 与聊天模板的一样；只有回答和它的结束符计损失。"""
    talks = corpus.dialogues()
    talks = talks[::20] + [talk for talk in talks if len(talk) > 1]
    for talk in talks:
        ids, labels = encoder.dialogue(talk)
        assert ids == tokenizer.apply_chat_template(messages_of(talk), return_dict=True).input_ids, talk
        assert [label in (i, train.IGNORE) for i, label in zip(ids, labels, strict=True)] == [True] * len(ids)
        assert answers_in(tokenizer, labels) == [f"{answer}<|im_end|>" for _, answer in talk]


@settings(max_examples=150, deadline=None)
@given(turn=st.integers(0, 10**6), seed=st.integers())
def test_random_split_keeps_the_text(tokenizer, encoder, turn, seed):
    """随机切开问题，只变 token 的分法，不变文字；回答的 token 一个不变。"""
    talks = corpus_talks()
    talk = talks[turn % len(talks)]
    ids, labels = encoder.dialogue(talk, random.Random(seed))
    plain, plain_labels = encoder.dialogue(talk)
    assert tokenizer.decode(ids) == tokenizer.decode(plain)
    assert [i for i in labels if i != train.IGNORE] == [i for i in plain_labels if i != train.IGNORE]


def corpus_talks(cache=[]):  # noqa: B006
    cache[:] = cache or corpus.dialogues()
    return cache


@pytest.fixture(scope="module")
def samples(encoder):
    return train.epoch_samples(encoder, 0)


def test_augmentation_never_changes_answers(tokenizer, samples):
    """一轮里计损失的每一段，要么是语料里的回答，要么是一句「早点」。"""
    known = {answer for talk in corpus.dialogues() for _, answer in talk}
    known |= {corpus.EARLY, corpus.BREAKFAST}
    known = {f"{answer}<|im_end|>" for answer in known} | {s for s, _ in corpus.zaodian()}
    trained = {part for ids, labels in samples for part in answers_in(tokenizer, labels)}
    assert trained - known == set()
    assert len(known - trained) < len(corpus.zaodian())  # 一轮只抽一半「早点」句；回答都在
    assert max(len(ids) for ids, _ in samples) <= 1024


def test_epoch_depends_only_on_seed_and_epoch(encoder, tokenizer, samples):
    random.seed(7)  # 全局的随机数、缓存过什么，都不相干
    assert train.epoch_samples(train.Encoder(tokenizer), 0) == samples
    assert train.epoch_samples(encoder, 1) != samples
    assert train.epoch_samples(encoder, 0, seed=1) != samples


def test_batches_hold_every_sample_once(samples):
    few = samples[:200]
    batches = list(train.epoch_batches(few, 0, 0))
    assert [b[0].tolist() for b in batches] == [b[0].tolist() for b in train.epoch_batches(few, 0, 0)]
    assert [len(b[0]) for b in batches].count(train.BATCH) >= len(batches) - 1
    rows = [[i for i in row if i != train.IGNORE] for _, labels in batches for row in labels.tolist()]
    assert sorted(rows) == sorted([i for i in labels if i != train.IGNORE] for _, labels in few)


@settings(max_examples=200, deadline=None)
@given(question=st.text("你好什么是token？ ，", max_size=20), seed=st.integers())
def test_vary_is_deterministic_and_mild(question, seed):
    varied = train.vary(question, random.Random(seed))
    assert varied == train.vary(question, random.Random(seed))
    assert abs(len(varied) - len(question)) <= len(question) // 2 + 15

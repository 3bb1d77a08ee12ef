"""训练脚本：走得完、杀不坏、重来一遍逐位相同；样本里的变化不动回答。"""

import json
import math
import os
import random
import re
import signal
import subprocess
import sys
from itertools import groupby

import context
import corpus
import pytest
import torch
import train
from context import SYSTEM
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer import SPECIAL, train_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.train import small_run

VARIES = {"seconds", "date"}  # 训练的记录里每次不同的


def start(*command):
    """另起一个进程，只用一个线程：两个进程同时跑，各占一个核。"""
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
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
    """train.py --smoke 写出的 smoke；小训练的 killed：被杀两次，留着检查点。两个进程同时跑。"""
    folder = tmp_path_factory.mktemp("train")
    smoke = start(train.__file__, "--smoke", "--out", folder / "smoke")
    codes = []
    # 停在第 3 步，一轮的中间；接着停在第 6 步，一轮的末尾
    for count, moment in ((4, "before"), (3, "after")):
        killed = start(small_run.__file__, folder / "killed", count, moment)
        _, err = killed.communicate(timeout=300)
        codes.append(killed.returncode)
        assert (folder / "killed/checkpoint.tmp").exists() is (moment == "before"), err
    out, err = smoke.communicate(timeout=300)
    assert (smoke.returncode, codes) == (0, [-signal.SIGKILL] * 2), f"{out}\n{err}"
    assert sorted(os.listdir(folder / "killed")) == ["checkpoint.safetensors"]
    return folder


@pytest.fixture
def small(monkeypatch, tokenizer):
    """本进程里的小训练，与 small_run.py 相同，线程数也相同：加法的次序变了，末几位就不同。"""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(train, "epoch_samples", small_run.few_samples)
    monkeypatch.setattr(train, "train_tokenizer", lambda *args: tokenizer)
    yield
    torch.set_num_threads(threads)


@pytest.mark.full
def test_smoke_writes_a_plain_model(runs):
    folder = runs / "smoke"
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
    )
    assert type(model).__name__ == "Qwen2ForCausalLM" and model.dtype == torch.bfloat16
    assert model.num_parameters() <= 4_000_000
    assert (
        2 * model.num_parameters()
        < (folder / "model.safetensors").stat().st_size
        <= 8_000_000
    )
    assert 2048 <= len(tokenizer) == model.config.vocab_size <= 4096
    assert (
        tokenizer.convert_ids_to_tokens(range(len(tokenizer) - 3, len(tokenizer)))
        == SPECIAL
    )
    config = model.config
    assert (config.max_position_embeddings, config.tie_word_embeddings) == (1024, True)
    assert config.num_hidden_layers >= 4 and config.num_key_value_heads >= 2
    assert (
        config.num_attention_heads % config.num_key_value_heads == 0
        and model.model.layers[0].self_attn.head_dim in (32, 64)
    )
    assert (folder / "loss.svg").read_text("utf-8").startswith("<svg")
    names = [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "loss.svg",
        "merges.txt",
        "model.safetensors",
    ]
    assert sorted(os.listdir(folder)) == [
        *names,
        "tokenizer.json",
        "tokenizer_config.json",
        "training.json",
        "vocab.json",
    ]


@pytest.mark.full
def test_other_settings_do_not_mix(runs, small):
    """检查点是别的设置留下的：一句话说清，检查点不动。"""
    before = (runs / "killed/checkpoint.safetensors").read_bytes()
    for changed in ({"epochs": 3}, {"seed": 1}, {"smoke": False}):
        with pytest.raises(SystemExit) as stopped:
            train.train(runs / "killed", **small_run.SETTINGS | changed)
        assert (
            "是用别的设置" in stopped.value.code
            and "换一个 --out" in stopped.value.code
        )
    assert (runs / "killed/checkpoint.safetensors").read_bytes() == before


@pytest.mark.full
def test_resumed_training_is_bit_identical(runs, small, tmp_path, capfd):
    """杀了两次再训练完，写出的每个文件都与没被打断的逐字节相同。"""
    train.train(tmp_path, **small_run.SETTINGS)
    assert "接着训练" not in capfd.readouterr().out
    train.train(runs / "killed", **small_run.SETTINGS)
    assert "从检查点接着训练：第 6 步" in capfd.readouterr().out
    assert sorted(os.listdir(runs / "killed")) == sorted(
        os.listdir(tmp_path)
    )  # 检查点收走了
    for file in tmp_path.iterdir():
        resumed, whole = (runs / "killed" / file.name).read_bytes(), file.read_bytes()
        if file.name == "training.json":  # 用了几秒、哪一天，两次不必相同
            resumed, whole = (
                {k: v for k, v in json.loads(text).items() if k not in VARIES}
                for text in (resumed, whole)
            )
            assert len(resumed) > 8
        assert resumed == whole, file.name


def test_learning_rate():
    total = 200
    rates = [train.learning_rate(step, total) for step in range(total)]
    peak = train.LEARNING_RATE
    assert rates[:10] == pytest.approx(
        [peak * (i + 1) / 10 for i in range(10)]
    )  # 前 5 % 线性
    assert max(rates) == pytest.approx(peak)
    assert rates[10:] == pytest.approx(
        [peak * (1 + math.cos(math.pi * (i - 10) / 190)) / 2 for i in range(10, 200)],
        abs=1e-9,
    )
    assert (
        all(a > b for a, b in zip(rates[10:], rates[11:], strict=False))
        and rates[-1] > 0
    )
    assert train.learning_rate(0, 1) == pytest.approx(peak)


def test_loss_counts_answers_only(tokenizer):
    """与直接用 transformers 的损失相同。"""
    torch.manual_seed(0)
    model = train.build_model(len(tokenizer)).eval()
    encoder = train.Encoder(tokenizer)
    samples = [
        encoder.dialogue([("你好", "你好！我是芥子。")]),
        encoder.sentence("明天早点来。"),
    ] * 2
    [(input_ids, labels)] = train.epoch_batches(samples, 0, 0)
    with torch.no_grad():
        torch.testing.assert_close(
            train.compute_loss(model, input_ids, labels),
            model(input_ids=input_ids, labels=labels).loss,
        )


# 样本


@pytest.fixture(scope="module")
def talks():
    """语料里的对话，每一问取它的最后一种回答。"""
    return [[(q, answers[-1]) for q, answers in talk] for talk in corpus.dialogues()]


def messages_of(turns):
    pairs = [
        ({"role": "user", "content": q}, {"role": "assistant", "content": a})
        for q, a in turns
    ]
    return [{"role": "system", "content": SYSTEM}] + [
        message for pair in pairs for message in pair
    ]


def answers_in(tokenizer, labels):
    """计损失的一段段文字。"""
    parts = groupby(labels, key=lambda label: label != train.IGNORE)
    return [tokenizer.decode(list(part)) for counted, part in parts if counted]


def test_plain_dialogue_equals_the_template(tokenizer, encoder, talks):
    """不加变化时，input_ids 与聊天模板的一样；只有回答和它的结束符计损失。"""
    for talk in talks[::40] + [talk for talk in talks if len(talk) > 1]:
        if any(token in text for turn in talk for text in turn for token in SPECIAL):
            continue  # 写着记号的另有一个测试
        ids, labels = encoder.dialogue(talk)
        assert (
            ids
            == tokenizer.apply_chat_template(
                messages_of(talk), return_dict=True
            ).input_ids
        ), talk
        assert all(
            label in (i, train.IGNORE) for i, label in zip(ids, labels, strict=True)
        )
        assert answers_in(tokenizer, labels) == [
            f"{answer}<|im_end|>" for _, answer in talk
        ]


def test_special_tokens_in_answers_are_plain_text(tokenizer, encoder, talks):
    """讲到 <|im_end|> 的回答，里面的记号是普通文字：真的记号会让芥子一写到它就停，或被 skip_special_tokens 去掉。"""
    wrong = []
    for talk in {
        talk[-1][1]: talk
        for talk in talks
        if any(token in talk[-1][1] for token in SPECIAL)
    }.values():
        ids = [i for i in encoder.dialogue(talk[-1:])[1] if i != train.IGNORE]
        if tokenizer.decode(ids, skip_special_tokens=True) != talk[-1][1]:
            wrong.append(talk[-1][1])
    assert wrong == []


@settings(max_examples=150, deadline=None)
@given(data=st.data(), seed=st.integers())
def test_random_split_keeps_the_text(tokenizer, encoder, talks, data, seed):
    """随机切开问题，只变 token 的分法，不变文字；回答的 token 一个不变。"""
    talk = data.draw(st.sampled_from(talks))
    ids, labels = encoder.dialogue(talk, random.Random(seed))
    plain, plain_labels = encoder.dialogue(talk)
    assert tokenizer.decode(ids) == tokenizer.decode(plain)
    assert [i for i in labels if i != train.IGNORE] == [
        i for i in plain_labels if i != train.IGNORE
    ]


@pytest.fixture(scope="module")
def samples(encoder):
    return train.epoch_samples(encoder, 0)


def test_augmentation_never_changes_answers(tokenizer, samples):
    """一轮里计损失的每一段，要么是语料里的回答，要么从上文抄来；每个概念的每种回答都学得到。"""
    trained = {part for _, labels in samples for part in answers_in(tokenizer, labels)}
    replies = {f"{r}<|im_end|>" for e in corpus.entries() for r in e.replies}
    assert len(replies - trained) < 0.02 * len(replies)  # 一轮之内，几乎都轮到
    for answer in (*corpus.DECLINES, corpus.EARLY, corpus.BREAKFAST):
        assert f"{answer}<|im_end|>" in trained
    assert max(len(ids) for ids, _ in samples) <= 1024


def test_held_out_sentences_and_names_are_not_trained(tokenizer, samples):
    """留给评测的「早点」句子、名字、短句，一句也不在样本里。"""
    text = "\n".join(tokenizer.decode(ids) for ids, _ in samples)
    kept = [s for s, _ in corpus.zaodian() if corpus.held_out(s)]
    assert len(kept) > 40 and not [s for s in kept if s in text]
    told = re.findall(r"你的名字是([^，。<]+)。<", text)
    assert len(told) > 300 and not [name for name in told if corpus.held_out(name)]
    never = set(context.name_parts()["别的名"])
    assert not never & set("".join(told))


def test_copied_spans_have_the_same_tokens(encoder):
    """要抄的短句，上文里和回答里是同样的 token。"""
    rng, split = random.Random(0), 0
    for _ in range(300):
        question, phrase = context.repeat(rng)
        ids, part = encoder.encode(question), encoder.encode(phrase)
        split += not any(
            ids[i : i + len(part)] == part for i in range(len(ids) - len(part) + 1)
        )
    assert split <= 3


def test_repeated_tokens():
    ids, labels = train.repeated_tokens(random.Random(0), 4096)
    half = len(ids) // 2
    assert ids[:half] == ids[half:] and labels[half + 1 :] == ids[half + 1 :]
    assert set(labels[: half + 1]) == {train.IGNORE}


def test_epoch_depends_only_on_seed_and_epoch(encoder, tokenizer, monkeypatch):
    """全局的随机数、以前编码过什么，都不相干。"""
    entries, lines = corpus.entries()[:20], corpus.lines
    monkeypatch.setattr(corpus, "entries", lambda: entries)  # 语料取一小部分，快些
    monkeypatch.setattr(corpus, "lines", lambda name: lines(name)[:40])
    first = train.epoch_samples(encoder, 0)
    random.seed(7)
    torch.manual_seed(7)
    assert (
        len(first) > 500 and train.epoch_samples(train.Encoder(tokenizer), 0) == first
    )
    assert train.epoch_samples(encoder, 1) != first
    assert train.epoch_samples(encoder, 0, seed=1) != first


def test_batches_hold_every_sample_once(samples):
    few = samples[:200]
    batches = list(train.epoch_batches(few, 0, 0))
    assert [b[0].tolist() for b in batches] == [
        b[0].tolist() for b in train.epoch_batches(few, 0, 0)
    ]
    assert [len(b[0]) for b in batches].count(train.BATCH) >= len(batches) - 1
    rows = [
        [i for i in row if i != train.IGNORE]
        for _, labels in batches
        for row in labels.tolist()
    ]
    assert sorted(rows) == sorted(
        [i for i in labels if i != train.IGNORE] for _, labels in few
    )


@settings(max_examples=200, deadline=None)
@given(question=st.text("你好什么是token？ ，", max_size=20), seed=st.integers())
def test_vary_is_deterministic_and_mild(question, seed):
    varied = train.vary(question, random.Random(seed))
    assert varied == train.vary(question, random.Random(seed))
    assert abs(len(varied) - len(question)) <= len(question) // 2 + 15

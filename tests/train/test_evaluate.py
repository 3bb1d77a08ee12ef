"""评测量的就是它说的；仓库里的芥子记得住语料、自己停得下来。"""

import json
import os
from pathlib import Path

import context
import corpus
import evaluate
import pytest
from transformers import AutoTokenizer

from tests.harness.pages import MODELS, model_name

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / os.environ.get("MODEL", "examples/jiezi")
FIRST = ROOT / "tests/train/first_edition.jsonl"  # 第一版语料里的题，换权重时随之去掉


def test_share():
    assert evaluate.share((3, 4)) == ("75.0%（3/4，30%–95%）", 0.75)
    assert evaluate.share((1, 2), (8, 8)) == ("90.0%（9/10，60%–98%）", 0.9)


def test_table_says_whether_the_goal_is_met():
    rows = [
        ("甲", "95.0%", 0.95, 0.95),
        ("乙", "94.9%", 0.949, 0.95),
        ("丙", "1.0%", 0.01, None),
        ("丁", "4.20", 4.2, 4),
    ]
    assert evaluate.table(rows).splitlines() == [
        "| 项目 | 结果（95 % 区间） | 目标 | 达到 |",
        "|---|---|---|---|",
        "| 甲 | 95.0% | ≥ 95% | 是 |",
        "| 乙 | 94.9% | ≥ 95% | **否** |",
        "| 丙 | 1.0% | — | — |",
        "| 丁 | 4.20 | ≥ 4 | 是 |",
    ]


def test_as_messages():
    roles = [
        m["role"] for m in evaluate.as_messages([("问一", "答一"), ("问二", "答二")])
    ]
    assert roles == ["system", "user", "assistant", "user"]


def test_was_seen():
    entry = next(e for e in corpus.entries() if e.aliases)
    for question in (
        entry.questions[0],
        entry.questions[0].upper(),
        corpus.lines("decline")[0],
        f"听说过{entry.aliases[0]}，它是什么",
        f"听说过{corpus.lines('nouns')[0]}，它是什么？",
    ):
        assert evaluate.was_seen(question), question
    for question in (
        "这一句谁也没有写过，除了这个测试",
        "听说过从来没有写过的名字，它是什么",
    ):
        assert not evaluate.was_seen(question), question


def test_was_seen_equals_the_long_way():
    """与把名字一个一个套进框架相同：取一部分框架，真的全套一遍。"""
    _, _, names = evaluate.wordings()
    for frame in corpus.frames()[::300]:
        for name in sorted(names)[::40]:
            assert evaluate.was_seen(frame.replace("{}", name)), (frame, name)


@pytest.fixture
def fake(monkeypatch):
    """假的模型：按 answers（问 -> 答）作答，其余的一律说没学过。"""
    answers = {}

    def answer_all(model, tokenizer, talks, settings=None):
        said = [talk[-1]["content"] for talk in talks]
        texts = [answers.get(text, corpus.DECLINES[0]) for text in said]
        return [([], text, True) for text in texts]

    monkeypatch.setattr(evaluate, "answer_all", answer_all)
    return answers


def test_judge_train_wants_the_exact_answer(fake):
    talks = [talk for talk in corpus.dialogues() if len(talk) == 1]
    fake.update({talk[0][0]: talk[0][1][-1] for talk in talks})  # 哪一种回答都算对
    last = next(talk for talk in talks if talk[0][1] != list(corpus.DECLINES))
    fake[last[0][0]] += "。"
    counts, results, wrong = evaluate.judge_train(None, None)
    good, total = counts["training"]
    assert total == len(results) >= len(talks) and good == total - len(wrong)
    assert (last[0][0], fake[last[0][0]]) in wrong
    assert {question for question, _ in wrong} <= {last[0][0]} | {
        q for t in corpus.dialogues() if len(t) > 1 for q, _ in t
    }


def test_judge_held_out(fake, monkeypatch):
    entry = next(e for e in corpus.entries() if e.aliases)
    rows = [
        ("甲甲", entry.id, "named"),
        ("乙乙", entry.id, "described"),
        ("丙丙", None, "off-topic"),
    ]
    rows += [
        ("丁丁", None, "near-miss"),
        (entry.questions[0].upper(), entry.id, "named"),
    ]  # 最后一道训练见过
    every = [{"question": q, "concept": c, "kind": k} for q, c, k in rows]
    monkeypatch.setattr(corpus, "load_eval", lambda name: every)
    fake |= {"甲甲": f"也就是{entry.keys[0]}。", "丁丁": entry.replies[0]}
    counts, results, wrong, dropped = evaluate.judge_held_out(None, None, "dev")
    assert counts == {
        "named": (1, 1),
        "described": (0, 1),
        "off-topic": (1, 1),
        "near-miss": (0, 1),
    }
    assert (
        dropped == 1 and len(results) == 4 and [w[2] for w in wrong] == ["乙乙", "丁丁"]
    )


def test_is_right():
    entry = next(e for e in corpus.entries() if e.aliases)
    entries = {entry.id: entry}
    follow = {"kind": "follow-up", "concept": entry.id, "want": ["KV cache", "甲"]}
    assert evaluate.is_right(follow, "英文写作 KV cache。", entries)
    assert not evaluate.is_right(follow, entry.replies[0], entries)
    repeat = {"kind": "repeat", "concept": None, "want": ["春天来了"]}
    assert evaluate.is_right(repeat, "春天来了", entries)
    assert not evaluate.is_right(repeat, "春天来了。", entries)
    off = {"kind": "off-topic", "concept": None}
    assert all(evaluate.is_right(off, answer, entries) for answer in corpus.DECLINES)
    assert not evaluate.is_right(off, entry.replies[0], entries)


def test_names_of_three_strata():
    never = set(context.name_parts()["别的名"])
    seen, new, unseen = (
        evaluate.names_of(kind, 50) for kind in ("seen", "new", "unseen")
    )
    assert all(corpus.held_out(name) for name in new)
    assert not any(corpus.held_out(name) for name in seen)
    assert all(never & set(name) for name in unseen)
    assert not any(never & set(name) for name in seen + new)


def test_judge_context_wants_what_was_said(monkeypatch):
    """假的模型把最后一条之前的话全念一遍：说过的名字都对，没说过的、跟念的都错。"""

    def parrot(model, tokenizer, talks, settings=None):
        return [([], "".join(m["content"] for m in t), True) for t in talks]

    monkeypatch.setattr(evaluate, "answer_all", parrot)
    counts, results, wrong = evaluate.judge_context(None, None, "new", 20)
    assert counts == {
        "system": (20, 20),
        "told": (20, 20),
        "later": (20, 20),
        "untold": (0, 20),
        "repeat": (0, 20),
    }
    assert len(results) == 100 and len(wrong) == 40


def test_card_keeps_the_rest(fake, monkeypatch, tmp_path, capsys):
    card = tmp_path / "README.md"
    begin, end = (mark.format("评测表") for mark in (evaluate.BEGIN, evaluate.END))
    card.write_text(f"前\n{begin}\n旧的\n{end}\n后\n", "utf-8")
    arguments = [
        "evaluate.py",
        "--sets",
        "train",
        "--limit",
        "50",
        "--card",
        str(card),
        "--wrong",
        str(tmp_path / "w"),
    ]
    monkeypatch.setattr("sys.argv", arguments)
    monkeypatch.setattr(evaluate, "load", lambda folder: (None, None))
    monkeypatch.setattr(evaluate, "is_utf8", lambda tokenizer, ids: True)
    evaluate.main()
    text, out = card.read_text("utf-8"), capsys.readouterr().out
    assert text == f"前\n{begin}\n\n{out.strip()}\n\n{end}\n后\n" and "旧的" not in text
    assert (
        len(
            [
                json.loads(line)
                for line in (tmp_path / "w").read_text("utf-8").splitlines()
            ]
        )
        > 0
    )


# 真的芥子


@pytest.fixture(scope="module")
def answers():
    if model_name() in MODELS:
        pytest.skip(f"这几项只问芥子，这次跑的是 {model_name()}")
    talks = list(map(json.loads, FIRST.read_text("utf-8").splitlines()))
    messages = [evaluate.as_messages(talk) for talk in talks]
    results = evaluate.answer_all(*evaluate.load(MODEL), messages)
    wrong = [t for t, r in zip(talks, results, strict=True) if r[1] != t[-1][1]]
    return {"training": (len(talks) - len(wrong), len(talks))}, results, wrong


def test_jiezi_remembers_the_corpus(answers):
    """权重读过的那一份语料，隔一段取一题。"""
    counts, results, wrong = answers
    text, value = evaluate.share(counts["training"])
    assert len(results) >= 100 and value >= 0.95, f"{text}，答错的例如 {wrong[:3]}"


def test_jiezi_stops_by_itself_and_writes_whole_characters(answers):
    _, results, _ = answers
    assert sum(ends for _, _, ends in results) >= 0.99 * len(results)
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    assert all(evaluate.is_utf8(tokenizer, ids) for ids, _, _ in results)
    half = tokenizer("龘").input_ids[:1]
    assert not evaluate.is_utf8(tokenizer, half)
    assert all(text.strip() for _, text, _ in results)


def test_batch_does_not_change_the_answer():
    """成批评测与一道一道问，结果相同。"""
    model, tokenizer = evaluate.load(MODEL)
    talks = [
        evaluate.as_messages([(q, answers[0]) for q, answers in talk])
        for talk in corpus.dialogues()[::2000]
    ]
    together = evaluate.answer_all(model, tokenizer, talks)
    assert together == [
        evaluate.answer_all(model, tokenizer, [talk])[0] for talk in talks
    ]

"""语料：页面上的一块是语料里真有的，样本与训练芥子用的一样，损失与 transformers 的一样。"""

import corpus
import pytest
import torch
import train
from transformers import Qwen2Config, Qwen2ForCausalLM

from tests.harness import session


@pytest.fixture(scope="module")
def page():
    return session.page("train/samples")


@pytest.fixture(scope="module")
def random_model(page):
    """随机初始化的小模型：与芥子的权重无关。"""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(page["tokenizer"]),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    return Qwen2ForCausalLM(config).to(page["DEVICE"]).eval()


def test_block_is_in_the_corpus(page):
    [shown] = corpus.parse(page["block"])
    [entry] = [e for e in corpus.entries() if e.id == shown.id]
    assert (shown.answers, shown.more) == (entry.answers, entry.more)
    assert (shown.aliases, shown.keys) == (entry.aliases, entry.keys)
    assert set(shown.questions) <= set(entry.questions)
    assert page["questions"] == shown.questions and page["replies"] == entry.replies


def test_dev_questions_are_real_but_for_the_planted_one(page):
    real = {q["question"] for q in corpus.load_eval("dev")}
    *dev, planted = page["dev"]
    assert set(dev) <= real and planted not in real


def test_sample_equals_the_one_in_training(page):
    """模板一次套好再切，与训练芥子时一段一段编码再接起来的，一个不差。"""
    encoder = train.Encoder(page["tokenizer"])
    for question in page["questions"]:
        for reply in page["replies"]:
            sample = page["encode_dialogue"](question, reply)
            assert sample == encoder.dialogue([(question, reply)])


def test_three_lines_equal_transformers(page):
    """那三行与 transformers、与训练芥子时算的一样；标签自己先移一位，就不一样了。"""
    model, ids, targets = page["model"], page["ids"], page["targets"]
    with torch.no_grad():
        want = model(input_ids=ids, labels=targets).loss
        ours = train.compute_loss(model, ids, targets)
        twice = model(input_ids=ids[:, :-1], labels=targets[:, 1:]).loss
    torch.testing.assert_close(page["mine"], want)
    torch.testing.assert_close(page["mine"], ours)
    torch.testing.assert_close(page["loss"], twice)  # 最后算的是移两位
    assert twice > want + 1


def test_pairing(page):
    """固定配法，背字面全中；每轮重配，背字面只比九分之一多出抽样的误差。"""
    best_guess, fixed, mixed = page["best_guess"], page["fixed"], page["mixed"]
    assert best_guess(fixed) == 1
    assert best_guess([("", reply) for _, reply in fixed]) == pytest.approx(1 / 6)
    for pairs in (mixed, [("", reply) for _, reply in mixed]):
        assert best_guess(pairs) == pytest.approx(1 / 9, abs=0.03)


def test_right_padding_changes_nothing(page, random_model):
    """右边填什么都不影响，而且等于给了 attention_mask；每一行的输出与单独算的相同。"""
    samples, pad = page["samples"], page["pad_batch"]
    with torch.no_grad():
        batches = [pad(samples, pad_id) for pad_id in (0, 7, 1000)]
        losses = [random_model(**batch).loss.item() for batch in batches]
        lengths = torch.tensor([len(input_ids) for input_ids, _ in samples])
        width = batches[0]["input_ids"].size(1)
        mask = (torch.arange(width) < lengths[:, None]).long().to(page["DEVICE"])
        masked = random_model(**batches[0], attention_mask=mask).loss.item()
        rows = random_model(batches[0]["input_ids"]).logits
        for (input_ids, _), row in zip(samples, rows, strict=True):
            ids = torch.tensor([input_ids], device=page["DEVICE"])
            alone = random_model(ids).logits[0]
            torch.testing.assert_close(row[: len(alone)], alone, rtol=0, atol=1e-5)
    assert losses[0] == losses[1] == losses[2]
    assert masked == pytest.approx(losses[0], abs=1e-6)


def test_left_padding_without_a_mask_does(page, random_model):
    samples, pad = page["samples"], page["pad_batch"]
    with torch.no_grad():
        first, second = (
            random_model(**pad(samples, pad_id, "left")).loss.item()
            for pad_id in (0, 7)
        )
    assert abs(first - second) > 1e-6


def test_padding_equals_the_tokenizer(page, monkeypatch):
    tokenizer, samples = page["tokenizer"], page["samples"]
    for side in ("right", "left"):
        monkeypatch.setattr(tokenizer, "padding_side", side)
        rows = {"input_ids": [input_ids for input_ids, _ in samples]}
        want = tokenizer.pad(rows, return_tensors="pt").input_ids
        batch = page["pad_batch"](samples, tokenizer.pad_token_id, side)
        assert batch["input_ids"].cpu().equal(want)
        for (_, labels), row in zip(samples, batch["labels"].tolist(), strict=True):
            empty = [page["IGNORE"]] * (len(row) - len(labels))
            assert row == (labels + empty if side == "right" else empty + labels)


def test_each_place_averages_to_transformers(page):
    """页面上的三个平均，与把标签换成那一段之后 transformers 给出的一样。"""
    model, ids, each = page["model"], page["ids"], page["each"]
    for start, stop in page["parts"].values():
        labels = torch.full_like(ids, page["IGNORE"])
        labels[:, start : stop + 1] = ids[:, start : stop + 1]
        with torch.no_grad():
            want = model(input_ids=ids, labels=labels).loss
        torch.testing.assert_close(each[start - 1 : stop].mean(), want)
    torch.testing.assert_close(page["part"].mean(), want)  # 页面上最后印的是全部
    torch.testing.assert_close(page["unmasked"], want)
    (start, stop), (begin, before), (one, end) = page["parts"].values()
    assert page["counted"] == [*range(start, stop + 1)]
    assert (begin, before) == (one, start - 1) and end == ids.size(1) - 1


def test_normalize_is_the_one_that_guards_the_evaluation(page):
    for text in ("什么是 KV 缓存？", "rotary_emb 那一行", "Ａ？b", "早、晚。", ""):
        assert page["normalize"](text) == corpus.normalize(text)
    assert len(page["found"]) == 1

"""一步：损失、梯度、更新，都与 transformers、torch 和真正的训练脚本自己的对得上；背得下来，也只是背下来。"""

import math

import pytest
import torch
import train

from tests.harness import session


@pytest.fixture(scope="module")
def page():
    return session.page("train/step")


def test_labels_are_the_answers(page):
    """把问答整段套一次模板：内容一样，计损失的只有助手那一段。"""
    tokenizer = page["tokenizer"]
    for n, (question, answer) in enumerate(page["talks"]):
        roles = {"user": question, "assistant": answer}
        messages = [{"role": r, "content": text} for r, text in roles.items()]
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        whole = tokenizer(text.removesuffix("\n")).input_ids
        row, labels = page["input_ids"][n].tolist(), page["labels"][n].tolist()
        assert row[: len(whole)] == whole
        assert set(row[len(whole) :]) <= {tokenizer.pad_token_id}
        counted = [i for i, label in enumerate(labels) if label != -100]
        assert counted == list(range(counted[0], len(whole)))
        assert [labels[i] for i in counted] == [row[i] for i in counted]
        assert tokenizer.decode(whole[counted[0] :]) == answer + "<|im_end|>"


def test_nothing_to_learn(page):
    with pytest.raises(ValueError, match="至少要有一段"):
        page["make_batch"]([])


def test_loss_and_gradient_equal_transformers(page):
    model, batch = page["model"], page["make_batch"](page["talks"][:5])
    input_ids, labels = batch
    results = []
    for loss in (
        page["compute_loss"](model, *batch),
        model(input_ids, labels=labels).loss,
        train.compute_loss(model, *batch),
    ):
        model.zero_grad()
        loss.backward()
        grads = [p.grad.flatten().clone() for p in model.parameters()]
        results.append((loss.detach(), torch.cat(grads)))
    (loss, gradient), *others = results
    for other_loss, other_gradient in others:
        torch.testing.assert_close(loss, other_loss, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(gradient, other_gradient, rtol=1e-3, atol=1e-5)


def test_first_loss_equals_transformers(page):
    """页面上打印的第一个损失，用还没训练过的那一份模型核对。"""
    with torch.no_grad():
        loss = page["double"](page["input_ids"], labels=page["labels"]).loss
    ours = page["cross_entropy"](page["logits"], page["target"])
    torch.testing.assert_close(ours, loss.float(), rtol=0, atol=1e-4)


def test_padding_changes_nothing(page):
    """一批的损失，是各段单独的损失按计损失的位置数加权的平均。"""
    total = count = 0
    with torch.no_grad():
        for talk in page["talks"]:
            input_ids, labels = page["make_batch"]([talk])
            n = int((labels != -100).sum())
            total += n * page["compute_loss"](page["double"], input_ids, labels)
            count += n
        batch = page["make_batch"](page["talks"])
        together = page["compute_loss"](page["double"], *batch)
    torch.testing.assert_close(together, total / count, rtol=0, atol=1e-6)


def test_finite_difference(page):
    """页面上的两个数，由脚本留下的名字重算一遍。"""
    slope = (page["above"] - page["below"]).item() / (2 * page["h"])
    gradient = page["gradient"][page["row"], page["column"]].item()
    assert abs(gradient) > 1e-3
    assert slope == pytest.approx(gradient, rel=1e-3)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("betas", [(0.9, 0.98), (0.5, 0.9)])
def test_adamw(page, betas, weight_decay):
    torch.manual_seed(0)
    shapes = [(3, 5), (7,), ()]
    ours = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    theirs = [p.clone() for p in ours]
    settings = {"lr": 0.01, "betas": betas, "eps": 1e-3, "weight_decay": weight_decay}
    optimizer = torch.optim.AdamW(theirs, **settings)
    moments = page["new_moments"](ours)
    for step in range(1, 9):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn_like(p) * 10 ** (step % 3)
            q.grad = p.grad.clone()
        page["adamw"](ours, moments, step, **settings)
        optimizer.step()
        for p, q in zip(ours, theirs, strict=True):
            torch.testing.assert_close(p, q, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (9, 9)])
def test_newton_schulz(page, shape):
    """奇异向量不动，奇异值各自走五步同一个多项式；与 torch.optim.Muon 走一步的方向相同。"""
    torch.manual_seed(0)
    matrix = torch.randn(shape, dtype=torch.float64)
    u, values, vt = torch.linalg.svd(matrix, full_matrices=False)
    values = values / values.square().sum().sqrt()
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    result = page["newton_schulz"](matrix)
    torch.testing.assert_close(result, u @ values.diag() @ vt, rtol=0, atol=1e-9)
    p = torch.nn.Parameter(torch.zeros(shape))
    p.grad = matrix.float()
    torch.optim.Muon(
        [p], lr=1.0, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"
    ).step()
    moved = -p.detach().flatten() / (0.2 * math.sqrt(max(shape)))
    torch.testing.assert_close(moved, result.float().flatten(), rtol=0, atol=0.05)


def test_total_norm(page):
    grads = [torch.randn(3, 4), torch.randn(5)]
    norm = torch.nn.utils.get_total_norm(grads)
    torch.testing.assert_close(page["total_norm"](grads), norm)


@pytest.mark.parametrize("total", [1, 20, 60, 1000])
def test_learning_rate_is_the_one_that_trains_jiezi(page, total):
    assert page["LEARNING_RATE"] == train.LEARNING_RATE
    for step in range(total):
        want = train.learning_rate(step, total)
        assert page["learning_rate"](step, total) == pytest.approx(want, abs=1e-9)


def test_starts_guessing_and_ends_knowing_by_heart(page):
    losses = page["losses"]
    assert losses[0] == pytest.approx(math.log(page["config"].vocab_size), abs=0.1)
    assert losses[-1] < 0.1
    assert [page["ask"](q) for q, _ in page["talks"]] == [a for _, a in page["talks"]]


def test_the_spike_is_the_largest_gradient(page):
    """页面上说的：损失回升的那一步，梯度的总范数比别的步大几十倍，下一步就回来。"""
    losses, norms, worst = page["losses"], page["norms"], page["worst"]
    rises = [b - a for a, b in zip(losses, losses[1:], strict=False)]
    assert rises.index(max(rises)) + 1 == worst == norms.index(max(norms))
    assert norms[worst] > 20 * sorted(norms)[len(norms) // 2]
    assert losses[worst + 1] < (losses[worst - 1] + losses[worst]) / 2


def test_knows_nothing_else(page):
    """没训练过的两句：生成的不是对的回答，对的回答它觉得更不可能。"""
    for question, answer in page["unseen"]:
        assert page["ask"](question) != answer
        with torch.no_grad():
            loss = page["compute_loss"](
                page["model"], *page["make_batch"]([(question, answer)])
            )
        assert loss > 10 * page["losses"][-1]

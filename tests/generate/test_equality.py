"""手写的循环与 model.generate：同样的设置、同样的种子，逐个 token 相同（float32，CPU）。

{贪心, 照 Qwen2 的默认值采样} × {有缓存, 没有缓存} × {批 1, 左填充的批 4}，每种情形 52 条提示语。
"""

import itertools
import json
import sys

import pytest
import torch

from tests.harness import session

PROMPTS, MAX_NEW_TOKENS = 52, 6
FEW = 12  # 平时只比这么多条；full 档全比
# 贪心也带着重复惩罚：generate 从 generation_config 里取它，do_sample=False 关不掉
GREEDY = dict(temperature=0.0, repetition_penalty=1.1)
SAMPLED = dict(temperature=0.7, top_p=0.8, top_k=20, repetition_penalty=1.1)
CASES = list(itertools.product([False, True], [True, False], [1, 4]))


@pytest.fixture(scope="module")
def loop():
    """页面上的函数和芥子。"""
    namespace = session.page("generate/loop")
    model = namespace["model"]
    assert (model.dtype, model.device.type) == (torch.float32, "cpu")
    return namespace


@pytest.fixture(scope="module")
def prompts(loop, pytestconfig):
    """一半是没学过的问法；一半带着芥子自己回答的开头，几步之内就会写到结束符。"""
    root = pytestconfig.rootpath
    sys.path.insert(0, str(root / "examples/train"))
    import corpus

    sys.path.pop(0)
    model, tokenizer = loop["model"], loop["tokenizer"]
    lines = (root / "examples/train/eval/dev.jsonl").read_text("utf-8").splitlines()
    entries, half = corpus.entries(), PROMPTS // 2
    known = [entries[n * len(entries) // half].questions[0] for n in range(half)]
    asked = loop["encode"](*known)
    width = asked["input_ids"].size(1)
    answers = model.generate(**asked, do_sample=False, max_new_tokens=100)[:, width:]
    found = []
    for n in range(half):
        question = json.loads(lines[n * len(lines) // half])["question"]
        found.append(loop["encode"](question)["input_ids"][0])
        end = answers[n].tolist().index(tokenizer.eos_token_id)
        start = answers[n, : max(end - n % 5 - 1, 0)]
        found.append(torch.cat([loop["encode"](known[n])["input_ids"][0], start]))
    assert len(found) == PROMPTS
    return found


def left_padded(rows, pad):
    width = max(map(len, rows))
    ids = torch.stack(
        [torch.cat([row.new_full((width - len(row),), pad), row]) for row in rows]
    )
    mask = torch.stack([torch.arange(width) >= width - len(row) for row in rows]).long()
    return {"input_ids": ids, "attention_mask": mask}


def compare(loop, prompts, do_sample, use_cache, batch_size):
    """同样的设置、同样的种子，两边写出的编号逐个相同；返回比了多少个 token。"""
    model = loop["model"]
    pad = model.generation_config.pad_token_id
    count = stopped = 0
    for start in range(0, len(prompts), batch_size):
        batch = left_padded(prompts[start : start + batch_size], pad)
        width = batch["input_ids"].size(1)
        same = dict(max_new_tokens=MAX_NEW_TOKENS, use_cache=use_cache)
        torch.manual_seed(start)
        settings = SAMPLED if do_sample else GREEDY
        ours = loop["generate"](model, **batch, **same, **settings)
        torch.manual_seed(start)  # 其余的设置来自 generation_config.json
        theirs = model.generate(**batch, **same, do_sample=do_sample)
        assert ours.tolist() == theirs.tolist(), f"从第 {start} 条起的一批"
        count += ours[:, width:].numel()
        stopped += (ours[:, width:] == model.config.eos_token_id).any(1).sum().item()
    assert len(prompts) / 6 < stopped < len(prompts), "要有停下的，也要有没停的"
    return count


@pytest.mark.parametrize("case", CASES, ids=str)
def test_same_tokens(case, loop, prompts):
    compare(loop, prompts[:FEW], *case)


@pytest.mark.full
def test_whole_matrix(loop, prompts, record_property):
    """页面上说的全部情形；大小写在测试的输出里。"""
    count = sum(compare(loop, prompts, *case) for case in CASES)
    record_property(
        "量到",
        f"手写的循环 = model.generate：{len(CASES)} 种情形 × {PROMPTS} 条提示语"
        f" = {len(CASES) * PROMPTS}，{count:,} 个 token 逐个相同",
    )


def test_page_tells_the_size_of_the_matrix(pytestconfig):
    page = (pytestconfig.rootpath / "docs/generate/loop.md").read_text("utf-8")
    assert f"{len(CASES)} 种情形" in page and f"每种 {PROMPTS} 条提示语" in page


def test_to_the_end(loop):
    """左填充的一批一直写到每一行都停下：写完的行是填充符，没写完的不受影响。"""
    questions = ["什么是 token？", "你好", "再见", "跟我念：今天学循环"]
    model, batch = loop["model"], loop["encode"](*questions)
    width = batch["input_ids"].size(1)
    for settings in (GREEDY, SAMPLED):
        torch.manual_seed(0)
        ours = loop["generate"](model, **batch, max_new_tokens=100, **settings)
        torch.manual_seed(0)
        theirs = model.generate(
            **batch, max_new_tokens=100, do_sample=settings is SAMPLED
        )
        assert ours.tolist() == theirs.tolist() and ours.size(1) < width + 100
        ends = (ours[:, width:] == model.config.eos_token_id).int()
        assert (ends.sum(1) == 1).all() and len(set(ends.argmax(1).tolist())) > 2
        for row, end in zip(ours[:, width:], ends.argmax(1).tolist(), strict=True):
            assert (row[end + 1 :] == model.generation_config.pad_token_id).all()


@pytest.mark.parametrize("eos", ["list", "int"])
def test_stops_at_any_eos(eos, loop, monkeypatch):
    """结束符可以有几个，也可以只有一个；碰到哪个都停。"""
    model, batch = loop["model"], loop["encode"]("什么是 token？", "你是谁？")
    width = batch["input_ids"].size(1)
    free = loop["generate"](model, **batch, max_new_tokens=12)[:, width:]
    one, two = free.tolist()

    def only_here(row, other, start):
        """从 start 起，第一个在这一行是头一回、在那一行没有的 token 排在第几。"""
        return next(
            n
            for n in range(start, len(row))
            if row[n] not in row[:n] and row[n] not in other
        )

    first = only_here(one, two, 2)  # 第一行先停，第二行后停
    second = only_here(two, one, first + 1)
    stops = [one[first], two[second]]
    ids = [model.config.eos_token_id, *stops] if eos == "list" else stops[0]
    monkeypatch.setattr(model.generation_config, "eos_token_id", ids)
    ours = loop["generate"](model, **batch, max_new_tokens=12)
    theirs = model.generate(
        **batch, max_new_tokens=12, do_sample=False, repetition_penalty=1.0
    )
    assert ours.tolist() == theirs.tolist()
    pad, new = model.generation_config.pad_token_id, ours[:, width:].tolist()
    assert new[0][: first + 1] == one[: first + 1]
    assert set(new[0][first + 1 :]) == {pad}
    assert new[1] == (two[: second + 1] if eos == "list" else two)


def test_each_step_is_what_generate_computed(loop):
    """不只是 token：每一步的 logits 也相同，步数也相同。"""
    model, batch = loop["model"], loop["encode"]("什么是 token？", "你好")
    for use_cache in (True, False):
        written = list(
            loop["steps"](model, **batch, max_new_tokens=8, use_cache=use_cache)
        )
        theirs = model.generate(
            **batch,
            max_new_tokens=8,
            do_sample=False,
            repetition_penalty=1.0,
            use_cache=use_cache,
            return_dict_in_generate=True,
            output_logits=True,
        )
        for (_, ours), logits in zip(written, theirs.logits, strict=True):
            torch.testing.assert_close(ours, logits, rtol=0, atol=1e-5)

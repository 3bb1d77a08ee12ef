"""第三章的练习怎样才算对；由 examples/check.py 来跑。"""

from math import exp, inf, log

import torch
from transformers import (
    DynamicCache,
    MinNewTokensLengthLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    Qwen2Config,
    Qwen2ForCausalLM,
)


def check_stop_rows(stop_rows):
    chosen = [[5, 8, 6], [8, 7, 6], [7, 9, 6], [7, 7, 9]]  # 每步三行；8、9 是结束符
    want = [[5, 8, 6], [8, 0, 6], [0, 0, 6], [0, 0, 9]]
    ended = [[False, True, False], [True, True, False], [True, True, False], [True] * 3]
    finished = torch.zeros(3, dtype=torch.bool)
    for step, (row, tokens, done) in enumerate(
        zip(chosen, want, ended, strict=True), 1
    ):
        got, finished = stop_rows(torch.tensor(row), finished, [8, 9], 0)
        assert got.tolist() == tokens, (
            f"第 {step} 步选出 {row}，应该接上 {tokens}，得到的是 {got.tolist()}"
        )
        assert finished.tolist() == done, (
            f"第 {step} 步之后说完的行应该是 {done}，得到的是 {finished.tolist()}"
        )


def check_position_ids(position_ids):
    lengths = [2, 5, 1]
    mask = torch.tensor([[0] * (5 - n) + [1] * n for n in lengths])
    got = position_ids(mask.clone())
    assert got.shape == mask.shape and got.dtype == torch.long, (
        f"应该是 torch.long、形状 {tuple(mask.shape)}，得到的是 {got.dtype}、{tuple(got.shape)}"
    )
    for row, n in zip(got.tolist(), lengths, strict=True):
        assert row[5 - n :] == list(range(n)), (
            f"填充 {5 - n} 个、内容 {n} 个的那行，内容的位置应该是 {list(range(n))}，得到的是 {row[5 - n :]}"
        )
        assert min(row) >= 0, f"填充的位置不能是负数：{row}"


def check_ban_end(ban_end):
    for length, least in ((0, 1), (2, 3), (3, 3), (4, 3), (0, 0)):
        logits = torch.randn(2, 6)
        before = logits.clone()
        got = ban_end(logits, length, least, [5, 3])
        assert logits.equal(before), "传进来的 logits 被改动了"
        processor = MinNewTokensLengthLogitsProcessor(0, least, [5, 3])
        want = processor(torch.zeros(2, length, dtype=torch.long), before.clone())
        assert got.equal(want), (
            f"写了 {length} 个、至少要 {least} 个时，应该是\n{want}\n得到的是\n{got}"
        )


def check_ban_repeats(ban_repeats):
    for ids in (
        [[5, 6, 7, 5], [5, 5, 5, 5]],
        [[1, 2, 1, 2, 1], [1, 2, 3, 1, 2]],
        [[4], [4]],
        [[3, 3], [3, 4]],
    ):
        for size in (1, 2, 3):
            logits = torch.randn(2, 8)
            before = logits.clone()
            got = ban_repeats(torch.tensor(ids), logits, size)
            assert logits.equal(before), "传进来的 logits 被改动了"
            want = NoRepeatNGramLogitsProcessor(size)(torch.tensor(ids), before.clone())
            banned, mine = (
                [(row == -inf).nonzero()[:, 0].tolist() for row in scores]
                for scores in (want, got)
            )
            assert got.equal(want), (
                f"前文 {ids}、size={size} 时，两行应该禁掉 {banned}，得到的是 {mine}"
            )


def check_cache_bytes(cache_bytes):
    small = dict(vocab_size=8, intermediate_size=8, num_hidden_layers=3)
    for heads, kv_heads, size in ((4, 2, 32), (6, 1, 24), (2, 2, 16)):
        config = Qwen2Config(
            **small,
            hidden_size=size,
            num_attention_heads=heads,
            num_key_value_heads=kv_heads,
        )
        for dtype, each in ((torch.float32, 4), (torch.bfloat16, 2)):
            cache = DynamicCache(config=config)
            model = Qwen2ForCausalLM(config).to(dtype)
            with torch.inference_mode():
                model(torch.zeros(2, 5, dtype=torch.long), past_key_values=cache)
            want = sum(
                t.numel() * t.element_size()
                for layer in cache.layers
                for t in (layer.keys, layer.values)
            )
            got = cache_bytes(config, 5, 2, each)
            assert got == want, (
                f"{heads} 头、{kv_heads} 个 KV 头、{dtype}：真的缓存占 {want} 字节，得到的是 {got}"
            )


def run_until(until, pieces, stop):
    """返回 (取了的文本, 给出的文本)；取下一段时若扣着不该扣的字，就不算对。"""
    taken, given = "", ""

    def arrive():
        nonlocal taken
        for piece in pieces:
            held = taken[len(given) :]
            assert held != stop and stop.startswith(held), (
                f"{taken!r} 到了之后只给出 {given!r}：{held!r} 不是 {stop!r} 的开头，不该扣着"
            )
            taken += piece
            yield piece

    for piece in until(arrive(), stop):
        assert piece, "有空的片段"
        given += piece
    return taken, given


def check_until(until):
    for pieces, stop, want in (
        (["你好", "，再", "见", "。后面"], "再见", "你好，"),
        (["一", "再", "再", "见", "二"], "再见", "一再"),
        (["没有", "停止", "词"], "再见", "没有停止词"),
        (["说到再"], "再见", "说到再"),
        (["a\n", "\nb", "c"], "\n\n", "a"),
        (["aab", "aabc", "d"], "aabc", "aab"),
    ):
        taken, given = run_until(until, pieces, stop)
        assert given == want, (
            f"片段 {pieces}、停止词 {stop!r}，应该给出 {want!r}，得到的是 {given!r}"
        )
        assert stop not in taken or pieces[-1] not in taken, (
            f"遇到 {stop!r} 之后还在取：{taken!r}"
        )


def check_perplexity(perplexity):
    for probabilities, want in (
        ([[0.25, 0.25]], 4),
        ([[1.0, 1.0], [1.0]], 1),
        ([[0.5] * 9, [0.25**3]], 2 ** (15 / 10)),
    ):
        got = perplexity([[log(p) for p in text] for text in probabilities])
        assert abs(got - want) < 1e-6, (
            f"各个 token 的概率是 {probabilities} 时应该得到 {want:.4f}，得到的是 {got:.4f}"
        )


TREE = {  # 前文 → 下一个的概率；第一步最好的，后面不一定好
    (): [0.5, 0.4, 0.1],
    (0,): [0.4, 0.3, 0.3],
    (1,): [0.8, 0.1, 0.1],
    (2,): [0.98, 0.01, 0.01],
}


def check_beam_search(beam_search):
    for width, length, want in ((1, 2, [0, 0]), (2, 2, [1, 0]), (3, 1, [0])):
        asked = []

        def next_logprobs(ids, asked=asked):
            asked.append(tuple(ids))
            return [log(p) for p in TREE[tuple(ids)]]

        ids, total = beam_search(next_logprobs, width, length)
        assert list(ids) == want, (
            f"宽度 {width}、长度 {length} 时应该得到 {want}，得到的是 {list(ids)}"
        )
        chance = 1.0
        for n, token in enumerate(want):
            chance *= TREE[tuple(want[:n])][token]
        assert abs(exp(total) - chance) < 1e-6, (
            f"{want} 的概率是 {chance:.2f}，得到的总分是 {total:.4f}，也就是 {exp(total):.2f}"
        )
        most = 1 + width * (length - 1)
        assert len(asked) <= most, (
            f"应该最多问 {most} 次，问了 {len(asked)} 次：{asked}"
        )

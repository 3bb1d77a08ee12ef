"""第三章练习的常见错法：函数名是「题名__错在哪里」，检查都要看得出来。"""

from math import exp

import torch


def stop_rows__只认第一个结束符(next_tokens, finished, eos_token_ids, pad_token_id):
    return (
        next_tokens.masked_fill(finished, pad_token_id),
        finished | (next_tokens == eos_token_ids[0]),
    )


def stop_rows__说完了还接着写(next_tokens, finished, eos_token_ids, pad_token_id):
    return (
        next_tokens,
        finished | torch.isin(next_tokens, torch.tensor(eos_token_ids)),
    )


def stop_rows__把结束符也换成填充(next_tokens, finished, eos_token_ids, pad_token_id):
    done = finished | torch.isin(next_tokens, torch.tensor(eos_token_ids))
    return (next_tokens.masked_fill(done, pad_token_id), done)


def position_ids__不管填充(attention_mask):
    return torch.arange(attention_mask.size(1)).expand_as(attention_mask)


def position_ids__从1数起(attention_mask):
    return attention_mask.cumsum(1)


def position_ids__填充是负数(attention_mask):
    return attention_mask.cumsum(1) - 1


def ban_end__只禁第一个(logits, length, min_new_tokens, eos_token_ids):
    logits = logits.clone()
    logits[:, eos_token_ids[:1]] = (
        logits[:, eos_token_ids[:1]] if length >= min_new_tokens else -float("inf")
    )
    return logits


def ban_end__多禁一步(logits, length, min_new_tokens, eos_token_ids):
    logits = logits.clone()
    logits[:, eos_token_ids] = (
        logits[:, eos_token_ids] if length > min_new_tokens else -float("inf")
    )
    return logits


def ban_end__改了原来的(logits, length, min_new_tokens, eos_token_ids):
    logits[:, eos_token_ids] = (
        logits[:, eos_token_ids] if length >= min_new_tokens else -float("inf")
    )
    return logits


def ban_repeats__出现过就禁(ids, logits, size):
    return logits.scatter(1, ids, -float("inf"))


def ban_repeats__只看第一行(ids, logits, size):
    row = ids[0].tolist()
    ban = [
        row[i + size - 1]
        for i in range(len(row) - size + 1)
        if row[i : i + size - 1] == row[len(row) - size + 1 :]
    ]
    logits = logits.clone()
    logits[:, ban] = -torch.inf
    return logits


def cache_bytes__数了全部的头(config, tokens, batch, bytes_each):
    return (
        2 * config.num_hidden_layers * config.hidden_size * tokens * batch * bytes_each
    )


def cache_bytes__忘了值(config, tokens, batch, bytes_each):
    return (
        config.num_hidden_layers
        * config.num_key_value_heads
        * config.hidden_size
        // config.num_attention_heads
        * tokens
        * batch
        * bytes_each
    )


def cache_bytes__忘了批(config, tokens, batch, bytes_each):
    return (
        2
        * config.num_hidden_layers
        * config.num_key_value_heads
        * (config.hidden_size // config.num_attention_heads)
        * tokens
        * bytes_each
    )


def until__一段一段地找(pieces, stop):
    for p in pieces:
        if stop in p:
            return
        yield p


def until__攒到最后(pieces, stop):
    text = "".join(pieces)
    yield text.split(stop)[0]


def until__总是扣着(pieces, stop):
    held = ""
    for p in pieces:
        held += p
        if stop in held:
            break
        if len(held) > len(stop):
            yield held[: -len(stop)]
            held = held[-len(stop) :]
    if held.split(stop)[0]:
        yield held.split(stop)[0]


def until__忘了最后扣着的(pieces, stop):
    held = ""
    for p in pieces:
        held += p
        if stop in held:
            if held.split(stop)[0]:
                yield held.split(stop)[0]
            return
        n = max(n for n in range(len(stop)) if held.endswith(stop[:n]))
        ready, held = (held[: len(held) - n], held[len(held) - n :])
        if ready:
            yield ready


def perplexity__先各算各的(texts):
    return sum(exp(-sum(t) / len(t)) for t in texts) / len(texts)


def perplexity__忘了负号(texts):
    flat = sum(texts, [])
    return exp(sum(flat) / len(flat))


def perplexity__没有取平均(texts):
    return exp(-sum(map(sum, texts)))


def beam_search__就是贪心(next_logprobs, width, length):
    ids, total = ([], 0)
    for _ in range(length):
        p = next_logprobs(ids)
        i = p.index(max(p))
        ids = ids + [i]
        total += p[i]
    return (ids, total)


def beam_search__全都试一遍(next_logprobs, width, length):
    beams = [([], 0)]
    for _ in range(length):
        beams = [
            (i + [t], s + p) for i, s in beams for t, p in enumerate(next_logprobs(i))
        ]
    return max(beams, key=lambda b: b[1])


def beam_search__只看最后一步(next_logprobs, width, length):
    beams = [([], 0)]
    for _ in range(length):
        beams = sorted(
            ((i + [t], p) for i, s in beams for t, p in enumerate(next_logprobs(i))),
            key=lambda b: -b[1],
        )[:width]
    return beams[0]

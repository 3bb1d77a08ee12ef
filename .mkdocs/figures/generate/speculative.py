"""猜测解码：一次前向检查几个猜测。"""

import torch
from kit import WIDTH, arrow, box, chat, figure, text


def next_tokens(model, ids, layers):
    """只走前 layers 层，每个位置上最可能的下一个 token。"""
    kept, model.model.layers = model.model.layers, model.model.layers[:layers]
    with torch.inference_mode():
        logits = model(torch.tensor([ids]), use_cache=False).logits
    model.model.layers = kept
    return logits[0].argmax(-1).tolist()


def speculation(model, tokenizer, question, count):
    """只走第一层的草稿，每次 count 个；返回猜中最多、又没有全中的那一轮的 (最后一个, 猜的, 模型说的)。"""
    layers, ends = len(model.model.layers), model.generation_config.eos_token_id
    ids, rounds = tokenizer(chat(tokenizer, question)).input_ids, []
    while ids[-1] not in ends:
        guess = []
        while len(guess) < count:
            guess.append(next_tokens(model, ids + guess, 1)[-1])
        own = next_tokens(model, ids + guess, layers)[-count - 1 :]
        pairs = zip(guess, own, strict=False)
        right = next(
            (n for n, (g, o) in enumerate(pairs) if g != o or g in ends), count
        )
        if right < count and not {*guess, *own} & {*ends}:
            rounds.append((right, ids[-1], guess, own))
        ids += own[: right + 1]
    return max(rounds, key=lambda r: r[0])[1:]  # 一样多的，取最早的一轮


def draw(page):
    """猜测解码的一次前向：送进去的、模型说的、猜的，逐个对照。"""
    tokenizer, model = page["tokenizer"], page["model"]
    last, guess, own = speculation(model, tokenizer, "什么是 token？", 4)
    left, height, cell = 1.5, 28, (WIDTH - 3) / len(own)
    words = {i: tokenizer.decode([i]).strip() for i in (last, *guess, *own)}
    right = next(n for n, g in enumerate(guess) if g != own[n])
    shapes, y = [], 0

    def row(label, ids, note=""):
        nonlocal y
        shapes.append(text(left, y + 13, label, style="small muted"))
        if note:
            shapes.append(text(WIDTH - 2, y + 13, note, style="small muted", end=True))
        y += 21
        for n, (i, style, tone) in enumerate(ids):
            x, dashed = left + n * cell, style == "wire"
            shapes.extend(
                [
                    box(x + 2, y, cell - 4, height, style, 4, dashed=dashed),
                    text(x + cell / 2, y + 19, words[i], style=f"small mid{tone}"),
                ]
            )
        y += height

    def down():
        nonlocal y
        for n in range(len(own)):
            shapes.append(arrow(left + (n + 0.5) * cell, y + 3, 16, down=True))
        y += 22

    row(
        "送进去", [(last, "panel", ""), *((g, "wire", "") for g in guess)], "虚线是猜的"
    )
    down()
    shapes += [
        box(left + 2, y, WIDTH - 7, 32, "panel"),
        text(WIDTH / 2, y + 22, "一次前向", style="title mid"),
    ]
    y += 32
    down()
    y += 4
    said = [(i, "panel", "") for i in own[:right]]
    said.append((own[right], "now", " accent"))
    said += [(i, "wire", " muted") for i in own[right + 1 :]]
    row("模型说，下一个是", said)
    y += 4
    row("猜的是", [(g, "wire", " muted" * (n > right)) for n, g in enumerate(guess)])
    verdicts = ["猜对"] * right + ["改正"] + ["作废"] * (len(own) - right - 1)
    for n, verdict in enumerate(verdicts):
        tone = " accent" if n == right else " muted" if n > right else ""
        x = left + (n + 0.5) * cell
        shapes.append(text(x, y + 19, verdict, style=f"small mid{tone}"))
    guesses = "、".join(f"「{words[g]}」" for g in guess)
    title = f"一次前向检查 {len(guess)} 个猜测：{guesses}；前 {right} 个猜对，下一个改成「{words[own[right]]}」"
    return figure("speculative", title, y + 26, shapes)

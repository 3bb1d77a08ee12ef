"""画插图。图里的编号、切法与数都当场算出来：分词器、语料或模型变了，重新运行一次就好。

用法：
    python .mkdocs/figures.py        # 写 docs/assets/figures/*.svg
"""

import base64
import json
import re
import sys
from html import escape
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "docs/assets/figures"
WIDTH = 340


def text(x, y, *parts, style="", end=False):
    """一行字；parts 是字符串，或 (字符串, 类)；end 是靠右对齐，x 是右端。"""
    parts = [(p, "") if isinstance(p, str) else p for p in parts]
    spans = (
        f'<tspan class="{c}">{escape(p)}</tspan>' if c else escape(p)
        for p, c in parts
        if p
    )
    attributes = (
        (f'class="{style}" ' if style else "")
        + f'x="{x:g}" y="{y:g}"'
        + ' text-anchor="end"' * end
    )
    return f"<text {attributes}>{''.join(spans)}</text>"


def box(x, y, width, height, style="box", radius=4, dashed=False):
    dashes = ' stroke-dasharray="3 2"' if dashed else ""
    return f'<rect class="{style}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius}"{dashes}/>'


def big(x, y, char, style=""):
    return f'<text class="mid{style}" x="{x:g}" y="{y:g}" style="font-size: 32px">{escape(char)}</text>'


def wire(path, style="wire"):
    return f'<path class="{style}" d="{path}"/>'


def arrow(x, y, length, style="wire", down=False):
    head = "m-4.5 -5.5l4.5 5.5l4.5 -5.5" if down else "m-5.5 -4.5l5.5 4.5l-5.5 4.5"
    return wire(f"M{x:g} {y:g}{'v' if down else 'h'}{length:g}{head}", style)


def figure(name, title, height, shapes):
    head = f'<svg class="narrow" viewBox="0 0 {WIDTH} {height:g}" role="img" aria-labelledby="{name}-title">'
    return "\n".join(
        [head, f'<title id="{name}-title">{escape(title)}</title>', *shapes, "</svg>\n"]
    )


def split_after(ids, end):
    """在每个 end 之后断开。"""
    rows = [[]]
    for i in ids:
        rows[-1].append(i)
        if i == end:
            rows.append([])
    return [row for row in rows if row]


def wrap(words, limit, joint=""):
    """把词排成几行，每行不超过 limit 个字符。"""
    rows = [words[0]]
    for word in words[1:]:
        if len(rows[-1] + joint + word) <= limit:
            rows[-1] += joint + word
        else:
            rows.append(word)
    return rows


def accented(row, word):
    """把一行里的 word 标成强调色。"""
    before, found, after = row.partition(word)
    return [before, (found, "accent"), after]


def chat(tokenizer, question):
    messages = [{"role": "user", "content": question}]
    return tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True
    )


def four_steps(tokenizer, question, answer):
    """一问一答走过的四步。"""
    shapes, y = [], 1.5

    def frame(rows, step=22):
        nonlocal y
        height = step * (len(rows) - 1) + 36
        shapes.append(box(1.5, y, WIDTH - 3, height, "panel", 8))
        for n, (style, *parts) in enumerate(rows):
            shapes.append(text(14, y + 22 + step * n, *parts, style=style))
        y += height

    def step(name, call):
        nonlocal y
        shapes.extend(
            [
                arrow(22, y + 6, 32, down=True),
                text(40, y + 28, name, style="title"),
                text(WIDTH - 2, y + 27, call, style="mono small muted", end=True),
            ]
        )
        y += 44

    mono = "mono small"
    prompt = chat(tokenizer, question)
    prompt_ids, new_ids, [newline] = (
        tokenizer(s).input_ids for s in (prompt, answer, "\n")
    )
    asked = " ".join(map(str, tokenizer(question).input_ids))
    end = tokenizer.eos_token_id

    indent = "\u00a0\u00a0"  # 不断行的空格，SVG 不会把它们去掉
    frame(
        [
            (mono, '[{"role": "user",'),
            (mono, *accented(f'{indent}"content": "{question}"}}]', question)),
        ]
    )
    step("标准化提示语", "apply_chat_template")
    frame(
        [
            (mono, *accented(line, question), ("↵", "muted"))
            for line in prompt.splitlines()
        ]
    )
    step("序列化", "tokenizer(text)")
    frame(
        [
            (mono, *accented(" ".join(map(str, row)), asked))
            for row in split_after(prompt_ids, newline)
        ]
    )
    step("生成", "model.generate")
    *rows, last = wrap([str(i) for i in new_ids], 36, " ")
    before = ("small muted", f"前 {len(prompt_ids)} 个还是提示语，后面是新写的")
    frame(
        [
            before,
            *((mono, (row, "accent")) for row in rows),
            (mono, (last, "accent"), f" {end}"),
        ]
    )
    step("反序列化", "tokenizer.decode")
    frame([("accent", row) for row in wrap(re.findall(r".+?[，。]", answer), 20)], 24)
    title = f"「{question}」经过四步变成回答：标准化提示语、序列化、生成、反序列化"
    return figure("four-steps", title, y + 1.5, shapes)


def read_ranks():
    """Qwen2 的词表：字节串 → 编号。"""
    lines = (files("dashscope") / "resources/qwen.tiktoken").read_bytes().splitlines()
    return {
        base64.b64decode(token): int(rank) for token, rank in map(bytes.split, lines)
    }


def byte_pairs(word, ranks):
    """字节对编码：先合并编号最小的一对。返回 (合并, 剩下的)，每一段写成 (起点, 终点)。"""
    parts, merges = [(i, i + 1) for i in range(len(word))], []
    while True:
        pairs = [(word[a:d], i) for i, ((a, _), (_, d)) in enumerate(pairwise(parts))]
        found = [(ranks[pair], i) for pair, i in pairs if pair in ranks]
        if not found:
            return merges, parts
        rank, i = min(found)
        left, right = parts[i : i + 2]
        merges.append((left, right, rank))
        parts[i : i + 2] = [(left[0], right[1])]


def bpe(ranks, word):
    """一个单词的合并树：每合并一次往下一行，最后一行是结果。"""
    left, cell, height, gap = 38, 17, 22, 9
    merges, parts = byte_pairs(word, ranks)
    top = 26
    row = {(i, i + 1): 0 for i in range(len(word))}  # 每一段在第几行

    def token(span, n, style="box"):
        a, b = span
        y = top + n * (height + gap)
        label = text(
            left + (a + b) / 2 * cell,
            y + 15.5,
            word[a:b].decode(),
            style="mono small mid",
        )
        inset = 2 if style == "now" else 1
        return [
            box(
                left + a * cell + inset, y, (b - a) * cell - 2 * inset, height, style, 3
            ),
            label,
        ]

    def down(span, n):
        x = left + sum(span) / 2 * cell
        return wire(
            f"M{x:g} {top + row[span] * (height + gap) + height}V{top + n * (height + gap)}"
        )

    shapes = [
        text(15, 14, "次序", style="small muted mid"),
        text(
            left + len(word) / 2 * cell, 14, "从单个字节开始", style="small muted mid"
        ),
        text(310, 14, "编号", style="small muted mid"),
    ]
    for span in row:
        shapes += token(span, 0)
    for n, (one, two, rank) in enumerate(merges, 1):
        y = top + n * (height + gap) + 15.5
        shapes += [down(one, n), down(two, n), *token((one[0], two[1]), n, "panel")]
        shapes += [
            text(15, y, str(n), style="small muted mid"),
            text(310, y, str(rank), style="mono small mid"),
        ]
        row[one[0], two[1]] = n
    last = len(merges) + 1
    for span in parts:
        middle = left + sum(span) / 2 * cell
        shapes += [down(span, last), *token(span, last, "now")]
        y = top + last * (height + gap) + height + 17
        shapes.append(
            text(
                middle, y, str(ranks[word[slice(*span)]]), style="mono small mid accent"
            )
        )
    shapes += [
        text(15, y - height - 1.5, "结果", style="small muted mid"),
        text(15, y, "编号", style="small muted mid"),
    ]
    title = f"{word.decode()} 的 {len(word)} 个字母合并 {len(merges)} 次，成为 {len(parts)} 个 token"
    return figure("bpe", title, y + 6, shapes)


def padding(tokenizer, questions):
    """左填充与右填充：短的一行从哪里接着写。"""
    left, cell, height, head, tail = 1.5, 38, 26, 3, 4
    prompts = [chat(tokenizer, q) for q in questions]
    shapes, y = [], 0
    for side, name in (("left", "左填充"), ("right", "右填充")):
        tokenizer.padding_side = side
        batch = tokenizer(prompts, padding=True)
        shapes.append(text(left, y + 18, name, style="title"))
        y += 30
        for question, ids, mask in zip(
            questions, batch.input_ids, batch.attention_mask, strict=True
        ):
            wrong = mask[-1] == 0
            ending = (
                "填充"
                if wrong
                else f" {tokenizer.decode(ids[-2:])} ".replace("\n", "↵")
            )
            shapes.append(text(left, y + 14, question, style="small"))
            tone = "small accent" if wrong else "small muted"
            shapes.append(
                text(WIDTH - 2, y + 14, f"接在{ending}后面", style=tone, end=True)
            )
            y += 22
            columns = [*range(head), *range(len(ids) - tail, len(ids))]
            for n, i in enumerate(columns):
                x = left + n * cell + (18 if n >= head else 0)
                last = wrong and i == len(ids) - 1
                style = "now" if last else "panel" if mask[i] else "wire"
                middle = x + cell / 2
                shapes += [
                    box(x + 1, y, cell - 2, height, style, 3, dashed=style == "wire"),
                    text(
                        middle,
                        y + 17.5,
                        str(ids[i]),
                        style="mono small mid" + (" accent" if last else ""),
                    ),
                    text(
                        middle,
                        y + height + 15,
                        str(mask[i]),
                        style="mono small mid muted",
                    ),
                ]
            shapes.append(
                text(left + head * cell + 9, y + 17, "…", style="small mid muted")
            )
            x = left + len(columns) * cell + 18
            shapes += [
                arrow(x + 3, y + height / 2, 17, "wire accent" if wrong else "wire"),
                text(
                    x + 31, y + 18, "?", style="mono mid" + (" accent" if wrong else "")
                ),
            ]
            y += height + 26
        y += 8
    pad = f"{tokenizer.pad_token_id} 是填充符 {tokenizer.pad_token}"
    shapes += [
        text(left, y + 8, pad, style="small muted"),
        text(
            left,
            y + 28,
            "格子下面是 attention_mask：1 是内容，0 是填充",
            style="small muted",
        ),
    ]
    title = f"「{'」与「'.join(questions)}」补成一样长：左填充时最后都是提示语的结尾，右填充时短的一行最后是填充符"
    return figure("padding", title, y + 34, shapes)


def half_char(tokenizer, ranks, char):
    """一个字的几个字节分在几个 token 里：各自解码与合起来解码。"""
    left, cell, data = 104, 78, char.encode()
    centre, right = left + len(data) * cell / 2, left + len(data) * cell
    own = tokenizer(char).input_ids
    sizes = [
        len(token) for token in tokenizer.convert_ids_to_tokens(own)
    ]  # 每个字节借用一个可见字符
    _, parts = byte_pairs(data, ranks)
    models = {
        "芥子的 token": zip(own, sizes, strict=True),
        "Qwen2 的 token": [(ranks[data[a:b]], b - a) for a, b in parts],
    }
    shapes = [
        text(1.5, 30, "一个字", style="small"),
        big(centre, 38, char),
        text(1.5, 91, "UTF-8 字节", style="small"),
    ]
    for n, byte in enumerate(data):
        x = left + (n + 0.5) * cell
        shapes += [
            wire(f"M{centre:g} 48L{x:g} 72"),
            box(x - cell / 2 + 2, 72, cell - 4, 28),
        ]
        shapes.append(text(x, 91.5, f"{byte:02X}", style="mono mid"))
    y = 114
    for name, tokens in models.items():
        x = left
        shapes.append(text(1.5, y + 18.5, name, style="small"))
        for i, size in tokens:
            shapes.append(box(x + 2, y, size * cell - 4, 28, "panel"))
            shapes.append(text(x + size * cell / 2, y + 19.5, str(i), style="mono mid"))
            x += size * cell
        y += 36
    shapes.append(text(1.5, y + 48, "各自解码", style="small"))
    x = left
    for i, size in zip(own, sizes, strict=True):
        shapes.append(arrow(x + size * cell / 2, y - 2, 22, down=True))
        shapes.append(
            big(x + size * cell / 2, y + 55, tokenizer.decode([i]), " accent")
        )
        x += size * cell
    y += 72
    shapes.append(wire(f"M{left + 2} {y}v7H{right - 2}v-7M{centre:g} {y + 7}v9"))
    shapes += [
        text(1.5, y + 43, "合起来解码", style="small"),
        big(centre, y + 50, tokenizer.decode(own)),
    ]
    hexes = " ".join(f"{byte:02X}" for byte in data)
    title = f"「{char}」的字节 {hexes} 分在 {len(own)} 个 token 里：各自解码都是替换字符，合起来解码才是「{char}」"
    return figure("half-char", title, y + 62, shapes)


def next_tokens(model, ids, layers):
    """只走前 layers 层，每个位置上最可能的下一个 token。"""
    kept, model.model.layers = model.model.layers, model.model.layers[:layers]
    with torch.inference_mode():
        logits = model(torch.tensor([ids]), use_cache=False).logits
    model.model.layers = kept
    return logits[0].argmax(-1).tolist()


def speculation(model, tokenizer, question, count, wanted):
    """只走第一层的草稿，每次 count 个；返回第一次恰好猜中 wanted 个时的 (最后一个, 猜的, 模型说的)。"""
    layers = len(model.model.layers)
    ids = tokenizer(chat(tokenizer, question)).input_ids
    while True:
        guess = []
        while len(guess) < count:
            guess.append(next_tokens(model, ids + guess, 1)[-1])
        own = next_tokens(model, ids + guess, layers)[-count - 1 :]
        pairs = zip(guess, own, strict=False)
        right = next((n for n, (g, o) in enumerate(pairs) if g != o), count)
        if right == wanted:
            return ids[-1], guess, own
        ids += own[: right + 1]


def speculative(tokenizer, last, guess, own):
    """猜测解码的一次前向：送进去的、模型说的、猜的，逐个对照。"""
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


def load_model():
    """芥子，float32。"""
    path = ROOT / "examples/jiezi"
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()


def prompt_ids(tokenizer, question):
    return torch.tensor([tokenizer(chat(tokenizer, question)).input_ids])


def loop(tokenizer, model, question, steps=4):
    """自回归：每一步写下的 token，是下一步输入的最后一个。"""
    ids = prompt_ids(tokenizer, question)
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        repetition_penalty=1.0,
        max_new_tokens=100,
    )
    words = [tokenizer.decode([i]).strip() for i in output[0, ids.size(1) :].tolist()]
    left, height, pitch = 56, 28, 64  # 提示语的宽，格子的高，行距

    def wide(word):
        return sum(13 if ord(c) > 0x2E7F else 8 for c in word) + 12

    def row(y, name, known, new):
        """一行：提示语和已经写的 known，经过模型，得到 new。返回两个格子的中线。"""
        x = 1.5 + left
        shapes.append(text(1.5, y + 11, name, style="small muted"))
        shapes.append(box(1.5, y + 18, left, height, "panel"))
        shapes.append(text(1.5 + left / 2, y + 36.5, "提示语", style="small mid"))
        for n, word in enumerate(known):
            last = n == len(known) - 1
            size = 20 if word == "…" else wide(word)
            if word != "…":
                style = "now" if last else "panel"
                shapes.append(box(x + 3, y + 18, size, height, style))
            tone = "small mid accent" if last else "small mid"
            shapes.append(text(x + 3 + size / 2, y + 36.5, word, style=tone))
            middle, x = x + 3 + size / 2, x + 3 + size
        shapes.append(arrow(x + 5, y + 18 + height / 2, 42))
        shapes.append(text(x + 25, y + 27, "模型", style="small mid muted"))
        x += 52
        shapes.append(box(x, y + 18, wide(new), height, "now"))
        shapes.append(text(x + wide(new) / 2, y + 36.5, new, style="small mid accent"))
        return middle if known else None, x + wide(new) / 2

    shapes, y, before = [], 1.5, None
    rows = [(f"第 {n + 1} 步", words[:n], words[n]) for n in range(steps)]
    rows.append((f"第 {len(words)} 步", ["…", words[-2]], words[-1]))
    for n, (name, known, new) in enumerate(rows):
        here, after = row(y, name, known, new)
        if before and n < steps:  # 上一步的输出折下来，接在这一步的末尾
            shapes.append(
                wire(f"M{before:g} {y - pitch + 46}v10H{here:g}", "wire accent")
            )
            shapes.append(arrow(here, y - pitch + 56, 24, "wire accent", down=True))
        before, y = after, y + pitch
        if n == steps - 1:
            shapes.append(text(1.5 + left / 2, y + 8, "⋮", style="mid muted"))
            y += 16
    shapes.append(
        text(1.5, y + 4, f"{words[-1]} 是结束符：循环到此为止", style="small muted")
    )
    title = f"自回归的循环：「{question}」的回答一步写一个 token，每一步的输入都含着上一步的输出"
    return figure("loop", title, y + 12, shapes)


def grid(name, title, tokens, columns):
    """一列一种设置，一行一个 token：概率和条。columns 是 [(列名, 值, 概率)]，第一列是原样。"""
    left, pitch, top = 74, 34, 44
    cell = (WIDTH - 2 - left) / len(columns)
    scale = (cell - 10) / max(p for *_, probs in columns for p in probs)
    shapes = [
        text(1.5, top + pitch * n + 15, token, style="small")
        for n, token in enumerate(tokens)
    ]
    for c, (head, value, probs) in enumerate(columns):
        x = left + cell * c + 6
        shapes.append(text(x, 13, head, style="small"))
        shapes.append(text(x, 31, value, style="small muted"))
        for n, p in enumerate(probs):
            y = top + pitch * n
            if p:
                shapes.append(text(x, y + 11, f"{p:.2f}", style="mono small"))
                shapes.append(
                    f'<rect class="{"seed" if c else "plain"}" x="{x:g}" y="{y + 16:g}" '
                    f'width="{p * scale:.1f}" height="8" style="fill: var(--{"accent" if c else "muted"})"/>'
                )
            else:
                shapes.append(text(x, y + 11, "去掉", style="small muted"))
    return figure(name, title, top + pitch * len(tokens), shapes)


def distributions(tokenizer, model, question, n=6):
    """question 之后第一个 token 的分布，和每种设置下的样子。"""
    ids = prompt_ids(tokenizer, question)
    with torch.no_grad():
        logits = model(ids).logits[:, -1].float()
    best = logits[0].topk(n).indices
    tokens = [tokenizer.decode([i]).strip() for i in best]

    def probs(processor=None):
        scores = processor(ids, logits) if processor else logits
        return scores.softmax(-1)[0, best].tolist()

    temperatures = [("T=1", "原样", probs())]
    for t in (0.2, 0.7, 2.0):
        temperatures.append((f"T={t:g}", "", probs(TemperatureLogitsWarper(t))))
    settings = [
        ("原样", "", probs()),
        ("温度", "0.7", probs(TemperatureLogitsWarper(0.7))),
        ("top-k", "2", probs(TopKLogitsWarper(2))),
        ("top-p", "0.8", probs(TopPLogitsWarper(0.8))),
        ("min-p", "0.5", probs(MinPLogitsWarper(0.5))),
        ("惩罚", "1.1", probs(RepetitionPenaltyLogitsProcessor(1.1))),
    ]
    about = f"「{question}」之后第一个 token 的概率"
    return {
        "temperature.svg": grid(
            "temperature", f"{about}：温度 1、0.2、0.7、2", tokens, temperatures
        ),
        "sampling.svg": grid(
            "sampling",
            f"{about}：原样，和温度、top-k、top-p、min-p、重复惩罚之后",
            tokens,
            settings,
        ),
    }


def kv_cache(tokenizer, model, question, steps=4):
    """缓存怎样长大：第一步存下提示语的全部，以后每步只多一列。"""
    ids, seen = prompt_ids(tokenizer, question), []
    output, new = model(ids), []
    while not new or new[-1] != tokenizer.eos_token_id:
        keys = output.past_key_values.layers[0].keys
        seen.append((ids.size(1), tuple(keys.shape)))  # 送入几个，存了多少
        ids = output.logits[:, -1:].argmax(-1)
        new.append(ids.item())
        output = model(ids, past_key_values=output.past_key_values)
    left, height, y, shapes = 24, 13, 1.5, []
    cell = (WIDTH - 2 - left) / seen[-1][1][2]
    for n in [*range(steps), len(seen) - 1]:
        sent, shape = seen[n]
        if n >= steps:
            shapes.append(text(left + 20, y + 9, "⋮", style="mid muted"))
            y += 22
        note = f"第 {n + 1} 步，送入 {sent} 个"
        shapes.append(text(1.5, y + 12, note, style="small"))
        sizes = f"({', '.join(map(str, shape))})"
        shapes.append(
            text(WIDTH - 2, y + 12, sizes, style="mono small muted", end=True)
        )
        y += 21
        for name in "键值":
            shapes.append(text(1.5, y + 11, name, style="small muted"))
            old = range(shape[2] - sent)
            for style, columns in (("box", old), ("seed", range(len(old), shape[2]))):
                parts = (
                    f"M{left + cell * i + 0.6:.1f} {y:g}h{cell - 1.2:.1f}v{height}h-{cell - 1.2:.1f}z"
                    for i in columns
                )
                if columns:
                    shapes.append(wire("".join(parts), style))
            y += height + 4
        y += 13
    layers = f"这是一层，{len(model.model.layers)} 层各有一份"
    shapes.append(text(1.5, y + 4, layers, style="small muted"))
    title = f"缓存长大：第一步存下提示语的 {seen[0][0]} 列，以后每步多一列，第 {len(seen)} 步有 {seen[-1][1][2]} 列"
    return figure("kv-cache", title, y + 12, shapes)


def kv_time(record):
    """写下一个 token 的时间：没有缓存随长度涨，有缓存不涨。"""
    left, right, top, bottom = 34, WIDTH - 10, 34, 226
    lengths, without = record["lengths"], record["without_ms"]
    highest = max(without)
    step = next(n for n in (1, 2, 5, 10, 20, 50, 100, 200) if highest / n <= 5)
    rows = -int(-highest // step)  # 横线几条

    def x(length):
        return left + (right - left) * length / lengths[-1]

    def y(ms):
        return bottom - (bottom - top) * ms / (rows * step)

    def curve(values, style):
        points = " ".join(
            f"{x(length):.1f},{y(ms):.1f}"
            for length, ms in zip(lengths, values, strict=True)
        )
        colour = "accent" if style else "fg"
        return (
            f'<polyline points="{points}" style="fill: none; stroke: var(--{colour}); '
            f'stroke-width: {3 if style else 1.5}"/>'
        )

    shapes = [text(1.5, 13, "写下一个 token 用几毫秒", style="small muted")]
    for n in range(rows + 1):
        shapes.append(
            f'<path d="M{left} {y(n * step):g}H{right}" style="stroke: var(--line)"/>'
        )
        label = str(n * step)
        shapes.append(
            text(left - 6, y(n * step) + 4.5, label, "", style="small", end=True)
        )
    for length in range(0, lengths[-1] + 1, 200):
        shapes.append(text(x(length), bottom + 18, str(length), style="small mid"))
    shapes += [
        text(right, bottom + 38, "前面有几个 token", style="small muted", end=True),
        curve(without, ""),
        curve(record["with_ms"], "accent"),
        text(x(450) - 8, y(without[lengths.index(450)]) - 14, "没有缓存", end=True),
        text(
            x(600) - 12,
            y(record["with_ms"][-1]) - 10,
            "有缓存",
            style="accent",
            end=True,
        ),
    ]
    a, b = lengths[0], lengths[-1]
    title = (
        f"前面的 token 从 {a} 个到 {b} 个，写下一个的时间：没有缓存从 {without[0]} 毫秒到 {without[-1]} 毫秒，"
        f"有缓存从 {record['with_ms'][0]} 毫秒到 {record['with_ms'][-1]} 毫秒"
    )
    return figure("kv-time", title, bottom + 44, shapes)


def tensor_parallel(config, pieces=2):
    """一个 MLP 分给两个进程：gate、up 切输出，down 切输入，最后相加一次。"""
    hidden, width = config.hidden_size, config.intermediate_size
    share, unit, frame, middle = width // pieces, 112 / width, 161, WIDTH / 2
    short, long = hidden * unit, width * unit  # 矩阵画出来的两条边
    top, bottom = 60, 404
    shapes = [
        box(middle - 62, 1.5, 124, 28, "panel"),
        text(middle, 20.5, ("x  ", "mono"), f"{hidden} 个数", style="mid"),
    ]
    for n in range(pieces):
        left = 1.5 + n * (WIDTH - 3 - frame)
        centre = left + frame / 2
        shapes += [
            wire(f"M{middle:g} 29.5V42H{centre:g}"),
            arrow(centre, 42, top - 44, down=True),
            box(left, top, frame, bottom - top, "panel", 8),
            text(centre, top + 25, f"进程 {n}", style="title mid"),
        ]
        y = top + 40
        for x, name in ((centre - short - 10, "gate"), (centre + 10, "up")):
            shapes += [
                box(x, y, short, long, "wire", 0, dashed=True),
                box(x, y + n * long / pieces, short, long / pieces, "now", 0),
                text(x + short / 2, y + long + 18, name, style="mono small mid"),
            ]
        y += long + 38
        shapes += [
            text(centre, y, f"各 {share}×{hidden}", style="small mid accent"),
            arrow(centre, y + 8, 14, down=True),
            text(centre, y + 38, f"{share} 个数", style="small mid"),
            arrow(centre, y + 45, 14, down=True),
        ]
        y += 66
        x = centre - long / 2
        shapes += [
            box(x, y, long, short, "wire", 0, dashed=True),
            box(x + n * long / pieces, y, long / pieces, short, "now", 0),
            text(centre, y + short + 17, "down", style="mono small mid"),
            text(centre, y + short + 36, f"{hidden}×{share}", style="small mid accent"),
            wire(
                f"M{centre:g} {bottom}v46H{middle + (n - 0.5) * 124:g}", "wire accent"
            ),
        ]
    y = bottom + 30
    shapes += [
        text(middle, bottom + 20, f"各 {hidden} 个数", style="small mid muted"),
        box(middle - 62, y - 2, 124, 32, "now"),
        text(middle, y + 19, "对应的数相加", style="mid accent"),
        arrow(middle, y + 32, 18, down=True),
        box(middle - 62, y + 54, 124, 28, "panel"),
        text(middle, y + 73, ("y  ", "mono"), f"{hidden} 个数", style="mid"),
    ]
    title = f"MLP 分给 {pieces} 个进程：gate 与 up 各 {share}×{hidden}，down {hidden}×{share}，最后相加一次"
    return figure("tensor-parallel", title, y + 84, shapes)


def measured(name):
    """examples/generate/measured/ 里记下的一次测量。"""
    path = ROOT / f"examples/generate/measured/{name}.json"
    return json.loads(path.read_text("utf-8"))


def ladder(rungs):
    """梯子：一级一条，长短是每秒几个 token，细线是各轮的最小与最大。"""
    pitch, scale = 42, (WIDTH - 4) / max(r["tokens_per_second_range"][1] for r in rungs)
    best = max(
        (r for r in rungs if r["batch"] == 1), key=lambda r: r["tokens_per_second"]
    )
    shapes = []
    for n, rung in enumerate(rungs):
        y, tone = n * pitch, "accent" if rung is best else "muted"
        speed = f"{rung['tokens_per_second']:,.0f}"
        low, high = (x * scale for x in rung["tokens_per_second_range"])
        shapes.append(text(1.5, y + 13, rung["name"], style="small"))
        shapes.append(text(WIDTH - 2, y + 13, speed, style="mono small", end=True))
        shapes.append(
            f'<rect x="1.5" y="{y + 20:g}" width="{rung["tokens_per_second"] * scale:.1f}" '
            f'height="9" style="fill: var(--{tone})"/>'
        )
        shapes.append(wire(f"M{1.5 + low:.1f} {y + 33}H{1.5 + high:.1f}"))
    title = f"每秒写几个 token：从{rungs[0]['name']}的 {rungs[0]['tokens_per_second']:.0f} 个，到{best['name']}的 {best['tokens_per_second']:.0f} 个"
    return figure("ladder", title, len(rungs) * pitch, shapes)


def draw():
    """全部插图：{文件名: SVG}。"""
    sys.path.insert(0, str(ROOT / "examples/train"))
    import corpus

    tokenizer = AutoTokenizer.from_pretrained(ROOT / "examples/jiezi")
    ranks = read_ranks()
    [answer] = [e.answer for e in corpus.entries() if e.id == "self-who"]
    model = load_model()
    return {
        "four-steps.svg": four_steps(tokenizer, "你是谁？", answer),
        "bpe.svg": bpe(ranks, b"congratulation"),
        "padding.svg": padding(tokenizer, ["你是谁？", "什么是因果掩码？"]),
        "half-char.svg": half_char(tokenizer, ranks, "龘"),
        "loop.svg": loop(tokenizer, model, "什么是 token？"),
        **distributions(tokenizer, model, "聊天模板写错一个换行，后果严重吗"),
        "speculative.svg": speculative(
            tokenizer, *speculation(model, tokenizer, "什么是 token？", 4, 3)
        ),
        "kv-cache.svg": kv_cache(tokenizer, model, "什么是 token？"),
        "kv-time.svg": kv_time(measured("kv_cache")),
        "ladder.svg": ladder([r for r in measured("faster") if r["model"] == "jiezi"]),
        "tensor-parallel.svg": tensor_parallel(
            AutoConfig.from_pretrained(ROOT / "examples/jiezi")
        ),
    }


if __name__ == "__main__":
    for file, svg in draw().items():
        (FIGURES / file).write_text(svg, encoding="utf-8")
        print(FIGURES.relative_to(ROOT) / file)

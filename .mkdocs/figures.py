"""画第二章的插图。图里的编号与切法都当场算出来：分词器或语料变了，重新运行一次就好。

用法：
    python .mkdocs/figures.py        # 写 docs/assets/figures/*.svg
"""

import base64
import re
import sys
from html import escape
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

from transformers import AutoConfig, AutoTokenizer

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


def draw():
    """全部插图：{文件名: SVG}。"""
    sys.path.insert(0, str(ROOT / "examples/train"))
    import corpus

    tokenizer = AutoTokenizer.from_pretrained(ROOT / "examples/jiezi")
    ranks = read_ranks()
    [answer] = [e.answer for e in corpus.entries() if e.id == "self-who"]
    return {
        "four-steps.svg": four_steps(tokenizer, "你是谁？", answer),
        "bpe.svg": bpe(ranks, b"congratulation"),
        "padding.svg": padding(tokenizer, ["你是谁？", "什么是因果掩码？"]),
        "half-char.svg": half_char(tokenizer, ranks, "龘"),
        "tensor-parallel.svg": tensor_parallel(
            AutoConfig.from_pretrained(ROOT / "examples/jiezi")
        ),
    }


if __name__ == "__main__":
    for file, svg in draw().items():
        (FIGURES / file).write_text(svg, encoding="utf-8")
        print(FIGURES.relative_to(ROOT) / file)

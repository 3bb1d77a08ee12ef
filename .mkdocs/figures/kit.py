"""画插图的小工具：一行字、一个框、一根线、一个箭头，合成一幅 SVG。颜色与字体由站点的样式表定。

一幅图一个模块，与图同名：generate/kv_cache.py 画 kv-cache.svg。模块里的 draw(page) 收下页面脚本跑完之后的名字，
返回 SVG；图里的数都从那里来。重画：pytest docs --update-outputs；只画一页：pytest docs/generate/loop.md --update-outputs。
"""

from html import escape
from itertools import pairwise

import torch

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


def prompt_ids(tokenizer, question):
    return torch.tensor([tokenizer(chat(tokenizer, question)).input_ids])

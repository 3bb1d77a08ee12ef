"""加载模型：一问一答走过的四步。"""

import re

import torch
from kit import WIDTH, accented, arrow, box, chat, figure, prompt_ids, text, wrap


def split_after(ids, end):
    """在每个 end 之后断开。"""
    rows = [[]]
    for i in ids:
        rows[-1].append(i)
        if i == end:
            rows.append([])
    return [row for row in rows if row]


def draw(page):
    """一问一答走过的四步。"""
    tokenizer, model, question = page["tokenizer"], page["model"], "你是谁？"
    ids = prompt_ids(tokenizer, question)
    greedy = {"do_sample": False, "repetition_penalty": 1.0}
    output = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=100, **greedy
    )
    *new_ids, end = output[0, ids.size(1) :].tolist()
    answer = tokenizer.decode(new_ids)
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
    sent, [newline] = (tokenizer(s).input_ids for s in (prompt, "\n"))
    asked = " ".join(map(str, tokenizer(question).input_ids))

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
            for row in split_after(sent, newline)
        ]
    )
    step("生成", "model.generate")
    *rows, last = wrap([str(i) for i in new_ids], 36, " ")
    before = ("small muted", f"前 {len(sent)} 个还是提示语，后面是新写的")
    frame(
        [
            before,
            *((mono, (row, "accent")) for row in rows),
            (mono, (last, "accent"), f" {end}"),
        ]
    )
    step("反序列化", "tokenizer.decode")
    frame(
        [("accent", row) for row in wrap(re.findall(r".+?(?:[，。]|$)", answer), 20)],
        24,
    )
    title = f"「{question}」经过四步变成回答：标准化提示语、序列化、生成、反序列化"
    return figure("four-steps", title, y + 1.5, shapes)

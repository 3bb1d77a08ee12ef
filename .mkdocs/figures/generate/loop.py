"""循环：自回归的几步。"""

import torch
from kit import arrow, box, figure, prompt_ids, text, wire


def draw(page):
    """自回归：每一步写下的 token，是下一步输入的最后一个。"""
    tokenizer, model = page["tokenizer"], page["model"]
    question, steps = "什么是 token？", 4
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

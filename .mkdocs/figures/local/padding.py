"""序列化：左填充与右填充。"""

from kit import WIDTH, arrow, box, chat, figure, text


def draw(page):
    """左填充与右填充：短的一行从哪里接着写。"""
    tokenizer, questions = page["tokenizer"], page["questions"]
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

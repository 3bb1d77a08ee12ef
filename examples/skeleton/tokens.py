"""数一数：一句话切成的几段。"""

from kit import WIDTH, box, figure, text


def draw(page):
    """一段一个框。"""
    ids = page["tokenizer"](page["question"]).input_ids
    cell, shapes = (WIDTH - 3) / len(ids), []
    for n, i in enumerate(ids):
        x = 1.5 + n * cell
        word = page["tokenizer"].decode([i])
        shapes.append(box(x + 2, 2, cell - 4, 28))
        shapes.append(text(x + cell / 2, 21, word, style="mid"))
    title = f"「{page['question']}」切成 {len(ids)} 个 token"
    return figure("tokens", title, 34, shapes)

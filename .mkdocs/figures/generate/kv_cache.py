"""KV 缓存：一步多一列。"""

from kit import WIDTH, figure, prompt_ids, text, wire


def draw(page):
    """缓存怎样长大：第一步存下提示语的全部，以后每步只多一列。"""
    tokenizer, model = page["tokenizer"], page["model"]
    question, steps = "什么是 token？", 4
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

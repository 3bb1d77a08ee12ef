"""序列化：一个字分在几个 token 里。"""

from kit import arrow, big, box, byte_pairs, figure, text, wire


def draw(page):
    """一个字的几个字节分在几个 token 里：各自解码与合起来解码。"""
    tokenizer, ranks, char = page["tokenizer"], page["ranks"], "龘"
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

"""语料：一段对话的 token 一格一格排开，计损失的着色，箭头从一个位置指向它预测的 token。"""

from kit import WIDTH, box, figure, text, wire

LEFT, GAP, HEIGHT, PITCH = 1.5, 4, 24, 46  # 左边、格子之间、格子的高、行距


def width(word):
    """一格的宽：汉字 13，别的 7.6。"""
    return sum(13 if ord(c) > 0x2E7F else 7.6 for c in word) + 9


def bend(path, end, y):
    """接着 path，在格子上方横着走到 end，再往下指到格子的上沿 y。"""
    head = "m-3 -4.5l3 4.5l3 -4.5"
    return wire(f"{path}H{end:g}V{y - 1:g}{head}", "wire accent")


def draw(page):
    """每一格一个 token；只有计损失的 token 有箭头指着它。"""
    tokenizer, labels, ignore = page["tokenizer"], page["labels"], page["IGNORE"]
    decoded = [tokenizer.decode([i]) for i in page["input_ids"]]
    words = [word.replace("\n", "↵").strip() or "␣" for word in decoded]
    right, x, y, cells = WIDTH - 1.5, LEFT, 14, []
    for word in words:
        if x + width(word) > right:
            x, y = LEFT, y + PITCH
        cells.append((x, y))
        x += width(word) + GAP
    shapes, before = [], None
    for word, label, (x, y) in zip(words, labels, cells, strict=True):
        kept, middle = label != ignore, x + width(word) / 2
        shapes.append(box(x, y, width(word), HEIGHT, "now" if kept else "panel", 3))
        tone = "small mid accent" if kept else "small mid muted"
        shapes.append(text(middle, y + 16.5, word, style=tone))
        if kept:  # 出去的在中线右边，进来的在左边
            start, above = before
            path = f"M{start + 4:g} {above:g}v-8"
            if above < y:  # 换行：上一行画到右边为止，这一行从左边进来
                shapes.append(wire(f"{path}H{WIDTH}", "wire accent"))
                path = f"M0 {y - 8:g}"
            shapes.append(bend(path, middle - 4, y))
        before = middle, y
    count = sum(label != ignore for label in labels)
    bottom = cells[-1][1] + HEIGHT
    notes = (
        f"{len(words)} 个 token；粗框的 {count} 个计损失",
        "箭头：从做预测的位置，指向它要猜的 token",
        "↵ 是换行" + "，␣ 是空格" * ("␣" in words),
    )
    for n, note in enumerate(notes):
        shapes.append(text(LEFT, bottom + 22 + 20 * n, note, style="small muted"))
    title = f"一段对话的 {len(words)} 个 token：系统消息与问题不计损失，回答和结束符这 {count} 个计损失，每一个由它前面的位置预测"
    return figure("samples", title, bottom + 70, shapes)

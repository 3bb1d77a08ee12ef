"""序列化：一个单词的合并树。"""

from kit import box, byte_pairs, figure, text, wire


def draw(page):
    """一个单词的合并树：每合并一次往下一行，最后一行是结果。"""
    ranks, word = page["ranks"], b"congratulation"
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

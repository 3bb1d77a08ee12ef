"""分词器：词表越大，每个字要的 token 越少。"""

from kit import WIDTH, figure, text


def draw(page):
    """两条线：训练分词器用的句子，与它没读过的句子。"""
    left, right, top, bottom = 24, WIDTH - 20, 34, 226
    sizes, seen, unseen = zip(*page["curve"], strict=True)
    rows = -int(-max(seen + unseen) // 1)  # 横线几条

    def x(size):
        return left + (right - left) * (size - sizes[0]) / (sizes[-1] - sizes[0])

    def y(tokens):
        return bottom - (bottom - top) * tokens / rows

    def curve(values, style):
        points = " ".join(
            f"{x(size):.1f},{y(value):.1f}"
            for size, value in zip(sizes, values, strict=True)
        )
        colour = "accent" if style else "fg"
        return (
            f'<polyline points="{points}" style="fill: none; stroke: var(--{colour}); '
            f'stroke-width: {3 if style else 1.5}"/>'
        )

    shapes = [text(1.5, 13, "平均每个字要几个 token", style="small muted")]
    for n in range(rows + 1):
        shapes.append(
            f'<path d="M{left} {y(n):g}H{right}" style="stroke: var(--line)"/>'
        )
        shapes.append(text(left - 8, y(n) + 4.5, str(n), style="small", end=True))
    for size in (sizes[0], *sizes[3:]):  # 前几个挨得太近，只写头一个
        shapes.append(text(x(size), bottom + 18, str(size), style="small mid"))
    shapes += [
        text(right, bottom + 38, "词表里有几个 token", style="small muted", end=True),
        curve(unseen, ""),
        curve(seen, "accent"),
        text(right, y(unseen[-1]) - 10, "没读过的句子", end=True),
        text(right - 44, y(seen[-1]) + 13, "读过的句子", style="accent", end=True),
    ]
    title = (
        f"词表从 {sizes[0]} 到 {sizes[-1]}，平均每个字的 token："
        f"读过的句子从 {seen[0]:.2f} 到 {seen[-1]:.2f}，"
        f"没读过的从 {unseen[0]:.2f} 到 {unseen[-1]:.2f}"
    )
    return figure("vocab-size", title, bottom + 44, shapes)

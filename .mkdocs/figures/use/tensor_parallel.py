"""张量并行：一个 MLP 分给两个进程。"""

from kit import WIDTH, arrow, box, figure, text, wire


def draw(page):
    """一个 MLP 分给两个进程：gate、up 切输出，down 切输入，最后相加一次。"""
    config, pieces = page["whole"].config, 2
    hidden, width = config.hidden_size, config.intermediate_size
    share, unit, frame, middle = width // pieces, 112 / width, 161, WIDTH / 2
    short, long = hidden * unit, width * unit  # 矩阵画出来的两条边
    top, bottom = 60, 404
    shapes = [
        box(middle - 62, 1.5, 124, 28, "panel"),
        text(middle, 20.5, ("x  ", "mono"), f"{hidden} 个数", style="mid"),
    ]
    for n in range(pieces):
        left = 1.5 + n * (WIDTH - 3 - frame)
        centre = left + frame / 2
        shapes += [
            wire(f"M{middle:g} 29.5V42H{centre:g}"),
            arrow(centre, 42, top - 44, down=True),
            box(left, top, frame, bottom - top, "panel", 8),
            text(centre, top + 25, f"进程 {n}", style="title mid"),
        ]
        y = top + 40
        for x, name in ((centre - short - 10, "gate"), (centre + 10, "up")):
            shapes += [
                box(x, y, short, long, "wire", 0, dashed=True),
                box(x, y + n * long / pieces, short, long / pieces, "now", 0),
                text(x + short / 2, y + long + 18, name, style="mono small mid"),
            ]
        y += long + 38
        shapes += [
            text(centre, y, f"各 {share}×{hidden}", style="small mid accent"),
            arrow(centre, y + 8, 14, down=True),
            text(centre, y + 38, f"{share} 个数", style="small mid"),
            arrow(centre, y + 45, 14, down=True),
        ]
        y += 66
        x = centre - long / 2
        shapes += [
            box(x, y, long, short, "wire", 0, dashed=True),
            box(x + n * long / pieces, y, long / pieces, short, "now", 0),
            text(centre, y + short + 17, "down", style="mono small mid"),
            text(centre, y + short + 36, f"{hidden}×{share}", style="small mid accent"),
            wire(
                f"M{centre:g} {bottom}v46H{middle + (n - 0.5) * 124:g}", "wire accent"
            ),
        ]
    y = bottom + 30
    shapes += [
        text(middle, bottom + 20, f"各 {hidden} 个数", style="small mid muted"),
        box(middle - 62, y - 2, 124, 32, "now"),
        text(middle, y + 19, "对应的数相加", style="mid accent"),
        arrow(middle, y + 32, 18, down=True),
        box(middle - 62, y + 54, 124, 28, "panel"),
        text(middle, y + 73, ("y  ", "mono"), f"{hidden} 个数", style="mid"),
    ]
    title = f"MLP 分给 {pieces} 个进程：gate 与 up 各 {share}×{hidden}，down {hidden}×{share}，最后相加一次"
    return figure("tensor-parallel", title, y + 84, shapes)

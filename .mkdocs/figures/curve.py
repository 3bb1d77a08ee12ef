"""训练的图共用的：一条曲线，横轴是步。不放在 train/ 里：测试会把 examples/train/train.py 当作 train 导入。"""

from kit import WIDTH, text, wire

LEFT, RIGHT, TOP, BOTTOM = 52, WIDTH - 10, 34, 206


def place(values, highest):
    """(步, 值) 在图上的位置：x 与 y 两个函数。"""
    last = len(values) - 1

    def x(step):
        return LEFT + (RIGHT - LEFT) * step / last

    def y(value):
        return BOTTOM - (BOTTOM - TOP) * value / highest

    return x, y


def curve(values, highest, heading, ticks):
    """横线与刻度、横轴的步数、一条强调色的曲线；ticks 是 [(值, 写成什么)]。"""
    x, y = place(values, highest)
    shapes = [text(1.5, 13, heading, style="small muted")]
    for value, label in ticks:
        shapes.append(
            f'<path d="M{LEFT} {y(value):.0f}H{RIGHT}" style="stroke: var(--line)"/>'
        )
        shapes.append(
            text(LEFT - 6, round(y(value)) + 4.5, label, style="small", end=True)
        )
    steps = range(0, len(values) + 1, 20)
    for step in steps:
        shapes.append(text(x(step), BOTTOM + 18, str(step), style="small mid"))
    shapes.append(text(RIGHT, BOTTOM + 38, "步", style="small muted", end=True))
    points = "L".join(f"{x(n):.0f} {y(value):.0f}" for n, value in enumerate(values))
    shapes.append(wire(f"M{points}", "wire accent"))
    return shapes

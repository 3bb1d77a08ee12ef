"""过拟合：八句话的损失，从瞎猜降到接近 0。"""

import math

from curve import BOTTOM, RIGHT, curve, place
from kit import figure, text

HIGHEST = 10


def draw(page):
    """一条线：每一步的损失；一条虚线：ln(词表大小)。"""
    losses, guess = page["losses"], math.log(page["config"].vocab_size)
    ticks = [(n, str(n)) for n in range(0, HIGHEST + 1, 2)]
    shapes = curve(losses, HIGHEST, "损失（nats/token）", ticks)
    x, y = place(losses, HIGHEST)
    shapes.append(
        f'<path d="M{x(0):g} {y(guess):.0f}H{RIGHT}" '
        'style="stroke: var(--fg)" stroke-dasharray="5 4"/>'
    )
    note = f"均匀地猜：ln {page['config'].vocab_size} = {guess:.2f}"
    shapes.append(text(RIGHT, round(y(guess)) + 18, note, style="small", end=True))
    title = f"{len(losses) - 1} 步里，损失从 {losses[0]:.1f} 降到 {losses[-1]:.1f}；均匀地猜是 {guess:.2f}"
    return figure("overfit", title, BOTTOM + 44, shapes)

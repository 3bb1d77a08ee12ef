"""学习率：先升后降。"""

from curve import BOTTOM, curve
from kit import figure


def draw(page):
    """一条线：每一步的学习率，取自脚本里的函数。"""
    total, peak = page["total"], page["LEARNING_RATE"]
    rates = [page["learning_rate"](step, total) for step in range(total)]
    ticks = [(peak * n / 2, f"{peak * n / 2:g}") for n in range(3)]
    shapes = curve([*rates, 0.0], peak, "学习率", ticks)
    title = f"{total} 步的学习率：先升到 {peak:g}，再按余弦降到 0"
    return figure("learning-rate", title, BOTTOM + 44, shapes)

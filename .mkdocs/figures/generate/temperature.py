"""采样：同一张表，几种温度。"""

from generate.distribution import ABOUT, grid, probs, tokens
from transformers import TemperatureLogitsWarper


def draw(page):
    """温度 1、0.2、0.7、2，各一列。"""
    columns = [("T=1", "原样", probs(page))]
    for t in (0.2, 0.7, 2.0):
        columns.append((f"T={t:g}", "", probs(page, TemperatureLogitsWarper(t))))
    title = f"{ABOUT}：温度 1、0.2、0.7、2"
    return grid("temperature", title, tokens(page)[1], columns)

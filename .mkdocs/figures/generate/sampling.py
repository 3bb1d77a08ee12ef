"""采样：同一张表，五种改法。"""

from generate.distribution import ABOUT, grid, probs, tokens
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)


def draw(page):
    """原样、温度、top-k、top-p、min-p、重复惩罚，各一列。"""
    columns = [
        ("原样", "", None),
        ("温度", "0.7", TemperatureLogitsWarper(0.7)),
        ("top-k", "2", TopKLogitsWarper(2)),
        ("top-p", "0.8", TopPLogitsWarper(0.8)),
        ("min-p", "0.5", MinPLogitsWarper(0.5)),
        ("惩罚", "1.1", RepetitionPenaltyLogitsProcessor(1.1)),
    ]
    columns = [(name, value, probs(page, how)) for name, value, how in columns]
    title = f"{ABOUT}：原样，和温度、top-k、top-p、min-p、重复惩罚之后"
    return grid("sampling", title, tokens(page)[1], columns)

"""KV 缓存：记下的一次，每个 token 用多久。"""

import json
from pathlib import Path

from kit import WIDTH, figure, text

RECORD = Path(__file__).parents[3] / "examples/generate/measured/kv_cache.json"


def draw(page):
    """写下一个 token 的时间：没有缓存随长度涨，有缓存不涨。"""
    record = json.loads(RECORD.read_text("utf-8"))
    left, right, top, bottom = 34, WIDTH - 10, 34, 226
    lengths, without = record["lengths"], record["without_ms"]
    highest = max(without)
    step = next(n for n in (1, 2, 5, 10, 20, 50, 100, 200) if highest / n <= 5)
    rows = -int(-highest // step)  # 横线几条

    def x(length):
        return left + (right - left) * length / lengths[-1]

    def y(ms):
        return bottom - (bottom - top) * ms / (rows * step)

    def curve(values, style):
        points = " ".join(
            f"{x(length):.1f},{y(ms):.1f}"
            for length, ms in zip(lengths, values, strict=True)
        )
        colour = "accent" if style else "fg"
        return (
            f'<polyline points="{points}" style="fill: none; stroke: var(--{colour}); '
            f'stroke-width: {3 if style else 1.5}"/>'
        )

    shapes = [text(1.5, 13, "写下一个 token 用几毫秒", style="small muted")]
    for n in range(rows + 1):
        shapes.append(
            f'<path d="M{left} {y(n * step):g}H{right}" style="stroke: var(--line)"/>'
        )
        label = str(n * step)
        shapes.append(
            text(left - 6, y(n * step) + 4.5, label, "", style="small", end=True)
        )
    for length in range(0, lengths[-1] + 1, 200):
        shapes.append(text(x(length), bottom + 18, str(length), style="small mid"))
    shapes += [
        text(right, bottom + 38, "前面有几个 token", style="small muted", end=True),
        curve(without, ""),
        curve(record["with_ms"], "accent"),
        text(x(450) - 8, y(without[lengths.index(450)]) - 14, "没有缓存", end=True),
        text(
            x(600) - 12,
            y(record["with_ms"][-1]) - 10,
            "有缓存",
            style="accent",
            end=True,
        ),
    ]
    a, b = lengths[0], lengths[-1]
    title = (
        f"前面的 token 从 {a} 个到 {b} 个，写下一个的时间：没有缓存从 {without[0]} 毫秒到 {without[-1]} 毫秒，"
        f"有缓存从 {record['with_ms'][0]} 毫秒到 {record['with_ms'][-1]} 毫秒"
    )
    return figure("kv-time", title, bottom + 44, shapes)

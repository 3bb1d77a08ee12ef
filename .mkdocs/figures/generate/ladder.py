"""更快：记下的一次，每一级每秒几个 token。"""

import json
from pathlib import Path

from kit import WIDTH, figure, text, wire

RECORD = Path(__file__).parents[3] / "examples/generate/measured/faster.json"


def draw(page):
    """梯子：一级一条，长短是每秒几个 token，细线是各轮的最小与最大。"""
    rungs = json.loads(RECORD.read_text("utf-8"))
    rungs = [rung for rung in rungs if rung["model"] == "jiezi"]
    pitch, scale = 42, (WIDTH - 4) / max(r["tokens_per_second_range"][1] for r in rungs)
    best = max(
        (r for r in rungs if r["batch"] == 1), key=lambda r: r["tokens_per_second"]
    )
    shapes = []
    for n, rung in enumerate(rungs):
        y, tone = n * pitch, "accent" if rung is best else "muted"
        speed = f"{rung['tokens_per_second']:,.0f}"
        low, high = (x * scale for x in rung["tokens_per_second_range"])
        shapes.append(text(1.5, y + 13, rung["name"], style="small"))
        shapes.append(text(WIDTH - 2, y + 13, speed, style="mono small", end=True))
        shapes.append(
            f'<rect x="1.5" y="{y + 20:g}" width="{rung["tokens_per_second"] * scale:.1f}" '
            f'height="9" style="fill: var(--{tone})"/>'
        )
        shapes.append(wire(f"M{1.5 + low:.1f} {y + 33}H{1.5 + high:.1f}"))
    title = f"每秒写几个 token：从{rungs[0]['name']}的 {rungs[0]['tokens_per_second']:.0f} 个，到{best['name']}的 {best['tokens_per_second']:.0f} 个"
    return figure("ladder", title, len(rungs) * pitch, shapes)

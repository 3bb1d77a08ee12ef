"""前面有多少个 token，写下一个要几毫秒；kv_cache.json 里记的就是 --json 打印的。

用法：
    python examples/generate/measured/kv_time.py          # 打印表格
    python examples/generate/measured/kv_time.py --json   # 打印 JSON
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]  # record.py 和 kv_cache.py 在这两处

from record import Arguments, surroundings

if __name__ == "__main__":  # 写错了参数，不等 torch 导入就知道
    asked = Arguments(
        "量一量有缓存和没有缓存时，写一个 token 要多久。", 25
    ).parse_args()

import kv_cache


def report(rounds):
    """每隔 50 个 token 量一处，到 800 个或模型的上下文为止。"""
    context = kv_cache.model.config.max_position_embeddings
    times = kv_cache.measure(range(50, min(800, context) + 1, 50), rounds)
    return surroundings(kv_cache.DEVICE) | {
        "rounds": rounds,
        "lengths": list(times),
        "without_ms": [round(without, 2) for without, _ in times.values()],
        "with_ms": [round(with_cache, 2) for _, with_cache in times.values()],
    }


if __name__ == "__main__":
    record = report(asked.rounds)
    if asked.json:
        rows = [f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in record.items()]
        print("{\n" + ",\n".join(rows) + "\n}")
    else:
        print("前面几个  没有缓存  有缓存（毫秒）")
        columns = record["lengths"], record["without_ms"], record["with_ms"]
        for length, without, with_cache in zip(*columns, strict=True):
            print(f"{length:8} {without:9.2f} {with_cache:7.2f}")

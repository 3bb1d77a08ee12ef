"""整架梯子：faster.py 的各级轮流跑几轮；faster.json 里记的就是 --json 打印的。

用法：
    python examples/generate/measured/ladder.py --json               # 一两分钟
    python examples/generate/measured/ladder.py --random 7b --json   # 随机权重，形状与 Qwen2-7B 相同
"""

import json
import os
import statistics
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]  # record.py 和 faster.py 在这两处

from record import Arguments, stop, surroundings

# 层数、宽、头数、KV 头数、MLP 的宽、词表、首尾是否共用
SIZES = {
    "0.5b": (24, 896, 14, 2, 4864, 151936, True),
    "1.5b": (28, 1536, 12, 2, 8960, 151936, True),
    "7b": (28, 3584, 28, 4, 18944, 152064, False),
}


def parse():
    """命令行；写错了就用一行中文说清楚。"""
    arguments = Arguments("整架梯子轮流跑几轮，取中位数。", rounds=7)
    arguments.add_argument(
        "--random",
        metavar="大小",
        help="换成 Qwen2 的形状和随机的权重：0.5b、1.5b 或 7b",
    )
    arguments.add_argument(
        "--tokens",
        type=int,
        metavar="个数",
        help="每次写多少个 token（默认 200；--random 在 CPU 上默认 20）",
    )
    args = arguments.parse_args()
    if args.random is not None and args.random not in SIZES:
        stop(f"--random 只能是 {'、'.join(SIZES)}，现在是 {args.random}。")
    if args.tokens is not None and args.tokens < 2:
        stop(f"--tokens 至少是 2，现在是 {args.tokens}：只写一个看不出快慢。")
    return args


if __name__ == "__main__":  # 写错了参数，不等 torch 导入就知道
    asked = parse()

import faster
import torch
from faster import (
    DEVICE,
    MODEL,
    STRIDE,
    bandwidth,
    bytes_per_step,
    compiled,
    merged_weights,
    no_cache,
    race,
    recorded,
    reference,
    seconds,
    strides,
    with_cache,
    writer,
)
from transformers import AutoModelForCausalLM, Qwen2Config


def random_model(size, rows, device):
    """形状与 Qwen2 相同、权重随机的模型，和 rows 行随机的提示语：快慢与权重的值无关。"""
    layers, hidden, heads, kv_heads, intermediate, vocab, tied = SIZES[size]
    config = Qwen2Config(
        num_hidden_layers=layers,
        hidden_size=hidden,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        intermediate_size=intermediate,
        vocab_size=vocab,
        tie_word_embeddings=tied,
        max_position_embeddings=32768,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    )
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    with torch.device("meta"):  # 只有形状，不占内存
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    need = 2 * sum(p.nbytes for p in model.parameters())  # 合并投影要再存一份
    if device.startswith("cuda"):
        room = torch.cuda.mem_get_info()[0]
    else:
        room = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if need > room:
        stop(
            f"{size} 要大约 {need / 1e9:.0f} GB，这里只有 {room / 1e9:.0f} GB："
            "换小一号的，或换一台机器。"
        )
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
        input_ids = torch.randint(vocab, (rows, 22))
    return model, {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}


def small(model):
    """权重不到 32 MB，装得进 CPU 的缓存。"""
    return DEVICE == "cpu" and bytes_per_step(model) < 2**25


def ladder(model, prompt, batch, n):
    """整架梯子，从下往上。

    Returns:
        ({名字: 函数}, {名字: 要添进结果的话})；名字里带「批」的一次写一批。
    """
    weights, rows = merged_weights(model), len(batch["input_ids"])
    runs = {
        "generate": lambda: reference(model, prompt, n),
        "没有缓存": lambda: no_cache(model, prompt, n),
        "有缓存": lambda: with_cache(model, prompt, n),
        "自己的前向": writer(model, weights, prompt, n),
    }
    notes, change = {}, compiled
    try:
        runs["编译"] = writer(model, weights, prompt, n, compiled)
        notes["编译"] = {"first_call_seconds": round(seconds(runs["编译"]), 1)}
    except RuntimeError as error:  # 没有编译器，别的几级照样跑
        del runs["编译"]
        reason = str(error).splitlines()[0]
        reason = f"编译不了，要有 g++ 和 Python 的头文件：{reason}"
        notes["编译"] = {"skipped": reason}
        change = None
    if change and DEVICE.startswith("cuda"):
        change = record = lambda go: recorded(compiled(go))
        runs["CUDA graph"] = writer(model, weights, prompt, n, record)
    elif change and small(model):  # 大模型走一步要很久，进出 Python 不算什么
        name = f"一次 {STRIDE} 步"
        runs[name] = writer(
            model, weights, prompt, n, lambda go: compiled(strides(go)), STRIDE
        )
        notes[name] = {"first_call_seconds": round(seconds(runs[name]), 1)}
    runs[f"generate 批 {rows}"] = lambda: reference(model, batch, n)
    runs[f"批 {rows}"] = writer(model, weights, batch, n, change or (lambda go: go))
    return runs, notes


def report(model, prompt, batch, n, rounds, about):
    """跑完整架梯子，返回一级一个字典的列表，从下往上。

    tokens_per_second 与 ratio_to_generate 是各轮的中位数，range 是最小与最大；批 16 与批 16 的 generate 比。
    share_of_bandwidth_limit 是每秒走的步数 × 每步读的权重 ÷ 带宽。about 是每一级都记的。
    """
    runs, notes = ladder(model, prompt, batch, n)
    limit = bandwidth()
    results = race(runs, rounds)
    about |= {
        "tokens": n,
        "rounds": rounds,
        "bytes_per_step": bytes_per_step(model),
        "bandwidth": round(limit),
    }
    rungs, below = [], None
    for name, (ids, speeds) in results.items():
        rows = len(ids)
        base = results["generate" if rows == 1 else f"generate 批 {rows}"][1]
        ratios = [a / b for a, b in zip(speeds, base, strict=True)]
        speed = statistics.median(speeds)
        same = below is None or ids[: len(below)].equal(below[:rows])
        if model.dtype == torch.float32 and not same:
            stop(
                f"「{name}」写出的 token 与下一级的不同：前向写错了，或者前两名几乎并列。"
            )
        below = ids
        rungs.append(
            {
                "name": name,
                "batch": rows,
                "tokens_per_second": round(speed, 1),
                "tokens_per_second_range": [round(f(speeds), 1) for f in (min, max)],
                "ratio_to_generate": round(statistics.median(ratios), 2),
                "ratio_range": [round(f(ratios), 2) for f in (min, max)],
                "share_of_bandwidth_limit": round(
                    speed / rows * about["bytes_per_step"] / limit, 3
                ),
                "same_tokens": same,
                **notes.get(name, {}),
                **about,
            }
        )
    if "skipped" in notes["编译"]:
        empty = dict.fromkeys(rungs[0]) | about | notes["编译"]
        rungs.insert(4, empty | {"name": "编译", "batch": 1})
    return rungs


def main(args):
    if args.random:
        model, batch = random_model(args.random, 16, DEVICE)
        prompt = {name: rows[:1] for name, rows in batch.items()}
    else:
        model, batch, prompt = faster.model, faster.batch, faster.prompt
    n = args.tokens or (20 if args.random and DEVICE == "cpu" else 200)
    longest = batch["input_ids"].size(1) + n + STRIDE
    context = model.config.max_position_embeddings
    if longest > context:
        stop(
            f"提示语加上要写的 {n} 个，最多 {longest} 个 token，超过了模型的上下文 {context}："
            "请调小 --tokens。"
        )
    if small(model):
        torch.set_num_threads(1)  # 这么小的模型，几个核互相等的时间比省下的多
    name = f"random {args.random}" if args.random else Path(MODEL).resolve().name
    about = {"model": name, "dtype": str(model.dtype).removeprefix("torch.")}
    about |= surroundings(DEVICE)
    rungs = report(model, prompt, batch, n, args.rounds, about)
    if args.json:
        lines = [json.dumps(rung, ensure_ascii=False) for rung in rungs]
        print("[\n" + ",\n".join(lines) + "\n]")
    else:
        print(" 个/秒  是 generate 的  占带宽上限")
    for rung in rungs:
        if "skipped" in rung:
            print(f"跳过「{rung['name']}」：{rung['skipped']}", file=sys.stderr)
        elif not args.json:
            print(
                f"{rung['tokens_per_second']:6.0f} {rung['ratio_to_generate']:9.2f} 倍"
                f" {rung['share_of_bandwidth_limit']:11.0%}    {rung['name']}"
            )


if __name__ == "__main__":
    main(asked)

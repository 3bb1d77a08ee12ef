"""给服务加压：许多客户端同时问，长短不一，流式与不流式混着，有的中途挂断，有的请求是坏的。

每个回答都要与同一个问题单独问时一字不差；服务的内存不能一直涨。只连本机，次数有上限。

用法（在仓库根目录）：
    python -m tests.load.serve_load
    python -m tests.load.serve_load --clients 8 --requests 200
    python -m tests.load.serve_load --continuous-batching
"""

import argparse
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

from tests.harness import services
from tests.harness.snippets import extract

ROOT = Path(__file__).resolve().parents[2]
SERVE = extract(ROOT, "use/serve.sh", "serve")
BATCHING = extract(ROOT, "use/batching.sh", "serve-batching")
QUESTIONS = (
    "什么是 token？",
    "你是谁？",
    "温度有什么用",
    "编码器和解码器谁更好？",
    "KV 缓存是什么？",
    "什么是注意力？",
    "max_tokens 是什么？",
    "流式输出是什么？",
)
LENGTHS = (5, 20, 60)  # max_tokens；前两种答不完，最后一种多半答得完
KINDS = ("不流式", "流式", "挂断", "坏的")
SHARES = (9, 9, 3, 1)  # 各种请求的份数
TIMEOUT = 120  # 秒


@dataclass
class Report:
    """一次加压的结果。"""

    seconds: float = 0.0
    tokens: int = 0
    latencies: list[float] = field(default_factory=list)  # 秒，只算答完的
    counts: Counter = field(default_factory=Counter)  # 各种请求的个数
    wrong: list[str] = field(default_factory=list)  # 不对的地方
    memory: list[tuple[int, float]] = field(default_factory=list)  # (第几个请求, MB)

    def percentile(self, share: float) -> float:
        """延迟的分位数，单位秒。"""
        return sorted(self.latencies)[int(share * (len(self.latencies) - 1))]

    def growth(self) -> float:
        """内存后一半的中位数减前一半的（去掉头一次），单位 MB。"""
        values = [size for _, size in self.memory[1:]]
        half = len(values) // 2
        return statistics.median(values[half:]) - statistics.median(values[:half])


def post(port: int, body: dict):
    """发一个请求，返回响应。"""
    connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    headers = {"Content-Type": "application/json", "Connection": "close"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    return connection.getresponse()


def request(question: str, length: int) -> dict:
    return {
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": length,
    }


def whole(port: int, body: dict) -> tuple[str, str, int]:
    """不流式地问，返回（回答，结束的原因，token 数）。"""
    with post(port, body) as answer:
        reply = json.load(answer)
    choice = reply["choices"][0]
    tokens = reply["usage"]["completion_tokens"]
    return choice["message"]["content"], choice["finish_reason"], tokens


def streamed(port: int, body: dict) -> tuple[str, str, int]:
    """流式地问，把收到的拼起来；返回的与 whole 一样。"""
    text, reason, tokens = "", "", 0
    with post(port, body | {"stream": True}) as answer:
        for line in answer:
            if line.startswith(b"data: "):
                chunk = json.loads(line[6:])
                choice = chunk["choices"][0]
                text += choice["delta"].get("content") or ""
                reason = choice.get("finish_reason") or reason
                tokens = (chunk.get("usage") or {}).get("completion_tokens", tokens)
    return text, reason, tokens


def hang_up(port: int, body: dict, lines: int) -> None:
    """流式地问，收到几行就挂断。"""
    with post(port, body | {"stream": True}) as answer:
        for _ in range(lines):
            answer.readline()


def memory(process: subprocess.Popen) -> float:
    """服务的整个进程组占的内存（RSS），单位 MB。"""
    table = subprocess.check_output(["ps", "-axo", "pgid=,rss="], text=True)
    rows = (map(int, line.split()) for line in table.splitlines())
    return sum(rss for group, rss in rows if group == process.pid) / 1024


def alone(port: int, lengths=LENGTHS) -> dict[tuple[str, int], tuple[str, str, int]]:
    """一个一个地问，每种请求的回答。"""
    pairs = itertools.product(QUESTIONS, lengths)
    return {pair: whole(port, request(*pair)) for pair in pairs}


def load(service, clients: int, total: int, *, lengths=LENGTHS, every=50, seed=0):
    """同时有 clients 个客户端，一共问 total 次。

    Returns:
        (Report, 单独问时的回答)；每 every 个请求量一次内存。
    """
    port, report = service.port, Report()
    expected = alone(port, lengths)
    chance = random.Random(seed)
    jobs = [
        (kind, *chance.choice(list(expected)), chance.randrange(1, 6))
        for kind in chance.choices(KINDS, SHARES, k=total)
    ]
    lock, done = threading.Lock(), itertools.count(1)
    start = time.perf_counter()

    def one(job):
        kind, question, length, lines = job
        body = request(question, length)
        begin = time.perf_counter()
        try:
            if kind == "挂断":
                hang_up(port, body, lines)
            elif kind == "坏的":
                with post(port, body | {"max_tokens": 0}) as answer:
                    got, want = answer.status, 500
            else:
                ask = streamed if kind == "流式" else whole
                got, want = ask(port, body), expected[question, length]
        except (OSError, ValueError, KeyError) as error:
            got, want = repr(error), "没有错"
        with lock:
            report.counts[kind] += 1
            if kind != "挂断" and got != want:
                report.wrong.append(f"{kind} {question} {length}：{got} ≠ {want}")
            elif kind in ("流式", "不流式"):
                report.latencies.append(time.perf_counter() - begin)
                report.tokens += want[2]
            number = next(done)
            if number % every == 0:
                report.memory.append((number, memory(service.process)))

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(one, jobs))
    report.seconds = time.perf_counter() - start
    if alone(port, lengths) != expected:
        report.wrong.append("加压之后再单独问，回答变了")
    return report, expected


def main():
    parser = argparse.ArgumentParser(
        description="起一个服务，给它加压，看回答对不对、内存涨不涨。", add_help=False
    )
    options = parser.add_argument_group("参数")
    options.add_argument("-h", "--help", action="help", help="显示这段说明")
    options.add_argument(
        "--clients", type=int, default=32, help="同时有几个客户端（默认 32）"
    )
    options.add_argument(
        "--requests", type=int, default=500, help="一共问几次（默认 500）"
    )
    options.add_argument(
        "--every", type=int, default=50, help="每几个请求量一次内存（默认 50）"
    )
    options.add_argument("--seed", type=int, default=0, help="随机种子（默认 0）")
    options.add_argument(
        "--continuous-batching", action="store_true", help="让服务一批一批地算"
    )

    def stop(message):
        print(message, file=sys.stderr)
        sys.exit(2)

    parser.error = lambda message: stop(
        f"参数不对（{message}）：用 --help 看全部选项。"
    )
    args = parser.parse_args()
    if not (1 <= args.clients <= 256 and 1 <= args.requests <= 5000 and args.every > 0):
        stop(
            "--clients 要在 1 到 256 之间，--requests 在 1 到 5000 之间，--every 至少是 1。"
        )

    command = BATCHING if args.continuous_batching else SERVE
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # 别的程序在忙时，多线程互相等
    print(command.strip(), flush=True)
    service = services.start(command, share=False)
    try:
        print(f"刚起来：{memory(service.process):.0f} MB")
        report, _ = load(
            service, args.clients, args.requests, every=args.every, seed=args.seed
        )
    finally:
        service.stop()

    print("各种请求：", "，".join(f"{k} {n} 个" for k, n in report.counts.items()))
    for number, size in report.memory:
        print(f"第 {number} 个请求之后：{size:.0f} MB")
    if len(report.memory) > 2:
        print(f"后一半比前一半多：{report.growth():+.1f} MB")
    print(
        f"延迟：中位数 {report.percentile(0.5):.2f} 秒，95% 在 {report.percentile(0.95):.2f} 秒以内"
    )
    print(
        f"吞吐：每秒 {len(report.latencies) / report.seconds:.1f} 个回答，{report.tokens / report.seconds:.0f} 个 token"
    )
    print(f"不对的：{len(report.wrong)} 个")
    print(*report.wrong[:10], sep="\n")
    sys.exit(bool(report.wrong))


if __name__ == "__main__":
    main()

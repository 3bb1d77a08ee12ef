"""许多人同时问，服务每秒写多少 token：比一个一个算的，和一批一批算的。

先在两个终端各起一个服务（见 examples/use/serve.sh、examples/use/batching.sh）。用法：
    python examples/use/measured/batching.py http://127.0.0.1:8000/v1 http://127.0.0.1:8001/v1
    BASE_URL=http://127.0.0.1:8000/v1 python examples/use/measured/batching.py
"""

import argparse
import json
import os
import statistics
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException

BASE_URL = os.environ.get("BASE_URL", "http://127.0.0.1:8000/v1")
MODEL = os.environ.get("MODEL", "examples/jiezi")
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
PEOPLE = (1, 2, 4, 8, 16, 32)
LENGTH = 16  # 每个回答最多写几个 token


def ask(url, question):
    """问一句，贪心；返回（回答，写了几个 token，等了几秒）。"""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": LENGTH,
    }
    request = urllib.request.Request(
        url + "/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    start = time.perf_counter()
    with urllib.request.urlopen(request, timeout=600) as answer:
        reply = json.load(answer)
    waited = time.perf_counter() - start
    text = reply["choices"][0]["message"]["content"]
    return text, reply["usage"]["completion_tokens"], waited


def together(url, people, expected):
    """people 个人同时问，问完一句接着问，一共至少 8 句。

    Args:
        expected: 每个问题单独问时的回答；不一样就算错一个。

    Returns:
        （每秒 token 数，等待的中位数、单位秒，错了几个）。
    """
    questions = [QUESTIONS[i % len(QUESTIONS)] for i in range(max(people, 8))]
    start = time.perf_counter()
    with ThreadPoolExecutor(people) as pool:
        answers = list(pool.map(lambda question: ask(url, question), questions))
    seconds = time.perf_counter() - start
    speed = sum(tokens for _, tokens, _ in answers) / seconds
    wait = statistics.median(waited for _, _, waited in answers)
    pairs = zip(questions, answers, strict=True)
    wrong = sum(answer[0] != expected[question] for question, answer in pairs)
    return speed, wait, wrong


def compare(urls, rounds):
    """量每个服务，打印一张表；几个服务轮流量，机器忙闲对大家一样。"""
    # 单独问时的回答；顺便热身
    expected = [
        {question: ask(url, question)[0] for question in QUESTIONS} for url in urls
    ]
    names = "ABCDEFGH"[: len(urls)]
    for name, url in zip(names, urls, strict=True):
        print(name, url)
    print("人数  " + "".join(f"{name:>8}" for name in names) + "   （每秒 token 数）")
    wrong = 0
    for people in PEOPLE:
        runs = [[] for _ in urls]
        for _ in range(rounds):
            for run, url, answers in zip(runs, urls, expected, strict=True):
                run.append(together(url, people, answers))
        speeds = [statistics.median(speed for speed, _, _ in run) for run in runs]
        waits = [statistics.median(wait for _, wait, _ in run) for run in runs]
        wrong += sum(bad for run in runs for _, _, bad in run)
        ratio = f"   {speeds[-1] / speeds[0]:.1f} 倍" if len(urls) > 1 else ""
        print(f"{people:6}" + "".join(f"{speed:8.0f}" for speed in speeds) + ratio)
    waited = "，".join(f"{n} {w:.2f} 秒" for n, w in zip(names, waits, strict=True))
    print(f"{people} 个人时，一句等多久（中位数）：{waited}")
    print(f"与单独问时不同的回答：{wrong} 个")


def main():
    parser = argparse.ArgumentParser(
        description="比几个服务：1 到 32 个人同时问，每秒一共写多少 token。",
        add_help=False,
    )
    options = parser.add_argument_group("参数")
    options.add_argument(
        "urls",
        nargs="*",
        default=[BASE_URL],
        metavar="地址",
        help="服务的地址，以 /v1 结尾，可以有几个（默认是环境变量 BASE_URL）",
    )
    options.add_argument("-h", "--help", action="help", help="显示这段说明")
    options.add_argument(
        "--rounds", type=int, default=1, help="量几轮，取中位数（默认 1）"
    )

    def stop(message):
        print(message, file=sys.stderr)
        sys.exit(2)

    parser.error = lambda message: stop(
        f"参数不对（{message}）：用 --help 看全部选项。"
    )
    args = parser.parse_args()
    if args.rounds < 1:
        stop(f"--rounds 至少是 1，现在是 {args.rounds}。")
    if len(args.urls) > 8:
        stop(f"最多比 8 个服务，现在写了 {len(args.urls)} 个地址。")
    try:
        compare(args.urls, args.rounds)
    except urllib.error.HTTPError as error:
        stop(
            f"{error.url} 不接受请求（{error.code}）：检查地址的末尾是不是 /v1，环境变量 MODEL 是不是服务里的名字。"
        )
    except (OSError, ValueError, KeyError, HTTPException):
        stop(
            f"问不到 {'、'.join(args.urls)}：请先在另一个终端起服务（见 examples/use/serve.sh）。"
        )


if __name__ == "__main__":
    main()

"""出错的请求：一个一个发给服务，看它怎么回答；再看客户端半路走掉会怎样。

先在另一个终端起一个服务（见 examples/use/serve.sh）。用法：
    python examples/use/errors.py
    BASE_URL=http://127.0.0.1:8001/v1 python examples/use/errors.py
"""

# --8<-- [start:setup]
import json
import os
from http.client import HTTPConnection
from urllib.parse import urlsplit

BASE_URL = os.environ.get("BASE_URL", "http://127.0.0.1:8000/v1")
MODEL = os.environ.get("MODEL", "examples/jiezi")
ADDRESS = urlsplit(BASE_URL)
PATH = ADDRESS.path + "/chat/completions"
QUESTION = [{"role": "user", "content": "什么是 token？"}]
try:
    HTTPConnection(ADDRESS.netloc, timeout=5).connect()
except OSError:
    hint = "先在另一个终端起服务（examples/use/serve.sh），或改环境变量 BASE_URL"
    raise SystemExit(f"连不上 {BASE_URL}：{hint}。") from None
# --8<-- [end:setup]

# --8<-- [start:show]
GOOD = {"model": MODEL, "messages": QUESTION, "temperature": 0, "max_tokens": 8}


def post(body, path=PATH, method="POST"):
    """发一个请求，返回响应；body 是字节，或要写成 JSON 的字典。"""
    if isinstance(body, dict):
        body = json.dumps(body).encode()
    connection = HTTPConnection(ADDRESS.netloc, timeout=60)
    headers = {"Content-Type": "application/json", "Connection": "close"}
    connection.request(method, path, body, headers)
    return connection.getresponse()


def words(text):
    """服务的话：回答，或者 detail 里写的原因，或者原文。"""
    try:
        reply = json.loads(text)
    except ValueError:
        return text or "（空）"
    if "choices" in reply:
        return reply["choices"][0]["message"]["content"]
    detail = reply["detail"]
    return detail if isinstance(detail, str) else detail[0]["msg"]


def show(name, body, **where):
    """发出去，打印一行：状态码、这个请求的毛病、服务的话。"""
    with post(body, **where) as answer:
        print(answer.status, f"{name}：{words(answer.read().decode())}")


show("好的请求", GOOD)
# --8<-- [end:show]

# --8<-- [start:unreadable]
show("地址漏了 /v1", GOOD, path="/chat/completions")
show("地址末尾多了斜杠", GOOD, path=PATH + "/")
show("用了 GET", GOOD, method="GET")
show("没有正文", b"")
show("JSON 没写完", b'{"messages": [')
show("用了单引号", b"{'messages': []}")
show("正文是 GBK 编码", '{"messages": "你好"}'.encode("gbk"))
show("模型名写错", GOOD | {"model": "gpt-4o"})
show("多了字段 top_k", GOOD | {"top_k": 20})
# --8<-- [end:unreadable]

# --8<-- [start:broken]
show("没有 messages", {})
show("messages 是空的", GOOD | {"messages": []})
show("消息没有 role", GOOD | {"messages": [{"content": "你好"}]})
show("半个 emoji", b'{"messages": [{"role": "user", "content": "\\ud83d"}]}')
show("max_tokens 是 0", GOOD | {"max_tokens": 0})
show("max_tokens 是 -5", GOOD | {"max_tokens": -5})
show("温度是 hot", GOOD | {"temperature": "hot"})
show("温度是 -1", GOOD | {"temperature": -1})
show("frequency_penalty 是 -1", GOOD | {"frequency_penalty": -1})
show("logit_bias 不是小数", GOOD | {"logit_bias": {"337": -100}})
# --8<-- [end:broken]

# --8<-- [start:accepted]
robot = [{"role": "robot", "content": "什么是 token？"}]
picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
show("没有这种角色", GOOD | {"messages": robot})
show("只有一张图", GOOD | {"messages": [{"role": "user", "content": [picture]}]})
show("content 是空的", GOOD | {"messages": [{"role": "user", "content": ""}]})
show("max_tokens 是 1.5", GOOD | {"max_tokens": 1.5})
show("top_p 是 2", GOOD | {"top_p": 2})
show("要 JSON", GOOD | {"response_format": {"type": "json_object"}})
show(
    "提示语太长",
    GOOD | {"messages": [QUESTION[0] | {"content": "什么是 token？" * 500}]},
)
# --8<-- [end:accepted]

# --8<-- [start:ignored]
with post(GOOD | {"n": 2, "logprobs": True}) as answer:
    choices = json.load(answer)["choices"]
print("要 2 个回答，给了", len(choices), "个；logprobs：", choices[0].get("logprobs"))

which = {"messages": [{"role": "user", "content": "编码器和解码器谁更好？"}]}
show("没写 frequency_penalty", GOOD | which)
show("frequency_penalty 是 0", GOOD | which | {"frequency_penalty": 0})
# --8<-- [end:ignored]

# --8<-- [start:stream]
with post(GOOD | {"max_tokens": 0, "stream": True}) as answer:
    print(answer.status)
    for line in answer:
        if b"error" in line:
            print(line.decode().strip())
# --8<-- [end:stream]

# --8<-- [start:client]
import openai

sent = []
http_client = openai.DefaultHttpxClient(event_hooks={"request": [sent.append]})
client = openai.OpenAI(base_url=BASE_URL, api_key="EMPTY", http_client=http_client)
bad = GOOD | {"max_tokens": 0}

try:
    client.chat.completions.create(**bad)
except openai.InternalServerError as error:
    print(f"{error}，发了 {len(sent)} 次")

try:
    for chunk in client.chat.completions.create(**bad, stream=True):
        print("收到：", chunk.choices[0].delta.role)
except openai.APIError as error:
    print(type(error).__name__, error)
# --8<-- [end:client]

# --8<-- [start:hang-up]
import time

ends = {"4095": -100.0, "4093": -100.0}  # 压住两个结束符，让它一直写到 max_tokens
long = GOOD | {"max_tokens": 300, "logit_bias": ends}


def next_answer():
    """现在问一句短的，多少秒得到回答；服务在忙别的，就要排队。"""
    start = time.perf_counter()
    client.chat.completions.create(**GOOD)
    return time.perf_counter() - start


print(f"平时：{next_answer():.2f} 秒")

stream = client.chat.completions.create(**long, stream=True)
next(stream)  # 收到第一份就挂断
stream.close()
print(f"流式，挂断之后：{next_answer():.2f} 秒")

impatient = client.with_options(timeout=0.2, max_retries=0)
try:
    impatient.chat.completions.create(**long)
except openai.APITimeoutError:
    print(f"不流式，等 0.2 秒就走之后：{next_answer():.2f} 秒")
# --8<-- [end:hang-up]

"""openai 客户端：问一句、流式、多轮、参数、出错时怎么办。

先在另一个终端起一个服务（见 examples/use/serve.sh）。用法：
    python examples/use/client.py
    BASE_URL=http://127.0.0.1:8000/v1 MODEL=Qwen/Qwen2-0.5B-Instruct API_KEY=... python examples/use/client.py
"""

# --8<-- [start:setup]
import os
import urllib.request

import openai

BASE_URL = os.environ.get("BASE_URL", "http://127.0.0.1:8000/v1")
MODEL = os.environ.get("MODEL", "examples/jiezi")
client = openai.OpenAI(base_url=BASE_URL, api_key=os.environ.get("API_KEY", "EMPTY"))
try:
    urllib.request.urlopen(BASE_URL, timeout=5)
except urllib.error.HTTPError:
    pass  # 有人应答就行
except (OSError, ValueError):
    hint = "先在另一个终端起服务（examples/use/serve.sh），或改环境变量 BASE_URL"
    raise SystemExit(f"连不上 {BASE_URL}：{hint}。") from None
# --8<-- [end:setup]


# --8<-- [start:predict]
def predict(prompt):
    """问一句，返回回答的文本。"""
    response = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": prompt}], temperature=0
    )
    return response.choices[0].message.content


print(predict("什么是 token？"))
# --8<-- [end:predict]

# --8<-- [start:stream]
messages = [{"role": "user", "content": "什么是 token？"}]
stream = client.chat.completions.create(
    model=MODEL, messages=messages, temperature=0, stream=True
)
for chunk in stream:
    if chunk.choices:  # 有的服务最后一块只带用量
        print(chunk.choices[0].delta.content or "", end="|", flush=True)
print()
# --8<-- [end:stream]


# --8<-- [start:turns]
def ask(messages, **settings):
    """问一句（连同前面的对话），返回整个响应。"""
    return client.chat.completions.create(
        model=MODEL, messages=messages, **{"temperature": 0} | settings
    )


messages = []
for words in ("KV 缓存是什么？", "它占多少内存？"):
    messages.append({"role": "user", "content": words})
    reply = ask(messages).choices[0].message.content
    messages.append({"role": "assistant", "content": reply})
    print(f"{words} → {reply}")
alone = ask([{"role": "user", "content": words}]).choices[0].message.content
print(f"单独问：{words} → {alone}")
# --8<-- [end:turns]

# --8<-- [start:length]
question = [{"role": "user", "content": "什么是 token？"}]
for limit in (5, 100):
    response = ask(question, max_tokens=limit)
    choice = response.choices[0]
    print(f"max_tokens={limit}：{choice.message.content}")
    print(f"  {choice.finish_reason}，写了 {response.usage.completion_tokens} 个 token")
# --8<-- [end:length]

# --8<-- [start:seed]
question = [{"role": "user", "content": "编码器和解码器谁更好？"}]
for seed in (0, 1, 0, 1):
    response = ask(question, temperature=0.7, seed=seed)
    print(seed, response.choices[0].message.content)
# --8<-- [end:seed]

# --8<-- [start:logprobs]
response = ask(question, logprobs=True, top_logprobs=5)
print(response.choices[0].logprobs)
# --8<-- [end:logprobs]


# --8<-- [start:errors]
def explain(error):
    """把客户端抛出的错误说成一句话，连同该做什么。"""
    if isinstance(error, openai.APITimeoutError):  # 也是连接错误，所以先认它
        return "等太久了：服务在忙，或回答太长；调大 timeout，或调小 max_tokens。"
    if isinstance(error, openai.APIConnectionError):
        return "连不上：服务没有起来，地址写错了，或者代理拦下了本机的请求。"
    if isinstance(error, openai.APIStatusError) and error.status_code < 500:
        return f"服务不接受这个请求（{error.status_code}）：{error.body}"
    return f"服务自己出错了：{error}"


def attempt(client, **changes):
    """试一次，打印回答或错误。"""
    request = {"model": MODEL, "messages": question, "temperature": 0} | changes
    try:
        print(client.chat.completions.create(**request).choices[0].message.content)
    except openai.APIError as error:
        print(type(error).__name__, "·", explain(error))


attempt(client.with_options(base_url="http://127.0.0.1:1/v1", max_retries=0))
attempt(client.with_options(timeout=0.001, max_retries=0))
attempt(client, model="gpt-4o")
# --8<-- [end:errors]

# --8<-- [start:context]
long = [{"role": "user", "content": "什么是 token？" * 400}]
try:
    response = ask(long, max_tokens=20)
    print(response.usage.prompt_tokens, "个 token 的提示语，回答是：")
    print(response.choices[0].message.content)
except openai.BadRequestError as error:  # 先检查长度的服务，例如 vLLM
    print(explain(error))
# --8<-- [end:context]

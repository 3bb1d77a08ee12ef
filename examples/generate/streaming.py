"""流式：写出一点就显示一点；库里的 TextIteratorStreamer，和按字节攒成字的手写版。

用法：
    python examples/generate/streaming.py
    MODEL=/path/to/Qwen2-0.5B-Instruct DEVICE=cpu python examples/generate/streaming.py
"""

# --8<-- [start:setup]
import os

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

MODEL = os.environ.get("MODEL", "examples/jiezi")
DEVICE = os.environ.get("DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
try:
    tokenizer = AutoTokenizer.from_pretrained(MODEL, local_files_only=True)
    dtype = torch.float32 if DEVICE == "cpu" else torch.bfloat16
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=dtype).to(DEVICE).eval()
except Exception as error:
    hint = "请在仓库根目录运行，或改环境变量 MODEL、DEVICE"
    raise SystemExit(f"读不了模型 {MODEL}（{DEVICE}）：{hint}。\n{error}") from None
# --8<-- [end:setup]

# --8<-- [start:library]
from threading import Thread

from transformers import TextIteratorStreamer

messages = [{"role": "user", "content": "什么是 token？"}]
inputs = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
).to(DEVICE)
settings = dict(max_new_tokens=100, do_sample=False, repetition_penalty=1.0)

streamer = TextIteratorStreamer(
    tokenizer, skip_prompt=True, skip_special_tokens=True, timeout=60
)
thread = Thread(
    target=model.generate, kwargs={**inputs, **settings, "streamer": streamer}
)
thread.start()
for piece in streamer:
    print(piece, end="|")
thread.join()
print()
# --8<-- [end:library]


# --8<-- [start:error]
def work(streamer, **settings):
    """在线程里生成；出了错也让等着的人知道。"""
    try:
        model.generate(streamer=streamer, **settings)
    except Exception as error:
        streamer.on_finalized_text(f"[出错：{error}]", stream_end=True)


two = {name: tensor.repeat(2, 1) for name, tensor in inputs.items()}  # 一批两条
streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, timeout=60)
Thread(target=work, args=[streamer], kwargs={**two, **settings}).start()
print(*streamer)
# --8<-- [end:error]

# --8<-- [start:bytes]
visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
hidden = [b for b in range(256) if b not in visible]
BYTES = {chr(b): b for b in visible} | {chr(256 + n): b for n, b in enumerate(hidden)}


def token_bytes(tokenizer, i):
    """一个 token 代表的字节；特殊 token 不显示，是空的。"""
    if i in tokenizer.all_special_ids:
        return b""
    return bytes(BYTES[char] for char in tokenizer.convert_ids_to_tokens(i))


for i in tokenizer("生僻字").input_ids:
    print(i, tokenizer.convert_ids_to_tokens(i), token_bytes(tokenizer, i))
# --8<-- [end:bytes]

# --8<-- [start:stream]
import codecs


def stream(chunks):
    """字节一段一段地来，凑成完整的字就给出；本来就不成字的变成 �。

    每段字节给出一份文本，还凑不成字的是空的；最后还有一份收尾的。

    >>> list(stream(["字".encode()[:1], "字".encode()[1:], b"a"]))
    ['', '字', 'a', '']
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for chunk in chunks:
        yield decoder.decode(chunk)
    yield decoder.decode(b"", final=True)


def stream_ids(tokenizer, ids):
    """编号依次到来，给出文本；空的不给。"""
    chunks = (token_bytes(tokenizer, i) for i in ids)
    return filter(None, stream(chunks))


output = model.generate(**inputs, **settings)
answer = output[0, inputs.input_ids.size(1) :].tolist()
print(*stream_ids(tokenizer, answer), sep="|")
print(*stream_ids(tokenizer, tokenizer("生僻字").input_ids), sep="|")
# --8<-- [end:stream]

# --8<-- [start:compare]
import base64
from importlib.resources import files

from dashscope import get_tokenizer
from transformers import TextStreamer


class Recorder(TextStreamer):
    """不打印，记下每来一个 token 库给出什么。"""

    def __init__(self, tokenizer):
        super().__init__(tokenizer)
        self.pieces = []

    def on_finalized_text(self, text, stream_end=False):
        self.pieces.append(text)


def by_library(tokenizer, ids):
    """每来一个 token，库给出的文本；最后一份是收尾时给的。"""
    recorder = Recorder(tokenizer)
    for i in ids:
        recorder.put(torch.tensor([i]))
    recorder.end()
    return recorder.pieces


qwen = get_tokenizer("qwen-7b-chat")
lines = (files("dashscope") / "resources/qwen.tiktoken").read_bytes().splitlines()
qwen_bytes = [base64.b64decode(line.split()[0]) for line in lines]  # 编号 → 字节

for text in (
    "模型先读，再写。",
    "Tokens come one by one.",
    "写好了🎉👍🏽吗",
    "トークンは単位です",
):
    ids = qwen.encode(text)
    print("库：  ", "|".join(by_library(qwen, ids)))
    print("手写：", "|".join(stream(qwen_bytes[i] for i in ids)))
# --8<-- [end:compare]


# --8<-- [start:lag]
def lags(ids):
    """每个字，库比手写的晚了几个 token 才给出。"""
    library, hand = by_library(qwen, ids), stream(qwen_bytes[i] for i in ids)
    arrived, shown = (
        [n for n, piece in enumerate(pieces) for _ in piece]
        for pieces in (hand, library)
    )
    return [late - early for early, late in zip(arrived, shown, strict=True)]


texts = {
    "中文": "模型一次写一个 token，写完接在后面，再写下一个。",
    "英文": "A model writes one token, appends it, and writes the next.",
    "混排": "用 KV 缓存🎉，速度 ×3，见 README.md。",
    "表情": "😀🎉👍🏽👨\u200d👩\u200d👧🇨🇳",
    "网址": "https://huggingface.co/Qwen/Qwen2-0.5B-Instruct",
    "代码": "print(tokenizer.decode(ids[0],skip_special_tokens=True))",
    "假名": "トークンをひとつずつかきます。",
}
for name, text in texts.items():
    ids = qwen.encode(text)
    late = lags(ids)
    average = sum(late) / len(late)
    print(f"{name} {len(ids):2} 个，平均晚 {average:4.1f}，最多 {max(late):2}")
# --8<-- [end:lag]

# --8<-- [start:loop]
from transformers import DynamicCache


@torch.inference_mode()
def generate_ids(ids, max_new_tokens=100):
    """贪心，算出一个编号给一个；没有人要下一个，就不算下一个。"""
    cache = DynamicCache(config=model.config)
    ends = torch.tensor(model.generation_config.eos_token_id, device=DEVICE)  # 可能几个
    for _ in range(max_new_tokens):
        logits = model(ids, past_key_values=cache).logits
        ids = logits[:, -1:].argmax(-1)  # (1, 1)
        yield ids.item()
        if torch.isin(ids, ends).item():
            return


print("".join(stream_ids(tokenizer, generate_ids(inputs.input_ids))))
# --8<-- [end:loop]

# --8<-- [start:leave]
from itertools import islice

passes = []
counter = model.register_forward_hook(lambda *_: passes.append(1))  # 数前向的次数

pieces = stream_ids(tokenizer, generate_ids(inputs.input_ids))
print("手写：", "".join(islice(pieces, 6)), f"（{len(passes)} 次前向）")

passes.clear()
streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, timeout=60)
thread = Thread(target=work, args=[streamer], kwargs={**inputs, **settings})
thread.start()
text = "".join(islice(streamer, 6))
thread.join()
print("库：  ", text, f"（{len(passes)} 次前向）")
counter.remove()
# --8<-- [end:leave]

# --8<-- [start:time]
from time import perf_counter

begin, arrived = perf_counter(), []
for _ in stream_ids(tokenizer, generate_ids(inputs.input_ids)):
    arrived.append(perf_counter() - begin)
print(f"第一段 {1000 * arrived[0]:.0f} 毫秒，最后一段 {1000 * arrived[-1]:.0f} 毫秒")
# --8<-- [end:time]

# --8<-- [start:sse]
import json


def events(pieces):
    """一段文本写成一个服务器推送事件，最后说一声完了。"""
    for piece in pieces:
        data = {"choices": [{"index": 0, "delta": {"content": piece}}]}
        yield f"data: {json.dumps(data, ensure_ascii=False)}\n\n"
    yield "data: [DONE]\n\n"


sent = list(events(stream_ids(tokenizer, answer)))
print(*sent[:2], "……\n\n", *sent[-1:], sep="", end="")
# --8<-- [end:sse]


# --8<-- [start:receive]
def received(lines):
    """从一行行的流里取出文本。"""
    for line in lines:
        data = line.removeprefix("data: ")
        if data and data != "[DONE]":
            yield json.loads(data)["choices"][0]["delta"]["content"]


lines = "".join(events(["第一段\n\n", "data: 第二段"])).split("\n")
print(*lines, sep="\n", end="")
print(list(received(lines)))
# --8<-- [end:receive]

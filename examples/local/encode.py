"""序列化：文本怎样切成 token、变成 input_ids，长短不一的一批怎样补齐。

用法：
    python examples/local/encode.py
    MODEL=/path/to/Qwen2-0.5B-Instruct DEVICE=cpu python examples/local/encode.py
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

# --8<-- [start:ids]
question = "什么是 KV 缓存？"
ids = tokenizer(question).input_ids
print(ids)
print([tokenizer.decode([i]) for i in ids])
# --8<-- [end:ids]

# --8<-- [start:prompt]
messages = [{"role": "user", "content": "详细介绍下你自己。"}]
text = tokenizer.apply_chat_template(
    messages, tokenize=False, add_generation_prompt=True
)
print(tokenizer(text).input_ids)
# --8<-- [end:prompt]

# --8<-- [start:qwen]
from dashscope import get_tokenizer

qwen = get_tokenizer("qwen-7b-chat")
print(qwen.encode(text))
print([qwen.decode([i]) for i in qwen.encode("congratulation")])
# --8<-- [end:qwen]

# --8<-- [start:ranks]
import base64
from importlib.resources import files
from itertools import pairwise

ranks = {}
for line in (files("dashscope") / "resources/qwen.tiktoken").read_bytes().splitlines():
    token, rank = line.split()
    ranks[base64.b64decode(token)] = int(rank)  # 字节串 → 编号，编号也是合并的先后
print(f"{len(ranks):,} 个 token，编号最大的是 {max(ranks.values()):,}")
print([ranks[t] for t in (b"con", b"gr", b"at", b"ulation")])
# --8<-- [end:ranks]


# --8<-- [start:bpe]
def bpe(word, ranks):
    """对一段文本做字节对编码，每合并一次就产出一次当时的切法。

    Args:
        word: 预分词之后的一段文本。
        ranks: 字节串 → 编号；编号小的先合并。

    Yields:
        字节串的列表，最后一个就是结果。

    来源：Sennrich et al., 2016；按编号定先后的写法同 tiktoken。

    >>> list(bpe("aab", {b"a": 0, b"b": 1, b"aa": 2, b"aab": 3}))[-1]
    [b'aab']
    """
    parts = [bytes([b]) for b in word.encode("utf-8")]
    while True:
        yield list(parts)
        pairs = [
            (ranks[a + b], i)
            for i, (a, b) in enumerate(pairwise(parts))
            if a + b in ranks
        ]
        if not pairs:
            return
        _, i = min(pairs)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]


for parts in bpe("congratulation", ranks):
    print(" ".join(part.decode() for part in parts))
# --8<-- [end:bpe]

# --8<-- [start:pieces]
for piece, _ in tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(
    "2024 年的 token，不是 word。"
):
    print(tokenizer.backend_tokenizer.decoder.decode([piece]), end=" | ")
print()
# --8<-- [end:pieces]

# --8<-- [start:bytes]
print("详".encode())
print(tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("详")[0][0])
print(tokenizer.tokenize("详细"))
print(tokenizer.decode(tokenizer("详细").input_ids))
# --8<-- [end:bytes]

# --8<-- [start:half]
for name, encode, decode in (
    ("本站的模型", lambda s: tokenizer(s).input_ids, tokenizer.decode),
    ("Qwen2 词表", qwen.encode, qwen.decode),
):
    ids = encode("龘")
    print(name, ids, [decode([i]) for i in ids], decode(ids))
# --8<-- [end:half]

# --8<-- [start:batch]
tokenizer.padding_side = "left"
questions = ["你是谁？", "什么是因果掩码？"]
prompts = [
    tokenizer.apply_chat_template(
        [{"role": "user", "content": q}], tokenize=False, add_generation_prompt=True
    )
    for q in questions
]
inputs = tokenizer(prompts, padding=True, return_tensors="pt")
print(inputs.input_ids.shape)
print(inputs.attention_mask)
print("补的是", tokenizer.pad_token, tokenizer.pad_token_id)
# --8<-- [end:batch]

# --8<-- [start:sides]


def first_tokens(**inputs):
    """每一行接下来最可能的那个 token。"""
    with torch.inference_mode():
        logits = model(**inputs).logits  # (批, 序列, 词表)
    return [tokenizer.decode([i]) for i in logits[:, -1].argmax(-1)]


print(
    "一条一条：",
    [first_tokens(**tokenizer(p, return_tensors="pt").to(DEVICE))[0] for p in prompts],
)
for side in ("left", "right"):
    tokenizer.padding_side = side
    print(
        f"{side:>5} 补齐：",
        first_tokens(
            **tokenizer(prompts, padding=True, return_tensors="pt").to(DEVICE)
        ),
    )
# --8<-- [end:sides]

# --8<-- [start:rows]
print(
    "分词器",
    len(tokenizer),
    "个 token，嵌入",
    model.get_input_embeddings().num_embeddings,
    "行",
)
special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
print("Qwen2 的特殊 token", [qwen.encode(s)[0] for s in special])
for rows in (151_936, 152_064):
    print(f"{rows:,} - 151,646 = {rows - 151_646}，{rows:,} ÷ 128 = {rows / 128}")
# --8<-- [end:rows]

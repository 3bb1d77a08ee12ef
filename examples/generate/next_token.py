"""手动一步：从 logits 到下一个 token，任意几条一批。

用法：
    python examples/generate/next_token.py
    MODEL=/path/to/Qwen2-0.5B-Instruct DEVICE=cpu python examples/generate/next_token.py
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

# --8<-- [start:encode]
tokenizer.padding_side = "left"  # 长短不一时，在左边补齐


def encode(*questions):
    """几个问题变成左填充的一批：input_ids 与 attention_mask，形状都是 (批, 序列)。"""
    return tokenizer.apply_chat_template(
        [[{"role": "user", "content": question}] for question in questions],
        add_generation_prompt=True,
        padding=True,
        return_dict=True,
        return_tensors="pt",
    ).to(DEVICE)


# --8<-- [end:encode]

# --8<-- [start:count]
calls = []


def record(module, args, kwargs, output):
    calls.append((tuple(kwargs["input_ids"].shape), tuple(output.logits.shape)))


hook = model.register_forward_hook(record, with_kwargs=True)
inputs = encode("什么是 token？")
output = model.generate(**inputs, max_new_tokens=100, do_sample=False)
hook.remove()

for n in (1, 2, 3, len(calls)):
    print(f"第 {n:2} 次：{calls[n - 1][0]} -> {calls[n - 1][1]}")
print("写出", output.size(1) - inputs.input_ids.size(1), "个 token")
# --8<-- [end:count]

# --8<-- [start:logits]
with torch.no_grad():
    logits = model(**inputs).logits
print(tuple(inputs.input_ids.shape), "->", tuple(logits.shape))
# --8<-- [end:logits]

# --8<-- [start:softmax]
last = logits[:, -1].float()  # (批, 词表)
probs = last.softmax(-1)
print("logits 最大", f"{last.max():.1f}", "最小", f"{last.min():.1f}")
print("概率 最大", f"{probs.max():.3f}", "相加", f"{probs.sum():.4f}")
# --8<-- [end:softmax]


# --8<-- [start:show]
def show_likeliest(probs, n=5):
    """最可能的 n 个 token：概率、条、编号、文字；probs: (词表,)。"""
    for p, i in zip(*(t.tolist() for t in probs.topk(n)), strict=True):
        full, eighths = divmod(round(p * 64), 8)  # 满格 8 个字符
        bar = "█" * full + " ▏▎▍▌▋▊▉"[eighths]
        print(f"{p:6.1%} {bar:9}{i:5} {tokenizer.decode([i])!r}")


show_likeliest(probs[0])
# --8<-- [end:show]


# --8<-- [start:next-token]
@torch.no_grad()
def next_token(model, input_ids, attention_mask, temperature=0.0):
    """走一步：给每一行挑出接下来的 token。

    input_ids、attention_mask: (批, 序列)，左填充，掩码里 1 是内容，0 是填充。
    返回挑出的编号 (批,) 和当时的概率 (批, 词表)；温度不合理或超过上下文，抛 ValueError。

    >>> next_token(model, **encode("你是谁？", "什么是因果掩码？"))[0].shape
    torch.Size([2])
    """
    context = model.config.max_position_embeddings
    if input_ids.size(1) > context:
        raise ValueError(
            f"序列有 {input_ids.size(1)} 个 token，超过了模型的上下文 {context}：请缩短。"
        )
    if temperature and not 0.01 <= temperature <= 100:
        raise ValueError(
            f"温度要是 0，或 0.01 到 100 之间的数（现在是 {temperature}）：0 取最可能的。"
        )
    position_ids = (attention_mask.cumsum(-1) - 1).clamp(min=0)  # 填充不占位置
    logits = model(
        input_ids, attention_mask=attention_mask, position_ids=position_ids
    ).logits[:, -1]  # (批, 序列, 词表) -> (批, 词表)
    if temperature == 0:
        return logits.argmax(-1), logits.float().softmax(-1)
    probs = (logits.float() / temperature).softmax(-1)
    return torch.multinomial(probs, 1).squeeze(1), probs


# --8<-- [end:next-token]

# --8<-- [start:temperatures]
for temperature in (0.0, 1.0):
    torch.manual_seed(0)
    picked = [next_token(model, **inputs, temperature=temperature)[0] for _ in range(8)]
    print(temperature, [tokenizer.decode(i) for i in picked])
# --8<-- [end:temperatures]

# --8<-- [start:multinomial]
torch.manual_seed(0)
_, probs = next_token(model, **inputs, temperature=1.0)
drawn = torch.multinomial(probs[0], 10_000, replacement=True)
for p, i in zip(*(t.tolist() for t in probs[0].topk(5)), strict=True):
    print(f"{p:.3f}  {(drawn == i).sum():5} 次  {tokenizer.decode([i])}")
# --8<-- [end:multinomial]

# --8<-- [start:batch]
questions = ["你是谁？", "编码器和解码器谁更好？", "为什么成批生成要用左填充？"]
batch = encode(*questions)
ids, probs = next_token(model, **batch)
print(tuple(batch.input_ids.shape), "->", tuple(ids.shape), tuple(probs.shape))
for question, row in zip(questions, probs, strict=True):
    print(question)
    show_likeliest(row, 3)
# --8<-- [end:batch]

# --8<-- [start:alone]
for question, row in zip(questions, probs, strict=True):
    alone = next_token(model, **encode(question))[1][0]
    print(f"与单独算的概率最多相差 {(row - alone).abs().max():.4f}")
# --8<-- [end:alone]

# --8<-- [start:without]
mask = batch.attention_mask
places = (mask.cumsum(-1) - 1).clamp(min=0)
with torch.no_grad():
    right = model(batch.input_ids, attention_mask=mask, position_ids=places).logits
    no_mask = model(batch.input_ids, position_ids=places).logits
    no_places = model(batch.input_ids, attention_mask=mask).logits
print(questions[0], "左边的填充", int((mask[0] == 0).sum()), "个")
for name, wrong in {"attention_mask": no_mask, "position_ids": no_places}.items():
    gap = (right - wrong)[0, -1].abs().max()
    print(f"不给 {name:14}  logits 最多差 {gap:.4f}")
# --8<-- [end:without]

# --8<-- [start:hooks]
heard = []
hook = model.register_forward_hook(lambda *_: heard.append("听到一次"))
with torch.no_grad():
    model(**inputs)
    print("model(...)         ", heard)
    heard.clear()
    model.forward(**inputs)
    print("model.forward(...) ", heard)
hook.remove()
# --8<-- [end:hooks]

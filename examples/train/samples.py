"""语料：一块文字怎样变成一段段对话，一段对话怎样变成 input_ids 与 labels。

用法：
    python examples/train/samples.py
    MODEL=/path/to/Qwen2-0.5B-Instruct DEVICE=cpu python examples/train/samples.py
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

# --8<-- [start:block]
block = """\
# rope
别名：RoPE | 旋转位置编码 | rotary position embedding | 旋转编码 | 位置编码 | rotary_emb
关键：旋转一个角度 | 转过一个角度
答：RoPE 是旋转位置编码：按 token 的位置，把查询和键各旋转一个角度。
答：为了让模型知道先后，查询和键都按位置转过一个角度，这叫 RoPE。
答：同一个 token 放在不同位置，查询和键就各自转过一个角度，办法叫 RoPE。
又：位置对内积的影响，只看两个 token 相隔多远。
又：它没有要学的参数，角度由位置算出来。
又：值向量不转，只转查询和键。
问：RoPE 是什么？
问：rope 有什么用
问：模型怎么知道每个 token 排在第几位？
问：狗咬人和人咬狗字都一样，差别从哪里来
问：像钟表指针，位置不同，指的方向也不同
问：RoPE 为什么不转值向量
"""
lines = [line.split("：", 1) for line in block.splitlines()[1:]]
questions = [text for name, text in lines if name == "问"]
answers = [text for name, text in lines if name == "答"]
more = [text for name, text in lines if name == "又"]
replies = [answer + extra for answer in answers for extra in more]

print(
    f"回答有 {len(answers)} × {len(more)} = {len(replies)} 种，问法有 {len(questions)} 种"
)
print(f"配得出 {len(questions) * len(replies)} 段对话，例如：")
print("问：", questions[0])
print("答：", replies[0])
# --8<-- [end:block]

# --8<-- [start:epochs]
import random

rng = random.Random(0)
for question in questions:
    drawn = [1 + rng.randrange(len(replies)) for epoch in range(8)]
    print(*drawn, question)
# --8<-- [end:epochs]

# --8<-- [start:guess]
from collections import Counter


def best_guess(pairs):
    """只看左边猜右边，每次都猜与它配过最多次的那个：返回猜中的比例。

    pairs: [(左边, 右边), …]，至少一对。

    >>> best_guess([("甲", 1), ("甲", 1), ("甲", 2), ("乙", 3)])
    0.75
    """
    counts = {left: Counter() for left, _ in pairs}
    for left, right in pairs:
        counts[left][right] += 1
    return sum(max(each.values()) for each in counts.values()) / len(pairs)


epochs = 1000
fixed = [(question, replies[n]) for n, question in enumerate(questions)] * epochs
mixed = [(q, rng.choice(replies)) for q in questions for epoch in range(epochs)]
for name, pairs in {"配法固定": fixed, "每轮重配": mixed}.items():
    concept = [("rope", reply) for _, reply in pairs]
    by_wording, by_concept = best_guess(pairs), best_guess(concept)
    print(f"{name}：认得问法，猜中 {by_wording:.1%}；只认得概念，猜中 {by_concept:.1%}")
# --8<-- [end:guess]

# --8<-- [start:encode]
IGNORE = -100  # 标签是 -100 的位置，PyTorch 的交叉熵不计


def encode_dialogue(question, answer):
    """一问一答 → (input_ids, labels)，两个一样长的列表；只有回答和结束符计损失。

    >>> input_ids, labels = encode_dialogue("你好", "你好。")
    >>> tokenizer.decode([i for i in labels if i != IGNORE])
    '你好。<|im_end|>'
    """
    asked = [{"role": "user", "content": question}]
    whole = [*asked, {"role": "assistant", "content": answer}]
    prompt = tokenizer.apply_chat_template(
        asked, add_generation_prompt=True, return_dict=True
    ).input_ids
    input_ids = tokenizer.apply_chat_template(whole, return_dict=True).input_ids
    if input_ids[: len(prompt)] != prompt:
        raise ValueError("这个聊天模板的提示语不是整段对话的开头")
    labels = [IGNORE] * len(prompt) + input_ids[len(prompt) :]
    labels[-1] = IGNORE  # 模板在结束符后面加的换行
    return input_ids, labels


input_ids, labels = encode_dialogue(questions[0], replies[0])
counted = [t for t, label in enumerate(labels) if label != IGNORE]
print(f"{len(input_ids)} 个 token，{len(counted)} 个计损失")
# --8<-- [end:encode]

# --8<-- [start:table]
first, last = counted[0], counted[-1]  # 回答的第一个 token，和结束符
for t in [*range(first - 9, first + 4), *range(last - 2, last + 2)]:
    token = tokenizer.decode([input_ids[t]])
    print(f"{t:2} {input_ids[t]:6} {labels[t]:6}  {token!r}")
# --8<-- [end:table]

# --8<-- [start:loss]
model = model.float()  # 要逐位比，GPU 上也用 float32
ids = torch.tensor([input_ids], device=DEVICE)  # (1, 序列)
targets = torch.tensor([labels], device=DEVICE)
with torch.inference_mode():
    output = model(input_ids=ids, labels=targets)

logprobs = output.logits[0, :-1].log_softmax(-1)  # 位置 0 到倒数第二个的输出
target = targets[0, 1:]  # 位置 1 到最后一个的标签：左移了一位
mine = -logprobs[target != IGNORE, target[target != IGNORE]].mean()

print(f"transformers {output.loss:.4f}")
print(f"三行 torch   {mine:.4f}，相差 {abs(mine - output.loss):.4f}")
# --8<-- [end:loss]

# --8<-- [start:shifts]
import torch.nn.functional as F

logits = output.logits[0]  # (序列, 词表)
for shift in (1, 0, 2):
    loss = F.cross_entropy(logits[: len(logits) - shift], targets[0, shift:])
    print(f"位置 t 的输出，对位置 t + {shift} 的 token：{loss:.4f}")
# --8<-- [end:shifts]


# --8<-- [start:pad]
def pad_batch(samples, pad_id, side="right"):
    """几个样本补成一样长，返回 input_ids 与 labels，形状都是 (批, 最长的长度)。

    samples: [(input_ids, labels), …]；pad_id 补 input_ids，labels 总是补 -100。

    >>> pad_batch([([5, 6, 7], [-100, 6, 7]), ([8], [8])], 0)["labels"].tolist()
    [[-100, 6, 7], [8, -100, -100]]
    """
    batch = {}
    for name, k, value in (("input_ids", 0, pad_id), ("labels", 1, IGNORE)):
        rows = [torch.tensor(sample[k], device=DEVICE) for sample in samples]
        batch[name] = torch.nn.utils.rnn.pad_sequence(
            rows, batch_first=True, padding_value=value, padding_side=side
        )
    return batch


samples = [encode_dialogue(questions[n], replies[n]) for n in range(3)]
batch = pad_batch(samples, tokenizer.pad_token_id)
print("长度", [len(input_ids) for input_ids, _ in samples])
print("补齐", tuple(batch["input_ids"].shape), tuple(batch["labels"].shape))
# --8<-- [end:pad]

# --8<-- [start:sides]
for side in ("right", "left"):
    losses = []
    for pad_id in (tokenizer.pad_token_id, 0):
        with torch.inference_mode():
            losses.append(model(**pad_batch(samples, pad_id, side)).loss.item())
        print(f"{side:5}  填充的 id {pad_id:6}  损失 {losses[-1]:.4f}")
    print(f"{side:5}  相差 {abs(losses[0] - losses[1]):.2g}")
# --8<-- [end:sides]

# --8<-- [start:unmasked]
each = F.cross_entropy(logits[:-1], ids[0, 1:], reduction="none")  # 每个位置的损失
end = len(input_ids) - 1
parts = {"回答和结束符": (first, last), "前面的": (1, first - 1), "全部": (1, end)}
for name, (start, stop) in parts.items():
    part = each[start - 1 : stop]
    place = f"位置 {start} 到 {stop}，{len(part)} 个"
    print(f"{name}：{place}，平均 {part.mean():.4f}")

with torch.inference_mode():
    unmasked = model(input_ids=ids, labels=ids).loss
print(f"labels 与 input_ids 相同时，transformers 给出 {unmasked:.4f}")
# --8<-- [end:unmasked]

# --8<-- [start:normalize]
import re


def normalize(question):
    """比较问法用的写法：去掉空白与标点，字母变小写。

    >>> normalize("什么是 KV 缓存？")
    '什么是kv缓存'
    """
    return re.sub(r"[\W_]+", "", question.lower())


dev = [
    "RoPE 为何只作用在 q 和 k",
    "模型怎么知道词的先后位置",
    "RoPE 转来转去转的是什么",
    "rope是什么",
]
for name, form in {"逐字比较": str, "归一化之后": normalize}.items():
    known = {form(question): question for question in questions}
    found = [(known[form(q)], q) for q in dev if form(q) in known]
    print(f"{name}：{len(found)} 句重复", *found)
# --8<-- [end:normalize]

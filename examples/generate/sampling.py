"""采样：温度、top-k、top-p、min-p、重复惩罚，各几行 torch；合起来与 generate 逐个 token 相同。

用法：
    python examples/generate/sampling.py
    MODEL=/path/to/Qwen2-0.5B-Instruct DEVICE=cpu python examples/generate/sampling.py
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

# --8<-- [start:logits]


def encode(*questions):
    """几个问题变成左填充的一批：input_ids 与 attention_mask，形状都是 (批, 序列)。"""
    return tokenizer.apply_chat_template(
        [[{"role": "user", "content": question}] for question in questions],
        add_generation_prompt=True,
        padding=True,
        return_dict=True,
        return_tensors="pt",
    ).to(DEVICE)


@torch.no_grad()
def last_logits(input_ids):
    """接下来的那个 token 的 logits，(批, 词表)，float32。"""
    return model(input_ids).logits[:, -1].float()


def show_columns(columns, n=6):
    """一列一种设置，一行一个 token，按第一列的概率排；去掉了的写成 ·。"""
    probs = torch.cat(list(columns.values())).softmax(-1)  # (列, 词表)
    print("".join(f"{name:>5}" for name in columns))
    for i in probs[0].topk(n).indices:
        cells = (f"{p:5.2f}" if p else "    ·" for p in probs[:, i].tolist())
        print("".join(cells), tokenizer.decode([i]).strip())


input_ids = encode("聊天模板写错一个换行，后果严重吗").input_ids
logits = last_logits(input_ids)
show_columns({"概率": logits})
# --8<-- [end:logits]


# --8<-- [start:temperature]
def temperature(logits, t):
    """温度：全部 logits (批, 词表) 除以 t，t 要大于 0；来源：Hinton et al., 2015, 式 (1)。

    >>> temperature(torch.tensor([[3.0, 1.0]]), 0.5)
    tensor([[6., 2.]])
    """
    if not 0 < t < float("inf"):
        raise ValueError(f"温度要大于 0，现在是 {t}：想每次都取最可能的，用贪心。")
    return logits / t


# --8<-- [end:temperature]

# --8<-- [start:temperatures]
show_columns({t: temperature(logits, t) for t in (1.0, 0.2, 0.7, 2.0)})
# --8<-- [end:temperatures]

# --8<-- [start:texts]
for t in (0.2, 0.7, 1.5):
    torch.manual_seed(0)
    rows = model.generate(
        input_ids,
        attention_mask=torch.ones_like(input_ids),
        max_new_tokens=60,
        num_return_sequences=3,
        do_sample=True,
        temperature=t,
        top_k=0,  # 别的设置都关掉
        top_p=1.0,
        repetition_penalty=1.0,
    )
    print("温度", t)
    for row in rows[:, input_ids.size(1) :]:
        text = tokenizer.decode(row, skip_special_tokens=True)
        print("   ", text.replace("\n", "⏎"))
# --8<-- [end:texts]


# --8<-- [start:top-k]
def top_k(logits, k):
    """top-k：只留分数最高的 k 个（与第 k 名并列的也留），其余变成负无穷。

    logits: (批, 词表)；k 至少是 1，比词表大就全留。来源：Fan et al., 2018。

    >>> top_k(torch.tensor([[1.0, 3.0, 2.0]]), 2)
    tensor([[-inf, 3., 2.]])
    """
    if k < 1:
        raise ValueError(f"top-k 的 k 至少是 1，现在是 {k}：1 就是只留最可能的一个。")
    kth = logits.topk(min(k, logits.size(-1))).values[:, -1:]  # (批, 1) 第 k 名的分数
    return logits.masked_fill(logits < kth, -torch.inf)


# --8<-- [end:top-k]

# --8<-- [start:top-ks]
show_columns({k: top_k(logits, k) for k in (100, 5, 3, 1)})
# --8<-- [end:top-ks]


# --8<-- [start:top-p]
def top_p(logits, p):
    """top-p（核采样）：留下概率最大的几个，它们的概率加起来刚够 p。

    logits: (批, 词表)；p 大于 0，不超过 1；第一名总会留下。来源：Holtzman et al., 2020。

    >>> top_p(torch.tensor([[0.5, 0.3, 0.2]]).log(), 0.7).exp()
    tensor([[0.5000, 0.3000, 0.0000]])
    """
    if not 0 < p <= 1:
        raise ValueError(f"top-p 的 p 要大于 0、不超过 1，现在是 {p}：1 就是全留。")
    values, ids = logits.sort()  # 从小到大
    drop = values.softmax(-1).cumsum(-1) <= 1 - p  # 尾巴：加起来不超过 1 - p
    drop[:, -1] = False
    return logits.masked_fill(drop.scatter(-1, ids, drop), -torch.inf)  # 放回原来的次序


# --8<-- [end:top-p]

# --8<-- [start:top-ps]
show_columns({p: top_p(logits, p) for p in (1.0, 0.9, 0.6, 0.3)})
# --8<-- [end:top-ps]


# --8<-- [start:min-p]
def min_p(logits, p):
    """min-p：概率不到第一名的 p 倍的去掉；p 是 0 全留，是 1 只留第一名。

    logits: (批, 词表)。来源：Nguyen et al., 2024。

    >>> min_p(torch.tensor([[0.5, 0.3, 0.2]]).log(), 0.5).exp()
    tensor([[0.5000, 0.3000, 0.0000]])
    """
    if not 0 <= p <= 1:
        raise ValueError(f"min-p 的 p 要在 0 到 1 之间，现在是 {p}：0 就是全留。")
    probs = logits.softmax(-1)
    return logits.masked_fill(probs < p * probs.amax(-1, keepdim=True), -torch.inf)


# --8<-- [end:min-p]

# --8<-- [start:min-ps]
show_columns({p: min_p(logits, p) for p in (0.0, 0.1, 0.2, 0.5)})
# --8<-- [end:min-ps]

# --8<-- [start:compare]
begun = tokenizer("聊天模板规定怎么把", return_tensors="pt").input_ids.to(DEVICE)
sure = last_logits(torch.cat([input_ids, begun], dim=1))
print(" " * 10, "犹豫  有把握")
for name, keep in {
    "top-k 20": lambda x: top_k(x, 20),
    "top-p 0.8": lambda x: top_p(x, 0.8),
    "min-p 0.1": lambda x: min_p(x, 0.1),
}.items():
    kept = [int(keep(x).isfinite().sum()) for x in (logits, sure)]
    print(f"{name:10} {kept[0]:3} 个  {kept[1]:3} 个")
# --8<-- [end:compare]


# --8<-- [start:repetition-penalty]
def repetition_penalty(logits, input_ids, penalty, attention_mask=None):
    """重复惩罚：出现过的 token，正的 logits 除以 penalty，负的乘以 penalty。

    logits: (批, 词表)；input_ids: (批, 序列)，提示语和已经写出的；掩码里是 0 的不算。
    来源：Keskar et al., 2019；那里一律相除，负的改用乘法照 transformers。

    >>> repetition_penalty(torch.tensor([[3.0, -1.0, 3.0]]), torch.tensor([[0, 1]]), 1.5)
    tensor([[ 2.0000, -1.5000,  3.0000]])
    """
    if not 0 < penalty < float("inf"):
        raise ValueError(f"重复惩罚要大于 0，现在是 {penalty}：1 就是不惩罚。")
    if attention_mask is None:
        attention_mask = torch.ones_like(input_ids)
    count = torch.zeros_like(logits, dtype=torch.long)  # (批, 词表) 各出现了几次
    count.scatter_add_(-1, input_ids, attention_mask)
    lower = torch.where(logits < 0, logits * penalty, logits / penalty)
    return torch.where(count > 0, lower, logits)


# --8<-- [end:repetition-penalty]

# --8<-- [start:penalties]
show_columns({x: repetition_penalty(logits, input_ids, x) for x in (1.0, 1.1, 1.3)})
# --8<-- [end:penalties]

# --8<-- [start:order]
one = top_p(temperature(logits, 2.0), 0.8)
two = temperature(top_p(logits, 0.8), 2.0)
print("先温度，后 top-p：留下", int(one.isfinite().sum()), "个")
print("先 top-p，后温度：留下", int(two.isfinite().sum()), "个")
# --8<-- [end:order]


# --8<-- [start:adjust]
def adjust(logits, input_ids, config, attention_mask=None):
    """照 generation_config.json 里的四个值改 logits (批, 词表)，次序与 generate 相同。"""
    logits = repetition_penalty(
        logits, input_ids, config.repetition_penalty, attention_mask
    )
    logits = temperature(logits, config.temperature)
    logits = top_k(logits, config.top_k)
    return top_p(logits, config.top_p)


# --8<-- [end:adjust]

# --8<-- [start:equal]
eos = torch.tensor(model.generation_config.eos_token_id, device=DEVICE)
for seed in range(4):
    torch.manual_seed(seed)
    ids = input_ids
    for _ in range(24):
        probs = adjust(last_logits(ids), ids, model.generation_config).softmax(-1)
        ids = torch.cat([ids, torch.multinomial(probs, 1)], dim=1)
        if torch.isin(ids[0, -1], eos):
            break
    torch.manual_seed(seed)
    ones = torch.ones_like(input_ids)
    theirs = model.generate(input_ids, attention_mask=ones, max_new_tokens=24)
    same, new = (ids == theirs).sum().item(), ids[0, input_ids.size(1) :]
    print(f"{same} / {theirs.numel()} 相同", tokenizer.decode(new)[:24], "…")
# --8<-- [end:equal]

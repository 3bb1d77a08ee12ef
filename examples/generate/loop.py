"""循环：一个 token 接一个 token，直到结束符。

用法：
    python examples/generate/loop.py
    MODEL=/path/to/Qwen2-0.5B-Instruct python examples/generate/loop.py
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


# --8<-- [start:simple]
inputs = encode("什么是 token？")
ids = inputs.input_ids
with torch.no_grad():
    for _ in range(100):
        logits = model(ids).logits  # (1, 序列, 词表)
        token = logits[:, -1].argmax(-1)  # (1,) 最可能的一个
        ids = torch.cat([ids, token[:, None]], dim=1)  # 接上去
        if token.item() == tokenizer.eos_token_id:
            break
print(tokenizer.decode(ids[0, inputs.input_ids.size(1) :]))
# --8<-- [end:simple]


# --8<-- [start:compare]
theirs = model.generate(
    **inputs, max_new_tokens=100, do_sample=False, repetition_penalty=1.0
)
same = (ids == theirs).sum().item()
print(f"与 generate 相同的：{same} / {theirs.numel()}")
# --8<-- [end:compare]


# --8<-- [start:no-stop]
ids = encode("你好").input_ids
with torch.no_grad():
    for _ in range(60):
        token = model(ids).logits[:, -1].argmax(-1)
        ids = torch.cat([ids, token[:, None]], dim=1)
print(tokenizer.decode(ids[0, -60:]))
# --8<-- [end:no-stop]


# --8<-- [start:steps]
@torch.no_grad()
def steps(model, input_ids, attention_mask, max_new_tokens, use_cache=True, **settings):
    """生成循环：每走一步，交出写下的 token (批,) 和挑它时的 logits (批, 词表)。

    input_ids、attention_mask: (批, 序列)，左填充；写完了的行，后面是填充符。
    设置不合理，或提示语加上 max_new_tokens 超过模型的上下文，抛 ValueError。
    """
    check(max_new_tokens, **settings)
    length, context = input_ids.size(1), model.config.max_position_embeddings
    if length + max_new_tokens > context:
        raise ValueError(
            f"提示语有 {length} 个 token，加上要生成的 {max_new_tokens} 个，"
            f"超过了模型的上下文 {context}：请缩短提示语，或调小 max_new_tokens。"
        )
    device = input_ids.device
    eos = torch.tensor(model.generation_config.eos_token_id, device=device)  # 可能几个
    pad = model.generation_config.pad_token_id
    done = torch.zeros(len(input_ids), dtype=torch.bool, device=device)  # (批,)
    cache, seen = None, 0
    for _ in range(max_new_tokens):
        position_ids = (attention_mask.cumsum(-1) - 1).clamp(min=0)
        output = model(
            input_ids[:, seen:],  # 有缓存时只有新的 token
            attention_mask=attention_mask,
            position_ids=position_ids[:, seen:],
            past_key_values=cache,
            use_cache=use_cache,
            logits_to_keep=1,  # 只要最后一个位置的 logits
        )
        if use_cache:
            cache, seen = output.past_key_values, input_ids.size(1)
        logits = output.logits[:, -1].float()
        tokens = pick(logits, input_ids, attention_mask, **settings)
        tokens = torch.where(done, pad, tokens)
        yield tokens, logits
        done |= torch.isin(tokens, eos)
        if done.all():
            return
        input_ids = torch.cat([input_ids, tokens[:, None]], dim=1)
        attention_mask = torch.cat(
            [attention_mask, torch.ones_like(tokens)[:, None]], dim=1
        )


def generate(model, input_ids, attention_mask, max_new_tokens, **settings):
    """走完循环，返回提示语连同新写的，(批, 序列 + 新)，与 model.generate 相同。

    >>> asked = encode("你是谁？")
    >>> generate(model, **asked, max_new_tokens=3).size(1) - asked.input_ids.size(1)
    3
    """
    written = steps(model, input_ids, attention_mask, max_new_tokens, **settings)
    new = torch.stack([tokens for tokens, _ in written], dim=1)
    return torch.cat([input_ids, new], dim=1)


# --8<-- [end:steps]


# --8<-- [start:pick]
def pick(
    logits,
    input_ids,
    attention_mask,
    temperature=0.0,
    top_k=None,
    top_p=1.0,
    repetition_penalty=1.0,
):
    """给每一行挑下一个 token；几个设置的先后与 generate 相同。

    logits: (批, 词表)，float32；input_ids、attention_mask: (批, 序列)，到目前为止的全部。
    temperature 是 0 就取最大的，这时只有重复惩罚起作用。返回编号，(批,)。

    >>> pick(torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([[0]]), torch.tensor([[1]]))
    tensor([1])
    """
    if repetition_penalty != 1:
        count = torch.zeros_like(logits, dtype=torch.long)
        count.scatter_add_(-1, input_ids, attention_mask)  # 填充不算出现过
        lower = torch.where(
            logits < 0, logits * repetition_penalty, logits / repetition_penalty
        )
        logits = torch.where(count > 0, lower, logits)
    if temperature == 0:
        return logits.argmax(-1)
    logits = logits / temperature
    if top_k is not None:
        kth = logits.topk(min(top_k, logits.size(-1))).values[:, -1:]
        logits = logits.masked_fill(logits < kth, -torch.inf)
    if top_p < 1:
        values, ids = logits.sort()
        drop = values.softmax(-1).cumsum(-1) <= 1 - top_p
        drop[:, -1] = False
        logits = logits.masked_fill(drop.scatter(-1, ids, drop), -torch.inf)
    return torch.multinomial(logits.softmax(-1), 1).squeeze(1)


# --8<-- [end:pick]


# --8<-- [start:check]
def check(
    max_new_tokens, temperature=0.0, top_k=None, top_p=1.0, repetition_penalty=1.0
):
    """设置不合理就抛 ValueError，说清楚该怎么改。"""
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens 至少是 1，现在是 {max_new_tokens}。")
    if temperature and not 0.01 <= temperature <= 100:
        raise ValueError(
            f"温度要是 0，或 0.01 到 100 之间的数（现在是 {temperature}）："
            "0 是贪心，0.7 左右是常用的采样温度。"
        )
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k 至少是 1，现在是 {top_k}：不想用就不写。")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p 要大于 0、不超过 1，现在是 {top_p}：1 就是不用。")
    if not 0.01 <= repetition_penalty <= 100:
        raise ValueError(
            f"重复惩罚要在 0.01 到 100 之间，现在是 {repetition_penalty}："
            "1 就是不用，1.1 左右是常用的。"
        )


# --8<-- [end:check]


# --8<-- [start:batch]
questions = ["你好", "什么是 token？", "为什么成批生成要用左填充？"]
batch = encode(*questions)
ours = generate(model, **batch, max_new_tokens=30)
for row in ours[:, batch.input_ids.size(1) :]:
    print(tokenizer.decode(row).replace("<|endoftext|>", "□"))
theirs = model.generate(
    **batch, max_new_tokens=30, do_sample=False, repetition_penalty=1.0
)
same = (ours == theirs).sum().item()
print(f"与 generate 相同的：{same} / {theirs.numel()}")
# --8<-- [end:batch]


# --8<-- [start:candidates]
def candidates(logits, token, n=5):
    """一步一行：条是写下的那个的概率，后面是最可能的 n 个，写下的用「」括起。

    logits: (词表,)，按温度 1 算概率；token 不在前 n 名里就接在后面。

    >>> candidates(torch.tensor([3.0, 2.0, 0.0]), 0, 2)[:9]
    '█████▋   '
    """
    probs = logits.softmax(-1)
    ids = probs.topk(n).indices.tolist()
    cells = []
    for i in ids if token in ids else [*ids, token]:
        word = repr(tokenizer.decode([i]))[1:-1]
        share = f"{probs[i]:.0%}" if probs[i] >= 0.005 else "<1%"
        cells.append(f"「{word}」{share}" if i == token else f"{word} {share}")
    full, eighths = divmod(round(probs[token].item() * 64), 8)  # 满格 8 个字符
    bar = "█" * full + " ▏▎▍▌▋▊▉"[eighths]
    return f"{bar:9}" + "  ".join(cells)


# --8<-- [end:candidates]


# --8<-- [start:table]
hesitant = encode("编码器和解码器谁更好？")
for n, (tokens, logits) in enumerate(steps(model, **hesitant, max_new_tokens=8), 1):
    print(n, candidates(logits[0], tokens[0].item()))
# --8<-- [end:table]


# --8<-- [start:half]
rare = tokenizer("模型一次写一个龘字。").input_ids
print("".join(tokenizer.decode([token]) for token in rare))
print(rare, [tokenizer.decode([token]) for token in rare])
# --8<-- [end:half]


# --8<-- [start:typewriter]
def typewriter(tokens):
    """一个一个收下编号，凑齐完整的字就交出来；到最后还不成字的不交。

    >>> list(typewriter(tokenizer("龘？").input_ids))
    ['龘', '？']
    """
    waiting = []
    for token in tokens:
        waiting.append(token)
        text = tokenizer.decode(waiting, skip_special_tokens=True)
        if not text.endswith("�"):  # 结尾不齐就等下一个
            waiting = []
            if text:  # 特殊 token 没有文字
                yield text
    if text := tokenizer.decode(waiting, skip_special_tokens=True).rstrip("�"):
        yield text


# --8<-- [end:typewriter]


# --8<-- [start:typed]
print("|".join(typewriter(rare)))
# --8<-- [end:typed]


# --8<-- [start:inputs]
sent = []
hook = model.register_forward_pre_hook(lambda module, args: sent.append(args[0][0]))
written = steps(model, **inputs, max_new_tokens=5, use_cache=False)
for n, (tokens, _) in enumerate(written):
    ending, word = tokenizer.decode(sent[n][-1]), tokenizer.decode(tokens[0])
    print(f"第 {n + 1} 步：送入 {len(sent[n])} 个，以 {ending!r} 结尾，写下 {word!r}")
hook.remove()
# --8<-- [end:inputs]


# --8<-- [start:fork]
[(_, logits)] = steps(model, **inputs, max_new_tokens=1)
for first in logits[0].topk(3).indices:  # 第一步的前三名，各当作写下的那个
    ids = torch.cat([inputs.input_ids, first.reshape(1, 1)], dim=1)
    [(tokens, logits)] = steps(model, ids, torch.ones_like(ids), max_new_tokens=1)
    print("第一个是", tokenizer.decode(first))
    print("    第二个", candidates(logits[0], tokens[0].item(), 3))
# --8<-- [end:fork]


# --8<-- [start:teacher]
written = list(steps(model, **inputs, max_new_tokens=100))
one_by_one = torch.cat([logits for _, logits in written])  # (步数, 词表)
new = torch.stack([tokens for tokens, _ in written], dim=1)  # (1, 步数)
whole = torch.cat([inputs.input_ids, new], dim=1)
with torch.no_grad():
    at_once = model(whole).logits[0].float()  # (序列, 词表)
at_once = at_once[inputs.input_ids.size(1) - 1 : -1]  # 第 i 个位置预测第 i + 1 个
print("一步一步", tuple(one_by_one.shape), "一次算完", tuple(at_once.shape))
same = one_by_one.argmax(-1) == at_once.argmax(-1)
print(f"最可能的 token 相同：{same.sum()} / {len(same)}")
print(f"logits 最多相差 {(one_by_one - at_once).abs().max():.4f}")
# --8<-- [end:teacher]


# --8<-- [start:ask]
question = encode("为什么一次只写一个 token，不从一次前向里多拿几个？")
written = steps(model, **question, max_new_tokens=100)
for text in typewriter(tokens.item() for tokens, _ in written):
    print(text, end="", flush=True)
print()
# --8<-- [end:ask]

# --8<-- [start:sampled]
torch.manual_seed(1)
settings = dict(temperature=0.7, top_k=20)
for tokens, logits in steps(model, **hesitant, max_new_tokens=5, **settings):
    print(candidates(logits[0], tokens.item()))
# --8<-- [end:sampled]

# --8<-- [start:refused]
try:
    generate(model, **hesitant, max_new_tokens=5, top_p=1.5)
except ValueError as error:
    print(error)
# --8<-- [end:refused]

"""猜测解码：先便宜地猜几个 token，再用一次前向一起检查；文本与贪心一字不差。

用法：
    python examples/generate/speculative.py
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

# --8<-- [start:greedy]
model = model.float()  # 要逐个比，GPU 上也用 float32


def prompt_ids(*texts):
    """用户与助手轮流说的几句话 → 提示语的编号，一个列表。"""
    roles = ["user", "assistant"] * len(texts)
    messages = [
        {"role": role, "content": text}
        for role, text in zip(roles, texts, strict=False)
    ]
    return tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=True
    ).input_ids


def greedy(ids, **settings):
    """transformers 的贪心，返回新的编号；settings 原样交给 generate。"""
    ids = torch.tensor([ids], device=DEVICE)
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=100,
        do_sample=False,
        repetition_penalty=1.0,
        **settings,
    )
    return output[0, ids.size(1) :].tolist()


def pieces(ids):
    return " | ".join(tokenizer.decode([i]) for i in ids)


prompt = prompt_ids("什么是 token？")
answer = greedy(prompt)
print(len(answer), "个 token：", tokenizer.decode(answer))
# --8<-- [end:greedy]


# --8<-- [start:check]
@torch.inference_mode()
def next_tokens(ids, count):
    """一次前向，返回最后 count 个位置上各自最可能的下一个 token。"""
    logits = model(torch.tensor([ids], device=DEVICE)).logits  # (1, 序列, 词表)
    return logits[0, -count:].argmax(-1).tolist()


guess = answer[:5]
print("猜：  ", pieces(guess))
print("模型：", pieces(next_tokens(prompt + guess, 6)))
# --8<-- [end:check]

# --8<-- [start:wrong]
guess = answer[:2] + tokenizer("看").input_ids + answer[3:5]
print("猜：  ", pieces(guess))
print("模型：", pieces(next_tokens(prompt + guess, 6)))
# --8<-- [end:wrong]

# --8<-- [start:speculate]
from itertools import takewhile

from transformers import DynamicCache


@torch.inference_mode()
def predict(model, cache, ids, count=1):
    """ids 的最后 count 个位置上，各自最可能的下一个 token；前面的用缓存。"""
    cache.crop(-max(0, cache.get_seq_length() - (len(ids) - count)))
    new = torch.tensor([ids[cache.get_seq_length() :]], device=model.device)
    logits = model(new, past_key_values=cache, logits_to_keep=count).logits
    return logits[0].argmax(-1).tolist()  # (1, count, 词表) → count 个编号


def speculate(model, ids, draft, max_new_tokens=100):
    """猜测解码，文本与贪心相同。

    Args:
        model: 要加速的模型。
        ids: 提示语的编号，一个列表。
        draft: 函数，给它到目前为止的编号，返回猜的后面几个（可以一个也不猜）。
        max_new_tokens: 最多写多少个 token。

    Returns:
        (新的编号, 每次前向的记录)；一条记录是 (猜的, 收下前几个)。

    来源：Leviathan et al., 2023；Chen et al., 2023。这里只写贪心的情形。
    """
    eos = model.generation_config.eos_token_id  # 一个数，或者一个列表
    ends, text, rounds = torch.tensor(eos).flatten().tolist(), list(ids), []
    cache, limit = DynamicCache(config=model.config), len(ids) + max_new_tokens
    while len(text) < limit and not (rounds and text[-1] in ends):
        guess = draft(text)[: limit - len(text) - 1]
        guess = list(takewhile(lambda token: token not in ends, guess))
        own = predict(model, cache, text + guess, len(guess) + 1)
        right = 0
        while right < len(guess) and guess[right] == own[right]:
            right += 1
        text += own[: right + 1]  # 猜对的几个，再加模型自己的下一个
        rounds.append((guess, right))
    return text[len(ids) :], rounds


# --8<-- [end:speculate]


# --8<-- [start:look_up]
def look_up(ids, size=2, count=5):
    """在前文里找与结尾相同的 size 个 token，抄出它后面的，最多 count 个。

    来源：prompt lookup decoding，Saxena, 2023。
    """
    for start in range(len(ids) - size - 1, -1, -1):  # 从最近的找起
        if ids[start : start + size] == ids[-size:]:
            return ids[start + size : start + size + count]
    return []


# --8<-- [end:look_up]


# --8<-- [start:trace]
def trace(ids, draft):
    """跑一遍，逐次打印猜的和写下的。"""
    new, rounds = speculate(model, ids, draft)
    print("与贪心相同：", new == greedy(ids))
    print(f"{len(new)} 个 token，{len(rounds)} 次前向")
    for guess, right in rounds:
        print("\n猜 ", pieces(guess))
        print("写 ", pieces(new[: right + 1]))
        new = new[right + 1 :]


text = tokenizer.decode(answer, skip_special_tokens=True)
again = prompt_ids("什么是 token？", text, "什么是 token？")
trace(again, look_up)
# --8<-- [end:trace]


# --8<-- [start:report]
def report(name, cases, new_draft):
    """几条提示语合计，返回平均一次前向得到几个 token；文本与贪心不同就报错。"""
    tokens = passes = guessed = accepted = 0
    for ids, expected in cases:
        new, rounds = speculate(model, ids, new_draft())
        if new != expected:
            raise ValueError("文本与贪心不同")
        tokens, passes = tokens + len(new), passes + len(rounds)
        guessed += sum(len(guess) for guess, _ in rounds)
        accepted += sum(right for _, right in rounds)
    print(
        f"{name}：猜 {guessed} 个，收下 {accepted / max(guessed, 1):.0%}；"
        f"{tokens} 个 token，{passes} 次前向，一次 {tokens / passes:.2f} 个"
    )
    return tokens / passes


questions = ["什么是 token？", "你是谁？", "温度有什么用？", "KV 缓存省了什么？"]
questions += [
    "什么是因果掩码？",
    "为什么要左填充？",
    "什么是猜测解码？",
    "红烧肉怎么做？",
]
first, second = [], []
for question in questions:
    ids = prompt_ids(question)
    first.append((ids, greedy(ids)))
    ids = prompt_ids(question, tokenizer.decode(first[-1][1][:-1]), question)
    second.append((ids, greedy(ids)))
report("第一次问", first, lambda: look_up)
report("第二次问", second, lambda: look_up)
# --8<-- [end:report]

# --8<-- [start:small]
import copy


def first_layers(model, count):
    """只留前 count 层的模型；权重是同一份，不另占内存。"""
    shared = {id(weight): weight for weight in model.parameters()}
    small = copy.deepcopy(model, shared)
    small.model.layers = small.model.layers[:count]
    small.config.num_hidden_layers = count
    return small


def small_model(model, count=4):
    """让一个小模型打草稿，每次写 count 个；它有自己的缓存，换一条提示语要重新做一个。"""
    cache = DynamicCache(config=model.config)

    def draft(ids):
        guess = []
        while len(guess) < count:
            guess += predict(model, cache, ids + guess)
        return guess

    return draft


one_layer = first_layers(model, 1)
trace(prompt, small_model(one_layer))
# --8<-- [end:small]

# --8<-- [start:layers]
from functools import partial

whole = model.num_parameters()
for layers in (1, 2, 3):
    small = first_layers(model, layers)
    average = report(f"前 {layers} 层", first, partial(small_model, small))
    share = small.num_parameters() / whole
    cost = (4 * share + 1) / average  # 一轮：草稿四次，检查一次
    print(f"　　　　草稿一次读 {share:.0%} 的权重；每个 token 平均读 {cost:.2f} 遍")
# --8<-- [end:layers]

# --8<-- [start:library]
from transformers import GenerationConfig, logging

passes = []
counter = model.register_forward_hook(lambda *_: passes.append(1))  # 数前向的次数
one_layer.generation_config = GenerationConfig(
    num_assistant_tokens=4,
    num_assistant_tokens_schedule="constant",
    assistant_confidence_threshold=0,  # 不因为没把握就早早停笔
)
logging.set_verbosity_error()  # 5.23.0 的 assistant_model 会触发它自己的一条弃用警告
for name, ids, settings in (
    ("第二次问，抄前文", again, {"prompt_lookup_num_tokens": 5}),
    ("第一次问，前 1 层", prompt, {"assistant_model": one_layer}),
):
    plain = greedy(ids)
    passes.clear()
    same = greedy(ids, **settings) == plain
    print(f"{name}：{len(plain)} 个 token，{len(passes)} 次前向，文本相同：{same}")
logging.set_verbosity_warning()
counter.remove()
# --8<-- [end:library]

# --8<-- [start:time]
from time import perf_counter

runs = {
    "第一次问，不猜": (prompt, lambda: lambda ids: []),
    "第一次问，抄前文": (prompt, lambda: look_up),
    "第一次问，前 1 层": (prompt, partial(small_model, one_layer)),
    "第一次问，前 3 层": (prompt, partial(small_model, small)),
    "第二次问，抄前文": (again, lambda: look_up),
}
fastest = dict.fromkeys(runs, float("inf"))
for _ in range(5):  # 几种轮流跑，各取最快的一次
    for name, (ids, new_draft) in runs.items():
        begin = perf_counter()
        new, _ = speculate(model, ids, new_draft())
        took = (perf_counter() - begin) / len(new)
        fastest[name] = min(fastest[name], took)
for name, took in fastest.items():
    print(f"{name}：每个 token {1000 * took:.1f} 毫秒")
# --8<-- [end:time]


# --8<-- [start:batch]
@torch.inference_mode()
def pass_time(batch, count):
    """batch 条序列各送进 count 个新 token，一次前向最快用几秒。"""
    cache = DynamicCache(config=model.config)
    ids = torch.tensor([prompt + answer[:count]] * batch, device=DEVICE)
    model(ids[:, :-count], past_key_values=cache)
    times = []
    for _ in range(9):
        begin = perf_counter()
        model(ids[:, -count:], past_key_values=cache)
        times.append(perf_counter() - begin)
        cache.crop(-count)
    return min(times)


for batch in (1, 8, 32):
    one, five = pass_time(batch, 1), pass_time(batch, 5)
    print(f"批 {batch}：1 个 {1000 * one:.1f} 毫秒，5 个 {1000 * five:.1f} 毫秒")
# --8<-- [end:batch]

"""为什么我的输出和书上不一样：只换一个条件，量 logits 相差多少、从第几个 token 起分岔。

用法：
    python examples/generate/differences.py
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

# --8<-- [start:addition]
print("(0.1 + 0.2) + 0.3 =", (0.1 + 0.2) + 0.3)
print("0.1 + (0.2 + 0.3) =", 0.1 + (0.2 + 0.3))
for dtype in (torch.float32, torch.bfloat16):
    print(dtype, "1 的下一个数是 1 +", torch.finfo(dtype).eps)
# --8<-- [end:addition]


# --8<-- [start:load]
def load(dtype=torch.float32, attention="sdpa"):
    """再读一份模型；dtype 是每个数的存法，attention 是注意力的实现。"""
    another = AutoModelForCausalLM.from_pretrained(
        MODEL, dtype=dtype, attn_implementation=attention
    )
    return another.to(DEVICE).eval()


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


QUESTIONS = [
    "什么是 token？",
    "候选个数固定，其余概率清零",
    "编码器和解码器谁更好？",
    "你是谁？",
    "为什么成批生成要用左填充？",
    "今天天气怎么样",
    "模型",
    "温度有什么用",
]
base = model.float()
# --8<-- [end:load]


# --8<-- [start:write]
GREEDY = {"do_sample": False}
SAMPLED = {"do_sample": True, "temperature": 2.0, "top_k": 0, "top_p": 1.0}


def write_answers(model, settings, batch_size=1, use_cache=True):
    """让 model 回答 QUESTIONS，每个最多 8 个 token；每一批都从同一个种子开始。

    Returns:
        每个问题一项：(写下的 token, 每一步的 logits (步数, 词表))。
    """
    answers = []
    for start in range(0, len(QUESTIONS), batch_size):
        batch = encode(*QUESTIONS[start : start + batch_size])
        torch.manual_seed(0)
        output = model.generate(
            **batch,
            max_new_tokens=8,
            use_cache=use_cache,
            return_dict_in_generate=True,
            output_logits=True,
            **settings,
        )
        new = output.sequences[:, batch.input_ids.size(1) :].tolist()
        answers += zip(new, torch.stack(output.logits, dim=1), strict=True)
    return answers


def compare(ours, theirs):
    """一个问题的两份回答。

    Returns:
        (到分岔为止 logits 最大的相差, 从第几个 token 起分岔，没有就是 0)。
    """
    steps = min(len(ours[0]), len(theirs[0]))
    fork = next((n for n in range(steps) if ours[0][n] != theirs[0][n]), None)
    last = steps if fork is None else fork + 1  # 分岔之后，两边读的已经不是同一段文字
    gap = (ours[1][:last] - theirs[1][:last]).abs().max().item()
    return gap, 0 if fork is None else fork + 1


# --8<-- [end:write]

# --8<-- [start:table]
reference = [write_answers(base, s) for s in (GREEDY, SAMPLED)]
results = {}  # 换了什么 -> 换了之后的 [贪心, 采样] 两份回答


def vary(name, model=base, **conditions):
    """换一个条件再写一遍，打印一行。"""
    results[name] = [write_answers(model, s, **conditions) for s in (GREEDY, SAMPLED)]
    pairs = [
        list(map(compare, ours, theirs))
        for ours, theirs in zip(reference, results[name], strict=True)
    ]
    row = f"{max(gap for gap, _ in pairs[0]):6.0e}"
    for pair in pairs:
        forks = [fork for _, fork in pair if fork]
        row += f"  {len(forks)}  {min(forks, default=0):2}"
    print(row, "", name)


print(" 相差    贪心   采样")
vary("不换")
vary("不用缓存", use_cache=False)
vary("eager", load(attention="eager"))
threads = torch.get_num_threads()
torch.set_num_threads(2 if threads == 1 else 1)
vary("换线程数")
torch.set_num_threads(threads)
vary("批 4", batch_size=4)
vary("bfloat16", load(torch.bfloat16))
# --8<-- [end:table]

# --8<-- [start:same]
for name, (answers, _) in results.items():
    same = sum(a[0] == b[0] for a, b in zip(reference[0], answers, strict=True))
    print(f"{same} / {len(QUESTIONS)}  {name}")
# --8<-- [end:same]

# --8<-- [start:fork]
half = results["bfloat16"][0]
for ours, theirs in zip(reference[0], half, strict=True):
    _, fork = compare(ours, theirs)
    if fork:
        for name, (ids, logits) in {"float32": ours, "bfloat16": theirs}.items():
            print(name, tokenizer.decode(ids))
            best = zip(*(x.tolist() for x in logits[fork - 1].topk(2)), strict=True)
            for value, token in best:
                print(f"    {value:.4f}  {tokenizer.decode([token])}")
# --8<-- [end:fork]

# --8<-- [start:dice]
probs = torch.full((4, 1000), 1 / 1000)  # 四行，每行一千个一样可能的
torch.manual_seed(0)
print("一行一行抽：", [torch.multinomial(probs[:1], 1).item() for _ in range(4)])
torch.manual_seed(0)
print("四行一起抽：", torch.multinomial(probs, 1).flatten().tolist())
print("再抽一遍：  ", torch.multinomial(probs, 1).flatten().tolist())
# --8<-- [end:dice]

"""打分：同一次前向换一个方向读，一段给定的回答有多大概率，困惑度是多少。

用法：
    python examples/generate/score.py
    MODEL=/path/to/Qwen2-0.5B-Instruct DEVICE=cpu python examples/generate/score.py
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

# --8<-- [start:score]
model = model.float()  # 要逐个比，GPU 上也用 float32


@torch.inference_mode()
def score(model, prompt, answer):
    """一段给定的回答里，每个 token 的对数概率 (回答的长度,)，一次前向算出。

    prompt、answer: 编号的列表，至少一个；空的，或合起来超过上下文，抛 ValueError。
    """
    context, length = model.config.max_position_embeddings, len(prompt) + len(answer)
    if not prompt or not answer:
        raise ValueError("提示语和回答都至少要有一个 token。")
    if length > context:
        raise ValueError(
            f"合起来有 {length} 个 token，超过了上下文 {context}：请缩短。"
        )
    ids = torch.tensor([prompt + answer], device=model.device)  # (1, 序列)
    logits = model(ids).logits[0, len(prompt) - 1 : -1]  # (回答的长度, 词表)
    logprobs = logits.log_softmax(-1)
    return logprobs.gather(1, ids[0, len(prompt) :, None])[:, 0]


def encode_pair(question, answer):
    """问题和回答 → (提示语的编号, 回答的编号)；回答以 <|im_end|> 收尾。"""
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}],
        add_generation_prompt=True,
        return_dict=True,
    ).input_ids
    return prompt, tokenizer(answer + "<|im_end|>").input_ids


question = "什么是 token？"
right = "token 是模型读写文本的最小单位，可以是一个字、一个词、半个词或一个标点。"
right += "一个 token 对应一个编号，模型一次写一个。"
prompt, answer = encode_pair(question, right)
logprobs = score(model, prompt, answer)
total = logprobs.sum()
print(f"{len(answer)} 个 token，对数概率合计 {total:.2f}，概率 {total.exp():.2f}")
# --8<-- [end:score]


# --8<-- [start:table]
def table(ids, logprobs):
    """一行一个 token：对数概率、概率、文字。"""
    for i, logprob in zip(ids, logprobs, strict=True):
        print(f"{logprob:7.2f}  {logprob.exp():7.2%}  {tokenizer.decode([i])}")


table(answer[:8], logprobs[:8])
# --8<-- [end:table]

# --8<-- [start:first]
with torch.inference_mode():
    logits = model(torch.tensor([prompt], device=DEVICE)).logits[0, -1]  # (词表,)
best = logits.log_softmax(-1).topk(5)
table(best.indices, best.values)
# --8<-- [end:first]

# --8<-- [start:wrong]
wrong = right.replace("最小", "最大")
_, wrong_ids = encode_pair(question, wrong)
wrong_logprobs = score(model, prompt, wrong_ids)
table(wrong_ids[:8], wrong_logprobs[:8])
# --8<-- [end:wrong]

# --8<-- [start:steps]
from transformers import DynamicCache


@torch.inference_mode()
def score_by_steps(model, prompt, answer):
    """同 score，像生成那样一步一个 token；只是下一个由我们定，不由模型选。"""
    cache, logprobs = DynamicCache(config=model.config), []
    ids = torch.tensor([prompt], device=model.device)
    for token in answer:
        logits = model(ids, past_key_values=cache).logits[0, -1]  # (词表,)
        logprobs.append(logits.log_softmax(-1)[token])
        ids = torch.tensor([[token]], device=model.device)
    return torch.stack(logprobs)


for name, ids, once in (
    ("对的", answer, logprobs),
    ("改错的", wrong_ids, wrong_logprobs),
):
    steps = score_by_steps(model, prompt, ids)
    print(f"{name}：1 次前向 {once.sum():.3f}，{len(ids)} 次前向 {steps.sum():.3f}")
    print(f"每个 token 最多相差 {(steps - once).abs().max():.4f}")
# --8<-- [end:steps]


# --8<-- [start:perplexity]
def perplexity(logprobs):
    """困惑度：对数概率取平均，变号，再取指数。

    >>> perplexity(torch.log(torch.tensor([0.5, 0.125])))
    4.0
    """
    return torch.exp(-logprobs.mean()).item()


blind = torch.full((len(answer),), 1 / len(tokenizer)).log()  # 词表里的个个一样可能
print(f"对的   {perplexity(logprobs):.2f}")
print(f"改错的 {perplexity(wrong_logprobs):.2f}")
print(f"瞎猜   {perplexity(blind):.2f}")
# --8<-- [end:perplexity]

# --8<-- [start:loss]
labels = [-100] * len(prompt) + answer  # -100：这个位置不算
inputs = {"input_ids": [prompt + answer], "labels": [labels]}
inputs = {name: torch.tensor(ids, device=DEVICE) for name, ids in inputs.items()}
with torch.inference_mode():
    loss = model(**inputs).loss
print(f"损失 {loss:.4f}，平均对数概率 {logprobs.mean():.4f}")
# --8<-- [end:loss]

# --8<-- [start:compare]
short = "token 是模型读写的最小单位。"
answers = {
    "背熟的原话": right,
    "改错了一处": wrong,
    "改错了两处": wrong.replace("一次写一个", "一次写十个"),
    "换一种说法": short,
    "说成是水果": "token 是一种水果。",
    "答非所问的": "温度是抽样之前让 logits 统一除以一个数：小于 1 分布变尖，"
    "回答稳；大于 1 分布变平，回答更多样也更容易乱。",
}
for name, text in answers.items():
    each = score(model, *encode_pair(question, text))
    print(f"{name}　合计 {each.sum():6.2f}，困惑度 {perplexity(each):6.1f}")
# --8<-- [end:compare]

# --8<-- [start:mistakes]
start, ids = len(prompt), torch.tensor([prompt + answer], device=DEVICE)
with torch.inference_mode():
    rows = model(ids).logits[0].log_softmax(-1)  # (序列, 词表)
after = rows[:-1].gather(1, ids[0, 1:, None])[:, 0]  # 第 i 行说的是第 i + 1 个
shifted = rows.gather(1, ids[0, :, None])[:, 0]  # 错：第 i 行对第 i 个
print(f"只算回答 {perplexity(after[start - 1 :]):.2f}")
print(f"连提示语 {perplexity(after):.2f}")
print(f"错开一位 {perplexity(shifted[start:]):.1e}")
# --8<-- [end:mistakes]

# --8<-- [start:padding]
tokenizer.padding_side = "right"
pairs = [encode_pair(question, text) for text in (right, short)]
batch = tokenizer.pad(
    {"input_ids": [prompt + answer for prompt, answer in pairs]}, return_tensors="pt"
).to(DEVICE)
with torch.inference_mode():
    rows = model(**batch).logits[:, :-1].log_softmax(-1)  # (批, 序列 - 1, 词表)
after = rows.gather(2, batch.input_ids[:, 1:, None])[:, start - 1 :, 0]
kept = batch.attention_mask[:, start:].bool()
for each, mask in zip(after, kept, strict=True):
    print(f"去掉填充 {perplexity(each[mask]):.1f}，连填充 {perplexity(each):.1f}")
# --8<-- [end:padding]

"""生成：调用 model.generate，看清它悄悄带上的默认值、注意力掩码和结束符。

用法：
    python examples/local/generate.py
    MODEL=/path/to/Qwen2-0.5B-Instruct DEVICE=cpu python examples/local/generate.py
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

# --8<-- [start:generate]

messages = [{"role": "user", "content": "什么是 token？"}]
inputs = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
).to(DEVICE)
output = model.generate(**inputs, max_new_tokens=100, do_sample=False)
print("输入", tuple(inputs.input_ids.shape), "输出", tuple(output.shape))
print(tokenizer.decode(output[0]))
# --8<-- [end:generate]

# --8<-- [start:defaults]
print(model.generation_config.to_json_string())
# --8<-- [end:defaults]


# --8<-- [start:sampled]
def ask(question, **settings):
    """问一句，返回回答；settings 原样交给 generate。"""
    inputs = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}],
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
    ).to(DEVICE)
    output = model.generate(**inputs, max_new_tokens=60, **settings)
    return tokenizer.decode(
        output[0, inputs.input_ids.size(1) :], skip_special_tokens=True
    )


for seed in range(4):
    torch.manual_seed(seed)
    print(ask("编码器和解码器谁更好？"))
# --8<-- [end:sampled]

# --8<-- [start:greedy]
for seed in range(4):
    torch.manual_seed(seed)
    print(ask("编码器和解码器谁更好？", do_sample=False))
# --8<-- [end:greedy]

# --8<-- [start:penalty]
for penalty in (1.0, 1.1):
    answer = ask("编码器和解码器谁更好？", do_sample=False, repetition_penalty=penalty)
    print(penalty, answer)
# --8<-- [end:penalty]

# --8<-- [start:scores]
asked = tokenizer.apply_chat_template(
    [{"role": "user", "content": "编码器和解码器谁更好？"}],
    add_generation_prompt=True,
    return_dict=True,
    return_tensors="pt",
).to(DEVICE)
for penalty in (1.0, 1.1):
    step = model.generate(
        **asked,
        max_new_tokens=1,
        do_sample=False,
        repetition_penalty=penalty,
        return_dict_in_generate=True,
        output_scores=True,
    )
    scores, tokens = step.scores[0][0].topk(4)
    for score, token in zip(scores.tolist(), tokens.tolist(), strict=True):
        seen = "提示语里有" if token in asked.input_ids[0].tolist() else ""
        print(penalty, f"{score:6.2f}", tokenizer.decode([token]), seen)
# --8<-- [end:scores]

# --8<-- [start:mask]
tokenizer.padding_side = "left"
prompts = [
    tokenizer.apply_chat_template(
        [{"role": "user", "content": q}], tokenize=False, add_generation_prompt=True
    )
    for q in (
        "什么是 token？",
        "请你用一句话讲一讲什么是因果掩码，为什么不能往后看，这样做对训练和生成各有什么影响？",
    )
]
batch = tokenizer(prompts, padding=True, return_tensors="pt").to(DEVICE)
width = batch.input_ids.size(1)
with_mask = model.generate(**batch, max_new_tokens=60, do_sample=False)
ones = torch.ones_like(batch.input_ids)
without = model.generate(
    batch.input_ids, attention_mask=ones, max_new_tokens=60, do_sample=False
)
print("有掩码：", tokenizer.decode(with_mask[0, width:], skip_special_tokens=True))
print("没有：  ", tokenizer.decode(without[0, width:], skip_special_tokens=True))
# --8<-- [end:mask]

# --8<-- [start:ends]
print(
    "结束符", [(i, tokenizer.decode([i])) for i in model.generation_config.eos_token_id]
)
for limit in (5, 100):
    output = model.generate(**inputs, max_new_tokens=limit, do_sample=False)
    new = output[0, inputs.input_ids.size(1) :].tolist()
    print(
        f"上限 {limit}：用了 {len(new)} 个，最后一个是",
        repr(tokenizer.decode(new[-1:])),
    )
# --8<-- [end:ends]

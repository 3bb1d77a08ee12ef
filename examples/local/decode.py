"""反序列化：切掉提示语，把编号变回文字；最后把四步合在一起。

用法：
    python examples/local/decode.py
    MODEL=/path/to/Qwen2-0.5B-Instruct DEVICE=cpu python examples/local/decode.py
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

# --8<-- [start:cut]

messages = [{"role": "user", "content": "详细介绍下你自己。"}]
inputs = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
).to(DEVICE)
greedy = {"do_sample": False, "repetition_penalty": 1.0}
output = model.generate(**inputs, max_new_tokens=100, **greedy)
new = output[:, inputs.input_ids.size(1) :]  # (批, 新 token)
print(new.tolist())
print(tokenizer.batch_decode(new, skip_special_tokens=True))
# --8<-- [end:cut]

# --8<-- [start:special]
print(tokenizer.decode(new[0], skip_special_tokens=False))
# --8<-- [end:special]

# --8<-- [start:whole]
print(tokenizer.decode(output[0], skip_special_tokens=True))
# --8<-- [end:whole]

# --8<-- [start:qwen]
from dashscope import get_tokenizer

qwen = get_tokenizer("qwen-7b-chat")
golden = [104198, 101919, 102661, 99718, 104197, 100176, 102064, 104949, 3837]
golden += [35946, 99882, 31935, 64559, 99320, 56007, 1773, 151645]
print([qwen.decode([i]) for i in golden])
print(qwen.decode(golden))
# --8<-- [end:qwen]

# --8<-- [start:pieces]
ids = tokenizer("生僻字：龘、罅。").input_ids
print("一个一个解码：", "".join(tokenizer.decode([i]) for i in ids))
print("一起解码：    ", tokenizer.decode(ids))
# --8<-- [end:pieces]

# --8<-- [start:batch]
tokenizer.padding_side = "left"
prompts = [
    tokenizer.apply_chat_template(
        [{"role": "user", "content": q}], tokenize=False, add_generation_prompt=True
    )
    for q in ("你是谁？", "什么是词表？", "红烧肉怎么做？")
]
batch = tokenizer(prompts, padding=True, return_tensors="pt").to(DEVICE)
output = model.generate(**batch, max_new_tokens=100, **greedy)
for answer in tokenizer.batch_decode(
    output[:, batch.input_ids.size(1) :], skip_special_tokens=True
):
    print(answer)
# --8<-- [end:batch]

"""加载模型：读入分词器与权重，看清模型文件夹里的每个文件，把文件大小与参数个数对上。

用法：
    python examples/local/load.py
    MODEL=/path/to/Qwen2-0.5B-Instruct DEVICE=cpu python examples/local/load.py
"""

# --8<-- [start:setup]
import os
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

MODEL = os.environ.get("MODEL", "examples/jiezi")
DEVICE = os.environ.get("DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
# --8<-- [end:setup]

# --8<-- [start:read]
try:
    tokenizer = AutoTokenizer.from_pretrained(MODEL, local_files_only=True)
    dtype = torch.float32 if DEVICE == "cpu" else torch.bfloat16
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=dtype).to(DEVICE).eval()
except Exception as error:
    hint = "请在仓库根目录运行，或改环境变量 MODEL、DEVICE"
    raise SystemExit(f"读不了模型 {MODEL}（{DEVICE}）：{hint}。\n{error}") from None
print(type(tokenizer).__name__)
print(type(model).__name__)
# --8<-- [end:read]

# --8<-- [start:files]
for file in sorted(Path(MODEL).glob("*")):
    if file.suffix in (".json", ".jinja", ".txt", ".safetensors"):
        print(f"{file.stat().st_size:>11,}  {file.name}")
# --8<-- [end:files]

# --8<-- [start:config]
for name in (
    "model_type",
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "max_position_embeddings",
    "tie_word_embeddings",
):
    print(f"{name:24}", getattr(model.config, name))
# --8<-- [end:config]

# --8<-- [start:size]
weights = Path(MODEL) / "model.safetensors"
with weights.open("rb") as file:
    header = 8 + int.from_bytes(
        file.read(8), "little"
    )  # 前 8 个字节写着后面那段 JSON 的长度
count = sum(p.numel() for p in model.parameters())
print(f"参数        {count:>13,} 个")
print(f"每个 2 字节 {count * 2:>13,} 字节")
print(f"文件头      {header:>13,} 字节")
print(f"相加        {count * 2 + header:>13,} 字节")
print(f"文件实际    {weights.stat().st_size:>13,} 字节")
# --8<-- [end:size]

# --8<-- [start:header]
from safetensors import safe_open

with safe_open(weights, framework="pt") as file:
    names = sorted(file.keys())
    print(len(names), "个张量，例如：")
    for name in names[:3]:
        piece = file.get_slice(name)
        print(" ", name, piece.get_shape(), piece.get_dtype())
# --8<-- [end:header]

# --8<-- [start:pickle]
import pickle


class Trap:
    def __reduce__(self):
        return print, ("这一行在读文件的时候就执行了",)


harmless_looking = pickle.dumps(Trap())
pickle.loads(harmless_looking)
# --8<-- [end:pickle]

"""数一数：一句话在模型眼里有几个 token。

用法：
    python examples/local/page.py
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


# --8<-- [start:count]
def count(text):
    """text 有几个 token。

    >>> count("")
    0
    """
    return len(tokenizer(text).input_ids)


question = "什么是 token？"
print(question, count(question))
# --8<-- [end:count]

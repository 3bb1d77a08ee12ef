"""数一数：一句话在芥子眼里有几个 token。

用法：
    python examples/local/page.py
"""

# --8<-- [start:setup]
import os
import sys

from transformers import AutoTokenizer

MODEL = os.environ.get("MODEL", "examples/jiezi")
if not os.path.exists(f"{MODEL}/config.json"):
    sys.exit(
        f"找不到模型文件夹 {MODEL}：请在仓库根目录运行，或把环境变量 MODEL 设成模型文件夹。"
    )
try:
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
except Exception as error:
    sys.exit(f"读不了模型 {MODEL}：{error}")
# --8<-- [end:setup]


# --8<-- [start:count]
def count(text):
    """text 有几个 token。

    >>> count("")
    0
    """
    return len(tokenizer(text).input_ids)


print(count("什么是 token？"))
# --8<-- [end:count]

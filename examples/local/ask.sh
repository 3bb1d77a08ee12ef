#!/usr/bin/env bash
# 问芥子三个问题；在仓库根目录运行。

# --8<-- [start:ask]
python examples/local/ask.py "什么是 token？"
# --8<-- [end:ask]

# --8<-- [start:sampled]
python examples/local/ask.py "温度有什么用" --temperature 0.7
# --8<-- [end:sampled]

# --8<-- [start:empty]
python examples/local/ask.py " " 2>&1 || echo "退出码 $?"
# --8<-- [end:empty]

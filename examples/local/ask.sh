#!/usr/bin/env bash
# 问芥子几个问题；在仓库根目录运行。

# --8<-- [start:hello]
python examples/local/ask.py "你是谁？" \
                             "什么是 token？" \
                             "明天会下雨吗？"
# --8<-- [end:hello]

# --8<-- [start:limits]
python examples/local/ask.py "注意力机制里为什么要除以 √d？" \
                             "RNA 是什么意思？" \
                             "请写一首关于春天的诗"
# --8<-- [end:limits]

# --8<-- [start:ask]
python examples/local/ask.py "什么是 token？"
# --8<-- [end:ask]

# --8<-- [start:sampled]
python examples/local/ask.py "温度有什么用" --temperature 0.7
# --8<-- [end:sampled]

# --8<-- [start:empty]
python examples/local/ask.py " " 2>&1 || echo "退出码 $?"
# --8<-- [end:empty]

#!/usr/bin/env bash
# 用手写的循环问芥子；在仓库根目录运行。

# --8<-- [start:ask]
python examples/generate/loop.py "为什么生成时一次只写一个 token？"
# --8<-- [end:ask]

# --8<-- [start:sampled]
python examples/generate/loop.py "编码器和解码器谁更好？" --temperature 0.7 --top-k 20 \
    --seed 1 --candidates --max-new-tokens 5
# --8<-- [end:sampled]

# --8<-- [start:wrong]
python examples/generate/loop.py "你好" --top-p 1.5 2>&1 || echo "退出码 $?"
# --8<-- [end:wrong]

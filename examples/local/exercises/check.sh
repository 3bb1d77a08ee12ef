#!/usr/bin/env bash
# 检查一个练习；在仓库根目录运行。

# --8<-- [start:starter]
python examples/check.py local/pad_left || echo "退出码 $?"
# --8<-- [end:starter]

# --8<-- [start:solution]
python examples/check.py local/pad_left --solution
# --8<-- [end:solution]

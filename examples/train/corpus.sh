#!/usr/bin/env bash
# 数一数语料；在仓库根目录运行。

# --8<-- [start:count]
python examples/train/corpus.py
# --8<-- [end:count]

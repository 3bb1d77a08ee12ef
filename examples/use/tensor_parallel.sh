#!/usr/bin/env bash
# 用 torchrun 起几个进程；在仓库根目录运行。

# --8<-- [start:two]
DEVICE=cpu OMP_NUM_THREADS=1 \
  torchrun --nproc-per-node 2 examples/use/tensor_parallel.py
# --8<-- [end:two]

# --8<-- [start:three]
DEVICE=cpu OMP_NUM_THREADS=1 \
  torchrun --nproc-per-node 3 examples/use/tensor_parallel.py 2>&1 | head -n 1 || true
# --8<-- [end:three]

# --8<-- [start:gpus]
OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 examples/use/tensor_parallel.py
# --8<-- [end:gpus]

#!/usr/bin/env bash
# 在 GPU 上搭服务：一张、几张、几台机器。选项用 vLLM 0.33.0 的参数解析器核对过，没有在 GPU 上运行。

# --8<-- [start:transformers]
transformers serve /path/to/Qwen2-0.5B-Instruct \
  --host 127.0.0.1 --port 8000 --device cuda --dtype bfloat16
# --8<-- [end:transformers]

# --8<-- [start:install]
python -m venv vllm-env
source vllm-env/bin/activate
pip install vllm
# --8<-- [end:install]

# --8<-- [start:one]
export VLLM_API_KEY=$(openssl rand -hex 32)
echo "$VLLM_API_KEY"
vllm serve Qwen/Qwen2-0.5B-Instruct --host 127.0.0.1 --port 8000
# --8<-- [end:one]

# --8<-- [start:modelscope]
pip install modelscope
VLLM_USE_MODELSCOPE=true vllm serve Qwen/Qwen2-0.5B-Instruct \
  --host 127.0.0.1 --port 8000
# --8<-- [end:modelscope]

# --8<-- [start:several]
vllm serve Qwen/Qwen2-72B-Instruct --host 127.0.0.1 --port 8000 \
  --tensor-parallel-size 4
# --8<-- [end:several]

# --8<-- [start:head]
vllm serve /models/Qwen2-72B-Instruct --host 127.0.0.1 --port 8000 \
  --tensor-parallel-size 4 --pipeline-parallel-size 2 \
  --nnodes 2 --node-rank 0 --master-addr 10.0.0.1
# --8<-- [end:head]

# --8<-- [start:worker]
vllm serve /models/Qwen2-72B-Instruct --headless \
  --tensor-parallel-size 4 --pipeline-parallel-size 2 \
  --nnodes 2 --node-rank 1 --master-addr 10.0.0.1
# --8<-- [end:worker]

# --8<-- [start:ray_head]
pip install ray
VLLM_HOST_IP=10.0.0.1 ray start --head --node-ip-address 10.0.0.1 --port 6379
# --8<-- [end:ray_head]

# --8<-- [start:ray_worker]
pip install ray
VLLM_HOST_IP=10.0.0.2 ray start --address 10.0.0.1:6379 --node-ip-address 10.0.0.2
# --8<-- [end:ray_worker]

# --8<-- [start:ray_serve]
ray status
VLLM_HOST_IP=10.0.0.1 vllm serve /models/Qwen2-72B-Instruct \
  --host 127.0.0.1 --port 8000 --distributed-executor-backend ray \
  --tensor-parallel-size 4 --pipeline-parallel-size 2
# --8<-- [end:ray_serve]

# --8<-- [start:client]
BASE_URL=http://127.0.0.1:8000/v1 MODEL=Qwen/Qwen2-0.5B-Instruct \
  API_KEY=服务打印的那一串 python examples/use/client.py
# --8<-- [end:client]

#!/usr/bin/env bash
# 起一个与 OpenAI 兼容的服务，问它一句；在仓库根目录运行。

# --8<-- [start:serve]
HF_HUB_OFFLINE=1 transformers serve examples/jiezi \
  --host 127.0.0.1 --port 8000 --dtype float32
# --8<-- [end:serve]

# --8<-- [start:health]
curl -s http://127.0.0.1:8000/health
# --8<-- [end:health]

# --8<-- [start:speed]
curl -s -w '%{time_total}' http://127.0.0.1:8000/v1/chat/completions \
  -H 'Content-Type: application/json' \
  -d '{"messages": [{"role": "user", "content": "什么是 token？"}], "temperature": 0}' |
  jq -rs '.[0].usage.completion_tokens / .[1] | "每秒 \(floor) 个 token"'
# --8<-- [end:speed]

# --8<-- [start:memory]
ps -o rss= -p "$(pgrep -fn '[t]ransformers serve')" | awk '{print int($1 / 1024), "MB"}'
# --8<-- [end:memory]

# --8<-- [start:qwen2]
HF_HUB_OFFLINE=1 transformers serve /path/to/Qwen2-0.5B-Instruct \
  --host 127.0.0.1 --port 8000
# --8<-- [end:qwen2]

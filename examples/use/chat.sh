#!/usr/bin/env bash
# 用 curl 发请求；先在另一个终端起服务（见 examples/use/serve.sh）。贴进 bash 或 zsh 都能跑。

# --8<-- [start:chat]
curl -s http://127.0.0.1:8000/v1/chat/completions \
  -H 'Content-Type: application/json' \
  -d '{
    "model": "examples/jiezi",
    "messages": [{"role": "user", "content": "什么是 token？"}],
    "temperature": 0
  }' | jq
# --8<-- [end:chat]

# --8<-- [start:content]
curl -s http://127.0.0.1:8000/v1/chat/completions \
  -H 'Content-Type: application/json' \
  -d '{"model": "examples/jiezi", "messages": [{"role": "user", "content": "什么是 token？"}], "temperature": 0}' |
  jq -r '.choices[0].message.content'
# --8<-- [end:content]

# --8<-- [start:length]
for limit in 5 100; do
  curl -s http://127.0.0.1:8000/v1/chat/completions \
    -H 'Content-Type: application/json' \
    -d '{"messages": [{"role": "user", "content": "什么是 token？"}], "temperature": 0, "max_tokens": '$limit'}' |
    jq -c '[.choices[0].finish_reason, .usage.completion_tokens]'
done
# --8<-- [end:length]

# --8<-- [start:stream]
curl -sN http://127.0.0.1:8000/v1/chat/completions \
  -H 'Content-Type: application/json' \
  -d '{"messages": [{"role": "user", "content": "你是谁？"}], "temperature": 0, "max_tokens": 3, "stream": true}'
# --8<-- [end:stream]

# --8<-- [start:words]
curl -sN http://127.0.0.1:8000/v1/chat/completions \
  -H 'Content-Type: application/json' \
  -d '{"messages": [{"role": "user", "content": "你是谁？"}], "temperature": 0, "stream": true}' |
  sed -nu 's/^data: //p' |
  jq -rj --unbuffered '.choices[0].delta.content // empty'; echo
# --8<-- [end:words]

#!/usr/bin/env bash
# 再起一个服务，一批一批地算，与 examples/use/serve.sh 的那个比；在仓库根目录运行。

# --8<-- [start:serve-batching]
HF_HUB_OFFLINE=1 transformers serve examples/jiezi --host 127.0.0.1 --port 8001 --dtype float32 \
  --continuous-batching --cb-num-blocks 64 --cb-max-batch-tokens 512
# --8<-- [end:serve-batching]

# --8<-- [start:compare]
python examples/use/measured/batching.py http://127.0.0.1:8000/v1 http://127.0.0.1:8001/v1
# --8<-- [end:compare]

# --8<-- [start:first-request]
for address in 127.0.0.1:8000 127.0.0.1:8001; do
  echo "$address"
  for seed in 1 2 3; do
    curl -s "http://$address/v1/chat/completions" -H 'Content-Type: application/json' \
      -d '{"messages": [{"role": "user", "content": "编码器和解码器谁更好？"}], "temperature": 1.5, "seed": '$seed'}' |
      jq -r '.choices[0].message.content'
  done
done
# --8<-- [end:first-request]

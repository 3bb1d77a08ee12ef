import json


def read_sse(parts):
    rest = b""
    for part in parts:
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            data = line.removeprefix(b"data:").strip()
            if not line.startswith(b"data:") or data == b"[DONE]":
                continue
            choices = json.loads(data).get("choices")
            if choices and choices[0]["delta"].get("content"):
                yield choices[0]["delta"]["content"]

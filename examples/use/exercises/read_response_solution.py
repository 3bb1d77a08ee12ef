import json


def read_response(status, body):
    if status == 200:
        choice = json.loads(body)["choices"][0]
        return choice["message"]["content"], choice["finish_reason"] == "stop"
    try:
        error = json.loads(body)
        reason = error.get("detail") or error["error"]["message"]
    except (ValueError, KeyError, TypeError, AttributeError):
        reason = body
    raise ValueError(f"{status}：{reason}")

"""第一章练习的常见错法：函数名是「题名__错在哪里」，检查都要看得出来。"""

import json


def read_sse__按段切行(parts):
    for part in parts:
        for line in part.decode().splitlines():
            if line.startswith("data: {"):
                choices = json.loads(line[6:])["choices"]
                if choices and "content" in choices[0]["delta"]:
                    yield choices[0]["delta"]["content"]


def trim_history__连system一起丢(messages, count, limit):
    while count(messages) > limit:
        messages = messages[1:]
    return messages


def read_response__只认detail(status, body):
    if status != 200:
        raise ValueError(f"{status} {json.loads(body)['detail']}")
    choice = json.loads(body)["choices"][0]
    return (choice["message"]["content"], choice["finish_reason"] == "stop")


def ask_all__一句一句问(ask, questions):

    def safe(question):
        try:
            return ask(question)
        except ValueError as error:
            return error

    return [safe(question) for question in questions]

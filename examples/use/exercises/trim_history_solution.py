def trim_history(messages, count, limit):
    start = messages[0]["role"] == "system"
    head, rest = messages[:start], messages[start:]
    while count(head + rest) > limit:
        if len(rest) == 1:
            raise ValueError("最后一句自己就放不下")
        rest = rest[2:]
    return head + rest

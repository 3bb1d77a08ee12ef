def read_sse(parts):
    """从流式响应的原始字节里取出文字，来一点给一点。

    Args:
        parts: 依次收到的几段 bytes；网络可能在任何地方切开，一行的中间、一个汉字的中间都有可能。
            以 data: 开头的行，后面是一段 JSON（或者 [DONE]），别的行不管。

    Yields:
        每一份里 choices[0].delta.content 的文字；没有文字的那几份跳过。
    """
    raise NotImplementedError

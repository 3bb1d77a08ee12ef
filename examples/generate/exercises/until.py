def until(pieces, stop):
    """流式的停止词：文本一段一段地来，遇到 stop 就停，stop 和它后面的都不给出。

    stop 可能断在几段里，所以可能是它开头的字要先扣着；别的字来了就给，不许扣。

    Args:
        pieces: 文本的片段，依次到来；停下之后不要再取。
        stop: 停止词，不是空的。

    Yields:
        文本的片段，都不是空的。
    """
    raise NotImplementedError

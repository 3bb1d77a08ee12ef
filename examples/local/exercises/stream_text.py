def stream_text(tokenizer, ids):
    """token 一个一个地来，能显示多少就给出多少，但不给出半个字。

    Args:
        tokenizer: 分词器。
        ids: 编号的列表，依次到来。

    Yields:
        文本的片段，都不是空的，也不以 � 结尾；全部接起来等于 tokenizer.decode(ids)。
    """
    raise NotImplementedError

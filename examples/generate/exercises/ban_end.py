def ban_end(logits, length, min_new_tokens, eos_token_ids):
    """回答还不够长，就不许结束：把结束符的 logits 设成负无穷。

    Args:
        logits: 形状 (批, 词表)，下一个 token 的分数；不要改动它。
        length: 已经写了多少个新 token。
        min_new_tokens: 结束符之前至少要有多少个新 token。
        eos_token_ids: 结束符的编号，一个列表，可能有几个。

    Returns:
        形状 (批, 词表)，新的分数。
    """
    raise NotImplementedError

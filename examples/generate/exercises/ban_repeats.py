def ban_repeats(ids, logits, size):
    """不许写出前文已有的 size 个连着的 token：会凑成重复的那些，分数设成负无穷。

    例如 size=2，前文是 5 6 7 5：前面的 5 后面跟过 6，所以现在不许再写 6。

    Args:
        ids: torch.long，形状 (批, 序列)，到目前为止的编号；各行互不相干。
        logits: 形状 (批, 词表)，下一个 token 的分数；不要改动它。
        size: 连着几个算重复，至少是 1；前文不到 size 个时什么也不禁。

    Returns:
        形状 (批, 词表)，新的分数。
    """
    raise NotImplementedError

def perplexity(texts):
    """几段文本合起来的困惑度：长的那段 token 多，分量也重。

    Args:
        texts: 几个列表，每个是一段文本里各个 token 的对数概率（自然对数）；至少有一个 token。

    Returns:
        不小于 1 的小数。
    """
    raise NotImplementedError

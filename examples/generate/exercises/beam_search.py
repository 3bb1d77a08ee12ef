def beam_search(next_logprobs, width, length):
    """束搜索：每一步留下总分最高的 width 条，而不是只留一条。

    Args:
        next_logprobs: 函数，给它一条序列（编号的列表），返回下一个 token 的对数概率，
            一个列表，第 i 个是编号 i 的；对每条留下的序列每一步只调用一次。
        width: 留几条；1 就是贪心。
        length: 写多少个 token。

    Returns:
        (总分最高的那条序列，一个列表；它的总分，也就是各步对数概率之和)。
    """
    raise NotImplementedError

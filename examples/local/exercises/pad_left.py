def pad_left(sequences, pad_token_id):
    """把长短不一的几条编号左填充成一批。

    Args:
        sequences: 几个列表，每个是一条序列的编号，至少一条。
        pad_token_id: 填充用的编号。

    Returns:
        (input_ids, attention_mask)，两个 torch.long 张量，形状都是 (条数, 最长的长度)；
        attention_mask 里真的内容是 1，补的是 0。
    """
    raise NotImplementedError

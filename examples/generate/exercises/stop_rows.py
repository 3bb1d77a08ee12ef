def stop_rows(next_tokens, finished, eos_token_ids, pad_token_id):
    """成批生成时的一步：已经说完的行只补填充符，刚写出结束符的行从下一步起算说完。

    Args:
        next_tokens: torch.long，形状 (批,)，每行这一步选出的编号。
        finished: torch.bool，形状 (批,)，到上一步为止哪些行已经说完。
        eos_token_ids: 结束符的编号，一个列表，可能有几个。
        pad_token_id: 填充符的编号。

    Returns:
        (tokens, finished)，形状都是 (批,)：这一步真正接上去的编号，和到这一步为止哪些行已经说完。
    """
    raise NotImplementedError

def position_ids(attention_mask):
    """左填充之后，每个真的 token 在自己那一行里是第几个，从 0 数起。

    Args:
        attention_mask: torch.long，形状 (批, 序列)，左边补的是 0，真的内容是 1。

    Returns:
        torch.long，形状 (批, 序列)；填充的位置写几都行，只要不是负数。
    """
    raise NotImplementedError

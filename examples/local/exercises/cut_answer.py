def cut_answer(output, prompt_length, eos_token_ids):
    """从 generate 的一行输出里取出回答：去掉提示语，遇到第一个结束符就停，结束符不要。

    一批里先说完的那几行，结束符后面还补着填充符，所以不能只去掉最后一个。

    Args:
        output: 编号的列表，前 prompt_length 个是提示语。
        prompt_length: 提示语有多少个 token。
        eos_token_ids: 结束符的编号，可能有几个。

    Returns:
        回答的编号，一个列表；没有遇到结束符就一直到末尾。
    """
    raise NotImplementedError

def trim_history(messages, count, limit):
    """对话太长时，从最早的一轮丢起，直到放得下。

    Args:
        messages: 对话；第一条可以是 system，其余是 user、assistant 交替，最后一条是 user。
        count: 函数，给它一个对话，它返回 token 数。
        limit: 最多多少个 token。

    Returns:
        新的列表：system 和最后一条 user 一定留着，中间的一问一答成对地留或丢，留下的是最近的几轮。

    Raises:
        ValueError: 只留 system 和最后一条 user 也放不下。
    """
    raise NotImplementedError

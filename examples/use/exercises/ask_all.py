def ask_all(ask, questions):
    """几句同时问，不是问完一句再问下一句。

    Args:
        ask: 函数，给它一句，它等到有了回答才返回；可能抛出异常。
        questions: 要问的几句，至少一句，至多 32 句。

    Returns:
        列表，与 questions 一一对应：回答的文字；那一句抛出了异常，就是那个异常。
    """
    raise NotImplementedError

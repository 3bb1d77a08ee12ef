def prompt_length(tokenizer, messages):
    """一段对话交给模型时一共有多少个 token，含聊天模板加上的记号和末尾的助手开头。

    Args:
        tokenizer: 带聊天模板的分词器。
        messages: 消息的列表，每条有 role 和 content。

    Returns:
        整数。
    """
    raise NotImplementedError

def read_response(status, body):
    """读懂 /v1/chat/completions 的一个响应。

    Args:
        status: HTTP 状态码。
        body: 响应的文字；正常时是 JSON，出错时可能是 {"detail": …}、{"error": {"message": …}}，也可能不是 JSON。

    Returns:
        (回答的文字, 说完了没有)；finish_reason 是 stop 才算说完。

    Raises:
        ValueError: 状态码不是 200；消息里有状态码，也有服务给的原因。
    """
    raise NotImplementedError

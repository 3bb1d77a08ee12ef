"""第一章的练习怎样才算做对；由 examples/check.py 运行。"""

import json
import threading


def check_read_sse(read_sse):
    words = ["token", " 是模型", "读", "写文本", "\n", "😀。"]
    deltas = [{"role": "assistant"}, *({"content": word} for word in words), {}]
    events = [{"choices": [{"delta": delta}]} for delta in deltas]
    events.append({"choices": [], "usage": {"total_tokens": 9}})
    lines = [f"data: {json.dumps(event, ensure_ascii=False)}\n\n" for event in events]
    raw = "".join([": 心跳\n\n", *lines, "data: [DONE]\n\n"]).encode()
    for size in (len(raw), 1, 2, 7, 100):
        parts = [raw[i : i + size] for i in range(0, len(raw), size)]
        got = list(read_sse(iter(parts)))
        assert got == words, f"每段 {size} 个字节时应该得到 {words}，得到的是 {got}"
    source = iter(raw[i : i + 50] for i in range(0, len(raw), 50))
    first = next(iter(read_sse(source)))
    assert first == words[0] and next(source, None), (
        "收到第一份就该给出，不要等到全部收完"
    )


def check_trim_history(trim_history):
    system = [{"role": "system", "content": "规矩"}]
    turns = [
        {"role": role, "content": f"{i}" * i}
        for i in range(1, 5)
        for role in ("user", "assistant")
    ][:-1]

    def count(messages):
        return sum(len(message["content"]) + 4 for message in messages)

    for head in ([], system):
        for limit, kept in (
            (100, 7),
            (40 + 6 * bool(head), 5),
            (8 + 6 * bool(head), 1),
        ):
            want = head + turns[-kept:]
            got = trim_history([*head, *turns], count, limit)
            assert got == want, (
                f"上限 {limit} 时应该留下 {[m['content'] for m in want]}，得到的是 {[m['content'] for m in got]}"
            )
    try:
        trim_history([*system, *turns], count, 5)
    except ValueError:
        return
    raise AssertionError("怎样都放不下的时候，应该抛出 ValueError")


def check_read_response(read_response):
    for reason, done in (("stop", True), ("length", False), ("tool_calls", False)):
        message = {"role": "assistant", "content": "你好"}
        choice = {"index": 0, "finish_reason": reason, "message": message}
        got = read_response(200, json.dumps({"choices": [choice]}))
        assert got == ("你好", done), (
            f"finish_reason 是 {reason} 时应该得到 {('你好', done)}，得到的是 {got}"
        )
    for status, body, words in (
        (400, '{"detail": "模型写错了"}', "模型写错了"),
        (404, '{"error": {"message": "没有这个模型"}}', "没有这个模型"),
        (500, "Internal Server Error", "Internal Server Error"),
        (502, "[]", "[]"),
    ):
        try:
            got = read_response(status, body)
        except ValueError as error:
            assert str(status) in str(error) and words in str(error), (
                f"消息里应该有 {status} 和 {words}，现在是：{error}"
            )
        except Exception as error:
            raise AssertionError(
                f"响应是 {status} {body} 时应该抛出 ValueError，却是 {error!r}"
            ) from error
        else:
            raise AssertionError(f"状态码 {status} 应该抛出 ValueError，得到的是 {got}")


def check_ask_all(ask_all):
    together = threading.Barrier(8)

    def ask(question):
        try:
            together.wait(5)  # 八句都到齐了才放行
        except threading.BrokenBarrierError:
            raise AssertionError("八句应该同时在问，现在是一句一句来的") from None
        if question == "坏的":
            raise ValueError(question)
        return f"答：{question}"

    questions = ["一", "二", "坏的", "四", "五", "六", "七", "八"]
    got = ask_all(ask, questions)
    for answer in got:
        if isinstance(answer, AssertionError):
            raise answer
    assert [str(answer) for answer in got] == [
        q if q == "坏的" else f"答：{q}" for q in questions
    ], f"回答要与问题一一对应，得到的是 {got}"
    assert isinstance(got[2], ValueError), "抛出的异常要原样放进列表"

"""对话界面：在浏览器里与一个 OpenAI 兼容的服务对话。

用法（服务先在另一个终端起好）：
    streamlit run examples/use/chat_ui.py --server.address 127.0.0.1
别的服务：用环境变量 BASE_URL（默认 http://127.0.0.1:8000/v1）、MODEL、API_KEY 指明。
"""

import sys

if __name__ == "__main__" and "streamlit" not in sys.modules:
    print(
        "这是一个网页，要用 streamlit 启动：streamlit run examples/use/chat_ui.py --server.address 127.0.0.1",
        file=sys.stderr,
    )
    sys.exit(2)

# --8<-- [start:setup]
import asyncio
import json
import os
import time
from contextlib import closing

import openai
import streamlit as st

BASE_URL = os.environ.get("BASE_URL", "http://127.0.0.1:8000/v1")
MODEL = os.environ.get("MODEL", "examples/jiezi")
API_KEY = os.environ.get("API_KEY", "EMPTY")  # 本机的服务不看它，但客户端要有
TIMEOUT = 60  # 秒，多久收不到一个字节就不等了
os.environ.setdefault("NO_PROXY", "127.0.0.1,localhost")  # 本机的服务不走代理
# --8<-- [end:setup]


# --8<-- [start:request]
def build_request(history, question, system, **settings):
    """一问的请求，写成字典：系统提示词、前面的问答 [(问, 答), …]、这一问，加上设置。

    >>> build_request([], "你是谁？", "", temperature=0)["messages"]
    [{'role': 'user', 'content': '你是谁？'}]
    """
    messages = [{"role": "system", "content": system}] if system else []
    for asked, answered in history:
        messages.append({"role": "user", "content": asked})
        messages.append({"role": "assistant", "content": answered})
    messages.append({"role": "user", "content": question})
    return {
        "model": MODEL,
        "messages": messages,
        **settings,
        "stream": True,
        "stream_options": {"include_usage": True},  # 最后一块带上 token 数
    }


# --8<-- [end:request]


# --8<-- [start:stream]
async def receive(request):
    """发出请求，一块一块地收响应。"""
    async with openai.AsyncOpenAI(
        base_url=BASE_URL,
        api_key=API_KEY,
        timeout=openai.Timeout(TIMEOUT, connect=5),
        max_retries=0,  # 出了错马上说，重试由人来点
    ) as client:
        async with await client.chat.completions.create(**request) as stream:
            async for chunk in stream:
                yield chunk


def stream_chunks(request, patience=0.2):
    """一块一块地给出响应；等了 patience 秒还没有下一块，就先给一个 None。

    不想再听时调用 close()：连接随之关闭，服务知道没有人在听，也就不再写。
    """
    with asyncio.Runner() as runner:
        chunks = receive(request)
        while True:
            coming = asyncio.ensure_future(anext(chunks, None), loop=runner.get_loop())
            while not coming.done():
                runner.run(asyncio.wait([coming], timeout=patience))
                if not coming.done():
                    yield None
            if coming.result() is None:
                return
            yield coming.result()


# --8<-- [end:stream]


# --8<-- [start:describe]
def describe(error, begun):
    """把异常说成一句中文：出了什么事，下一步做什么。

    error 是 None 表示响应没有结尾；begun：是否已经收到了一部分响应。

    >>> print(describe(None, begun=True))
    回答断在半路，收到的都留着。服务停了，或者出了错：看看它的终端，再点「重试」。
    """
    match getattr(error, "status_code", None):
        case 401 | 403 as code:
            return f"服务不认这把钥匙（{code}）：把环境变量 API_KEY 设成它给的，重新启动界面。"
        case 404:
            return f"服务上没有模型 `{MODEL}`，或者没有 `{BASE_URL}` 这个地址（404）：改环境变量 MODEL 或 BASE_URL，重新启动界面。"
        case 429 | 503 as code:
            return f"服务正忙（{code}）：等几秒，再点「重试」。"
        case int(code) if code < 500:
            return f"服务不接受这个请求（{code}）。模型名不对，改环境变量 MODEL，重新启动界面；对话太长，清空再问。"
        case int(code):
            return f"服务出错了（{code}）：看看它的终端写了什么，再点「重试」。"
    if isinstance(error, openai.APITimeoutError):
        return f"`{BASE_URL}` 很久没有回音，可能正忙，也可能卡住了：看看它的终端，再点「重试」。"
    if begun:
        return "回答断在半路，收到的都留着。服务停了，或者出了错：看看它的终端，再点「重试」。"
    if isinstance(error, openai.APIConnectionError):
        return (
            f"连不上 `{BASE_URL}`。服务没有启动，或者地址不对：启动服务，再点「重试」。"
        )
    return f"`{BASE_URL}` 的回答看不懂，那里可能不是 OpenAI 兼容的服务：改环境变量 BASE_URL，重新启动界面。"


def server_words(error):
    """服务自己说错在哪里；它没有说，就是空串。"""
    body = getattr(error, "body", None) or ""
    if isinstance(body, dict):
        body = body.get("message") or body.get("detail") or body
    return body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)


# --8<-- [end:describe]


# --8<-- [start:answer]
def answer(turn, place):
    """把一问发出去，回答边收边写到 place，也记进 turn：断在哪里，收到的都还在。"""
    turn["status"] = "stopped"  # 点「停止」会从任何一步跳出去，那时就是它
    start, error = time.monotonic(), None
    try:
        with closing(stream_chunks(turn["request"])) as chunks:
            for chunk in chunks:
                turn["seconds"] = time.monotonic() - start
                if chunk:
                    turn["response"].append(chunk.to_json(indent=None))
                    turn["usage"] = chunk.usage or turn["usage"]
                    for choice in chunk.choices:
                        turn["text"] += choice.delta.content or ""
                        turn["status"] = choice.finish_reason or turn["status"]
                place.markdown(without_images(turn["text"]) + "▌")
    except Exception as caught:  # 断了的连接、半个字、半段 JSON：都要说成中文
        error = caught
    if turn["status"] == "stopped":  # 没有收到结尾
        turn["status"] = "failed"
        turn["error"] = describe(error, bool(turn["response"])), server_words(error)
        if response := getattr(error, "response", None):
            turn["response"].append(f"HTTP {response.status_code} {response.text}")


# --8<-- [end:answer]


# --8<-- [start:turns]
def without_images(text):
    """回答里的图片不去取：网址是模型写的，浏览器不该自己去访问。"""
    return text.replace("![", r"!\[")


def submit(question=None):
    """记下一问，没有给就取输入框里的；页面随后重画，画到它时才发出去。"""
    state = st.session_state
    question = (question or state.typed).strip()
    if not question:
        return
    history = [(turn["question"], turn["text"]) for turn in state.turns if turn["text"]]
    settings = {name: state[name] for name in ("temperature", "top_p", "max_tokens")}
    request = build_request(history, question, state.system.strip(), **settings)
    turn = {"question": question, "request": request, "response": [], "text": ""}
    state.turns.append(turn | {"status": "new", "usage": None, "seconds": 0.0})


def ask_again():
    submit(st.session_state.turns.pop()["question"])


def show_turn(turn, last):
    """画出一个有了结果的回答。"""
    if turn["text"]:
        st.markdown(without_images(turn["text"]))
    if turn["status"] == "failed":
        message, words = turn["error"]
        st.warning(message)
        if words:
            st.code(words, language=None, wrap_lines=True)
    else:
        usage, note = turn["usage"], ENDINGS.get(turn["status"], turn["status"])
        if usage:
            note += f"提示语 {usage.prompt_tokens} 个 token，回答 {usage.completion_tokens} 个，"
        st.caption(f"{note}{turn['seconds']:.1f} 秒")
    if last and turn["status"] in ("failed", "stopped"):
        st.button("重试", on_click=ask_again)
    with st.expander("这一问的原始请求与响应"):
        st.caption(f"发出去的：`POST {BASE_URL}/chat/completions`")
        st.code(json.dumps(turn["request"], ensure_ascii=False, indent=2), None)
        st.caption(f"收到的：{len(turn['response'])} 块，一行一块")
        st.code("\n".join(turn["response"]) or "（没有）", None)


# --8<-- [end:turns]


# --8<-- [start:page]
def main():
    st.set_page_config(page_title="对话 · 认识模型", page_icon=ICON)
    st.html(STYLE)
    turns = st.session_state.setdefault("turns", [])
    busy = bool(turns) and turns[-1]["status"] == "new"
    with st.sidebar:
        st.text_area("系统提示词", key="system", placeholder="可以不写", disabled=busy)
        st.slider("温度", 0.0, 2.0, 0.7, 0.1, "%.1f", key="temperature", disabled=busy)
        st.slider("top-p", 0.05, 1.0, 0.8, 0.05, key="top_p", disabled=busy)
        st.slider("最多写几个 token", 1, 1000, 300, key="max_tokens", disabled=busy)
        st.button("清空对话", on_click=turns.clear, disabled=not turns, width="stretch")
        st.caption(f"`{MODEL}`  \n`{BASE_URL}`")
        st.html(CHINESE, unsafe_allow_javascript=True)
    with st.bottom:
        if busy:
            st.button("停止")  # 点任何按钮，Streamlit 都会打断这一遍，从头重画
        st.chat_input("问一句话", key="typed", on_submit=submit)

    welcome = st.empty()  # 占住开头的位置：有了对话，这里就空着
    if not turns:
        with welcome.container():
            st.title("问点什么", anchor=False)
            st.write(WELCOME)
            with st.container(horizontal=True):
                for question in SUGGESTIONS:
                    st.button(question, on_click=submit, args=[question])
    for turn in turns:
        st.chat_message("user").text(turn["question"])
        message = st.chat_message("assistant")
        if turn["status"] == "new":
            answer(turn, message.empty())
            st.rerun()
        with message.container():
            show_turn(turn, turn is turns[-1])


ENDINGS = {"stop": "", "length": "到上限，没说完，", "stopped": "已停止，"}
WELCOME = "可以问语言模型是怎么回事。芥子只读过「认识模型」这个站点，别的答不了。"
SUGGESTIONS = ["你是谁？", "什么是语言模型？", "温度有什么用？"]
ICON = '<svg viewBox="0 0 9 9"><circle cx="4.5" cy="4.5" r="3" fill="#b0830c"/></svg>'
CHINESE = "<script>document.documentElement.lang = 'zh-CN'</script>"
STYLE = """<style>
[data-testid=stStatusWidget], [data-testid=InputInstructions],
[data-testid^=stChatMessageAvatar] { display: none }
[data-testid=stChatMessage] { padding: 0; background: none }
[data-testid=stChatMessage]:has([data-testid=stChatMessageAvatarUser]) {
    padding: .75rem 1rem; background: color-mix(in srgb, currentColor 5%, transparent) }
[data-testid=stChatMessage] p { white-space: pre-line }
[data-testid=stCaptionContainer] { opacity: .85 }
</style>"""

if __name__ == "__main__":
    main()
# --8<-- [end:page]

"""对话界面：对着真的服务用一遍，在真的浏览器里停它、断它；再用一字节一字节备好的响应试它。

环境变量 SCREENSHOTS=文件夹 时，把几种样子的截图存进去；页面上的两张是其中的 light-done 与 dark-done。
"""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import socketserver
import threading
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from tests.harness import services
from tests.harness.execute import finish, start_script
from tests.harness.snippets import extract

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "examples/use/chat_ui.py"
MODEL = os.environ.get("MODEL", "examples/jiezi")
SCREENSHOTS = os.environ.get("SCREENSHOTS")
QUESTION = "什么是语言模型？"


def command(name, section):
    return extract(ROOT, f"use/{name}.sh", section)


@pytest.fixture(scope="module")
def starting(tmp_path_factory):
    """同时起两个服务：页面上的那个，和一个不会自己停的芥子（没有结束符，一直写到上限）。"""
    endless = tmp_path_factory.mktemp("模型") / "endless"
    shutil.copytree(ROOT / MODEL, endless)
    config = endless / "generation_config.json"
    settings = json.loads(config.read_text("utf-8"))
    whole = json.loads((endless / "config.json").read_text("utf-8"))
    settings["eos_token_id"] = whole["vocab_size"]  # 词表之外，写不到
    config.write_text(json.dumps(settings), "utf-8")
    serve = command("serve", "serve")
    with ThreadPoolExecutor() as pool:
        yield (
            pool.submit(services.start, serve, port=8000 if SCREENSHOTS else None),
            pool.submit(
                services.start,
                serve.replace("examples/jiezi", str(endless)),
                share=False,
            ),
            endless,
        )


@pytest.fixture(scope="module")
def server(starting):
    """页面上的服务。"""
    return starting[0].result()


# ---- 不开浏览器：Streamlit 自己的测试工具 ----


@pytest.fixture
def app(monkeypatch):
    """打开的界面；app.to(网址) 换一个服务，像重新启动过一样。"""
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # 走了代理就连不上
    monkeypatch.setenv("MODEL", MODEL)
    test = AppTest.from_file(str(APP), default_timeout=60)

    def to(url):
        monkeypatch.setenv("BASE_URL", url)
        return test

    test.to = to
    return test


def turns(app):
    return app.session_state["turns"]


def ask(app, question=QUESTION):
    app.chat_input[0].set_value(question).run()
    assert not app.exception
    return turns(app)[-1]


def press(app, label):
    [button] = [button for button in app.button if button.label == label]
    button.click().run()
    assert not app.exception


def plain_answer(server, **settings):
    """绕过界面和客户端，直接问服务，不流式。"""
    body = {"messages": [{"role": "user", "content": QUESTION}], **settings}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    headers = {"Content-Type": "application/json"}
    with closing(connection):
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        assert response.status == 200
        return response.read()


def test_first_screen_and_one_question(server, app):
    """第一屏有一句话和三个问题，点一个就有回答；回答、用量、原始请求与响应都对得上。"""
    app.to(f"{server.url}/v1").run()
    assert app.title[0].value == "问点什么"
    *suggestions, clear = [button.label for button in app.button]
    assert (len(suggestions), clear) == (3, "清空对话")
    app.slider(key="temperature").set_value(0.0).run()
    press(app, QUESTION)
    assert not app.title, "有了对话，第一屏就该收起来"
    turn = turns(app)[-1]
    assert turn["status"] == "stop"
    whole = json.loads(plain_answer(server, temperature=0, top_p=0.8, max_tokens=300))
    assert turn["text"] == whole["choices"][0]["message"]["content"]
    user, assistant = app.chat_message
    assert user.text[0].value == QUESTION
    assert assistant.markdown[0].value == turn["text"]
    counts = whole["usage"]
    assert assistant.caption[0].value.startswith(
        f"提示语 {counts['prompt_tokens']} 个 token，回答 {counts['completion_tokens']} 个，"
    )
    request, response = (code.value for code in assistant.code)
    assert json.loads(request) == turn["request"] | {
        "model": MODEL,
        "messages": [{"role": "user", "content": QUESTION}],
        "temperature": 0,
        "max_tokens": 300,
    }
    chunks = [json.loads(line) for line in response.splitlines()]
    pieces = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks]
    assert "".join(pieces) == turn["text"] and len(pieces) > 10


KNOWN = {  # 芥子学过的回答，逐字
    "你是谁？": "我是芥子，认识模型这个站点的教学小模型。我只读过这个站点的中文语料，会回答关于语言模型和这个站点的问题。",
    "什么是语言模型？": "大语言模型是从海量文本里学出来的神经网络，参数常有几亿到几千亿个。它只会一件事：看着前文，给出后一个 token 的概率。",
    "温度有什么用？": "温度是抽样之前让 logits 统一除以一个数：小于 1 分布变尖，回答稳；大于 1 分布变平，回答更多样也更容易乱。",
}


def test_suggestions_suit_jiezi(server, app):
    """第一屏的三个问题，芥子都答得上：与它学过的回答一字不差。"""
    if Path(MODEL).name != "jiezi":
        pytest.skip(f"这几个问题是给芥子的，这次跑的是 {MODEL}")
    app.to(f"{server.url}/v1").run()
    app.slider(key="temperature").set_value(0.0).run()
    buttons = [button.label for button in app.button][:-1]
    assert buttons == list(KNOWN)
    for question, reply in KNOWN.items():
        press(app, question)
        assert turns(app)[-1]["text"] == reply
        press(app, "清空对话")


def test_settings_history_and_clear(server, app):
    """设置、系统提示词与前面的问答都进了请求；到上限会说；清空之后从头来。"""
    app.to(f"{server.url}/v1").run()
    first = ask(app)
    app.text_area(key="system").set_value(" 你是芥子。 ")
    app.slider(key="temperature").set_value(0.3)
    app.slider(key="top_p").set_value(0.5)
    app.slider(key="max_tokens").set_value(5).run()
    second = ask(app, "温度有什么用？")
    assert second["request"] == {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "你是芥子。"},
            {"role": "user", "content": QUESTION},
            {"role": "assistant", "content": first["text"]},
            {"role": "user", "content": "温度有什么用？"},
        ],
        "temperature": 0.3,
        "top_p": 0.5,
        "max_tokens": 5,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert second["status"] == "length" and second["usage"].completion_tokens == 5
    assert "到上限，没说完" in app.chat_message[-1].caption[0].value
    app.chat_input[0].set_value(" \n").run()
    assert len(turns(app)) == 2, "空白不算一问"
    press(app, "清空对话")
    assert turns(app) == [] and app.title[0].value == "问点什么"


def test_jiezi_ignores_the_name_in_the_system_prompt(server, app):
    """页面说芥子不照系统提示词改名：这一句进了请求，回答仍与没有它时一样。"""
    if Path(MODEL).name != "jiezi":
        pytest.skip(f"这一句是给芥子的，这次跑的是 {MODEL}")
    app.to(f"{server.url}/v1").run()
    app.slider(key="temperature").set_value(0.0).run()
    app.text_area(key="system").set_value("你叫小禾。").run()
    turn = ask(app, "你是谁？")
    assert turn["request"]["messages"][0]["content"] == "你叫小禾。"
    assert turn["text"] == KNOWN["你是谁？"]


def test_real_refusal(server, app, monkeypatch):
    """模型名写错：说清是 400，附上服务的原话。"""
    monkeypatch.setenv("MODEL", "写错的名字")
    app.to(f"{server.url}/v1").run()
    assert ask(app)["status"] == "failed"
    assert "不接受这个请求（400）" in app.warning[0].value
    assert "写错的名字" in app.chat_message[-1].code[0].value, "没有服务的原话"
    assert app.chat_message[-1].code[-1].value.startswith("HTTP 400 {")


def test_real_error_in_the_stream(server, app):
    """服务写着写着自己出了错：说断了，附上它的原话。"""
    app.to(f"{server.url}/v1").run()
    app.session_state["turns"] = [
        {
            "question": QUESTION,
            "request": {
                "model": MODEL,
                "messages": [{"role": "user", "content": QUESTION}],
                "stream": True,
                "stop": [],  # 服务收下了，生成时才发现不行
            },
            **{"response": [], "text": "", "status": "new"},
            **{"usage": None, "seconds": 0.0},
        }
    ]
    app.run()
    assert "断在半路" in app.warning[0].value
    assert "stop" in app.chat_message[-1].code[0].value


def test_away_then_back(server, app):
    """服务不在：马上说连不上；服务回来，点「重试」就好，问题不用再打一遍。"""
    app.to(f"http://127.0.0.1:{services.free_port()}/v1").run()
    start = time.monotonic()
    ask(app)
    assert time.monotonic() - start < 5, "连不上要马上说"
    assert "连不上" in app.warning[0].value and "服务没有启动" in app.warning[0].value
    app.to(f"{server.url}/v1")
    press(app, "重试")
    [turn] = turns(app)
    assert turn["status"] == "stop" and turn["text"] and not app.warning


# ---- 备好的字节：真的服务说过的话，怎么切、断在哪里由测试定 ----


class Player(socketserver.StreamRequestHandler):
    """收下请求，把备好的字节一段一段放出去；数字是停几秒，None 是不再说话，等对方走。"""

    disable_nagle_algorithm = True

    def handle(self):
        length = 0
        while (line := self.rfile.readline().lower()) not in (b"\r\n", b""):
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        self.server.requests.append(json.loads(self.rfile.read(length)))
        for piece in self.server.pieces:
            if piece is None:
                self.rfile.read(1)
                self.server.left.set()
            elif isinstance(piece, bytes):
                self.wfile.write(piece)
            else:
                time.sleep(piece)


@contextmanager
def playing(*pieces):
    """一个只会放这些字节的服务。"""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Player) as player:
        player.daemon_threads = True
        player.pieces, player.requests, player.left = pieces, [], threading.Event()
        player.url = f"http://127.0.0.1:{player.server_address[1]}/v1"
        threading.Thread(target=player.serve_forever, args=[0.01], daemon=True).start()
        yield player
        player.shutdown()


OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nconnection: close\r\n"


@pytest.fixture(scope="module")
def recorded(server):
    """真的服务流式回答一问时，响应的全部字节，和它的文本。"""
    body = plain_answer(server, temperature=0, stream=True)
    chunks = [json.loads(line[6:]) for line in body.decode().split("\n\n") if line]
    text = "".join(
        chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks
    )
    assert re.search("[\u4e00-\u9fff]", text) and "\\u" not in body.decode()
    return body, text


def inside_characters(body):
    """汉字的中间：下一个字节是续接字节（10xxxxxx）的那些位置。"""
    return [i for i, byte in enumerate(body) if byte & 0xC0 == 0x80]


def test_split_anywhere_gives_the_same_text(recorded, app):
    """不管网络把字节切成怎样的小段，拼出来的文字一样；汉字从中间切开也一样。"""
    body, text = recorded
    cuts = [0, *inside_characters(body), len(body)]
    halves = [body[a:b] for a, b in zip(cuts, cuts[1:], strict=False)]
    slowly = [part for half in halves for part in (half, 0.002)]
    for pieces in (slowly, [bytes([byte]) for byte in body], [body]):
        with playing(OK + b"\r\n", *pieces) as player:
            app.to(player.url).run()
            turn = ask(app)
        assert (turn["status"], turn["text"]) == ("stop", text)
        assert app.chat_message[-1].markdown[0].value == text
        assert player.requests == [turn["request"]], "显示的请求要与发出去的相同"


@pytest.mark.parametrize("chunked", [True, False], ids=["没有结尾", "像是正常结束"])
def test_cut_anywhere_keeps_what_arrived(recorded, app, chunked):
    """断在哪里都一样：收到的整字留着，没有乱码，说断了，能重试。"""
    body, text = recorded
    cuts = inside_characters(body)
    character = cuts[len(cuts) // 2]
    event = body.index(b"\n\n", character)
    places = {
        "一个字的第一个字节之后": character,
        "一个字的第二个字节之后": character + 1,
        "一段 JSON 的中间": event - 40,
        "一块的末尾": event,
        "两块之间": event + 2,
        "只剩最后一块": body.rindex(b"data:"),
    }
    app.to("http://127.0.0.1:9/v1").run()
    for name, place in places.items():
        head, sent = OK, body[:place]
        if chunked:  # 预告了还有，却断了
            head += b"transfer-encoding: chunked\r\n"
            sent = f"{len(body):x}\r\n".encode() + sent
        with playing(head + b"\r\n", sent) as player:
            app.to(player.url)
            turn = ask(app)
        assert turn["status"] == "failed", name
        assert turn["text"] and text.startswith(turn["text"]), name
        assert "断在半路" in app.warning[-1].value, name
        assert app.chat_message[-1].markdown[0].value == turn["text"]
    with playing(OK + b"\r\n", body) as player:
        app.to(player.url)
        press(app, "重试")
    assert turns(app)[-1]["text"] == text
    history = player.requests[-1]["messages"]
    assert [m["role"] for m in history] == ["user", "assistant"] * 5 + ["user"]


def reply(status, body, kind="application/json"):
    return f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n{body}".encode()


TROUBLE = {
    "钥匙不对": (
        reply(401, '{"error": {"message": "bad key"}}'),
        ["钥匙", "401", "API_KEY"],
        "bad key",
    ),
    "没有这个模型": (
        reply(404, '{"error": {"message": "no such model"}}'),
        ["404", "MODEL"],
        "no such model",
    ),
    "字段不对": (
        reply(422, '{"detail": "Unexpected fields"}'),
        ["不接受", "422"],
        "Unexpected fields",
    ),
    "太忙": (
        reply(429, '{"error": {"message": "slow down"}}'),
        ["正忙", "429", "重试"],
        "slow down",
    ),
    "过载": (
        reply(503, '{"error": "worker is dead"}'),
        ["正忙", "503", "重试"],
        "worker is dead",
    ),
    "出错": (
        reply(500, "Internal Server Error", "text/plain"),
        ["出错", "500", "终端"],
        "Internal Server Error",
    ),
    "不是这种服务": (
        reply(200, "<html>你好</html>", "text/html"),
        ["看不懂", "BASE_URL"],
        "",
    ),
    "说的不是 JSON": (OK + b"\r\ndata: {oops\n\n", ["看不懂", "BASE_URL"], ""),
    "错误说到一半": (
        reply(500, "Internal").replace(b"\r\n\r\n", b"\r\ncontent-length: 99\r\n\r\n"),
        ["看不懂"],
        "",
    ),
    "一声不响": (None, ["没有回音", "重试"], ""),
    "说到一半没了声音": (
        OK + b'\r\ndata: {"choices": [{"delta": {"content": "\xe4\xbd\xa0"}}]}\n\n',
        ["没有回音", "重试"],
        "",
    ),
}


def test_every_trouble_has_its_words(app, tmp_path):
    """出了错，说清是什么错、下一步做什么；服务自己说了什么，也给人看。"""
    source = APP.read_text("utf-8")
    assert "TIMEOUT = 60" in source
    hurried = tmp_path / "chat_ui.py"
    hurried.write_text(source.replace("TIMEOUT = 60", "TIMEOUT = 0.5"), "utf-8")
    impatient = AppTest.from_file(str(hurried), default_timeout=60)
    app.to("http://127.0.0.1:9/v1")
    impatient.run()
    for name, (piece, words, said) in TROUBLE.items():
        silent = name in ("一声不响", "说到一半没了声音")
        with playing(*[piece] if piece else [], *[None] if silent else []) as player:
            app.to(player.url)
            turn = ask(impatient)
        assert len(player.requests) == 1, f"{name}：不要悄悄重试"
        warning = impatient.warning[-1].value
        assert [word for word in words if word not in warning] == [], (name, warning)
        codes = [code.value for code in impatient.chat_message[-1].code]
        assert codes[:-2] == [said] * bool(said), name
        assert turn["text"] == ("你" if name == "说到一半没了声音" else ""), name
    assert player.requests[-1]["messages"] == [{"role": "user", "content": QUESTION}], (
        "没有回答的问题不进历史"
    )


def test_images_are_not_fetched(app):
    """回答里的图片不显示：网址是模型写的，去取它就把对话带了出去。"""
    event = {"choices": [{"delta": {"content": "![图](http://127.0.0.1:9/x.png)"}}]}
    with playing(OK + b"\r\n", f"data: {json.dumps(event)}\n\n".encode()) as player:
        app.to(player.url).run()
        turn = ask(app)
    assert turn["text"].startswith("![图]")
    assert app.chat_message[-1].markdown[0].value.startswith(r"!\[图]")


@pytest.mark.parametrize(
    "pieces", [[], [OK + b"\r\n"]], ids=["还没有回音", "回答了一半"]
)
def test_closing_hangs_up(pieces, monkeypatch):
    """不想听了，连接马上关闭，哪怕服务正一声不响。"""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with playing(*pieces, None) as player:
        monkeypatch.setenv("BASE_URL", player.url)
        module = {"__name__": "chat_ui"}
        exec(compile(APP.read_text("utf-8"), str(APP), "exec"), module)
        request = module["build_request"]([], QUESTION, "")

        def listen():
            chunks = module["stream_chunks"](request)
            first = next(chunks)
            chunks.close()
            return first

        with ThreadPoolExecutor() as pool:  # 浏览器测试占着本线程的事件循环
            assert pool.submit(listen).result(5) is None
        assert player.left.wait(2), "连接还开着，服务不知道没有人在听了"


# ---- 启动的命令与样子 ----


def test_run_with_python_says_how():
    code, out, err = finish(start_script(APP, cwd=ROOT, env=os.environ))
    assert (code, out) == (2, "") and "\n" not in err
    assert "streamlit run examples/use/chat_ui.py --server.address 127.0.0.1" in err


def test_theme_is_the_sites():
    """界面的颜色就是站点的。"""
    css = (ROOT / "docs/assets/site.css").read_text("utf-8")
    names = {
        "primaryColor": "accent",
        "backgroundColor": "bg",
        "secondaryBackgroundColor": "panel",
        "textColor": "fg",
        "borderColor": "line",
        "linkColor": "accent",
        "codeTextColor": "fg",
        "yellowBackgroundColor": "mark",
        "yellowTextColor": "fg",
    }
    config = ROOT / ".streamlit/config.toml"
    theme = tomllib.loads(config.read_text("utf-8"))["theme"]
    for scheme, block in (
        ("light", css.split("@media screen")[0]),
        ("dark", css.split("@media screen")[1]),
    ):
        for option, variable in names.items():
            found = re.search(rf"--{variable}: (#\w+);", block)[1]
            if len(found) == 4:
                found = "#" + "".join(c * 2 for c in found[1:])
            assert theme[scheme][option] == found, (scheme, option)


# ---- 真的浏览器 ----


def start_ui(server, model):
    where = f"BASE_URL={server.url}/v1 MODEL={model} "
    return services.start(where + command("chat_ui", "ui"), share=False)


@pytest.fixture(scope="module")
def ui(server, browser):
    """页面上的命令起的界面，对着页面上的服务。"""
    service = start_ui(server, MODEL)
    yield service
    service.stop()


@pytest.fixture(scope="module")
def endless(starting, browser):
    """不会自己停的服务。"""
    service = starting[1].result()
    yield service
    service.stop()


@pytest.fixture(scope="module")
def endless_ui(starting, endless):
    """对着它的界面。"""
    service = start_ui(endless, starting[2])
    yield service
    service.stop()


WATCH = """() => {
    window.seen = new Set()
    new MutationObserver(() => window.seen.add(document.body.innerText))
        .observe(document.body, {subtree: true, childList: true, characterData: true})
}"""


@pytest.fixture
def visit(browser):
    """打开界面；用完之后：没有报错，没有发给别的主机的请求，屏幕上从没有过半个字。"""
    problems, contexts, pages = [], [], []

    def note(what):
        problems.append(what)

    def visit(ui, scheme="light", width=960):
        context = browser.new_context(
            viewport={"width": width, "height": 740 if width < 500 else 600},
            device_scale_factor=2 if SCREENSHOTS else 1,
            color_scheme=scheme,
            has_touch=width < 500,
            is_mobile=width < 500,
        )
        context.set_default_timeout(15_000)
        contexts.append(context)
        page = context.new_page()
        pages.append(page)
        page.on("console", lambda m: m.type == "error" and note(m.text))
        page.on("pageerror", lambda error: note(str(error)))
        page.on("response", lambda r: r.status >= 400 and note((r.status, r.url)))
        allowed = (ui.url, ui.url.replace("http", "ws"), "data:", "blob:")
        for event in ("request", "websocket"):
            page.on(event, lambda r: r.url.startswith(allowed) or note(r.url))
        page.goto(ui.url)
        page.get_by_text("问点什么").wait_for()
        page.evaluate(WATCH)
        return page

    yield visit
    for page in pages:
        screens = page.evaluate("[...window.seen]")
        assert len(screens) > 5, "页面重新加载过，或者没有变过"
        problems += [screen for screen in screens if "\ufffd" in screen]
    for context in contexts:
        context.close()
    assert not problems


def type_in(page, question):
    page.get_by_placeholder("问一句话").fill(question)
    page.keyboard.press("Enter")


def button(page, name):
    return page.get_by_role("button", name=name, exact=True)


def last(page):
    """最后一条消息。"""
    return page.get_by_test_id("stChatMessage").last


def wait_for_words(page, count):
    """等到最后一条消息写了这么多字，返回它。"""
    messages = "document.querySelectorAll('[data-testid=stChatMessage]')"
    page.wait_for_function(
        f"count => [...{messages}].at(-1)?.innerText.length > count", arg=count
    )
    return last(page).inner_text().rstrip("▌")


def shot(page, name):
    if SCREENSHOTS:
        page.wait_for_timeout(500)
        page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png")


LOOKS = {
    "light": ("light", 960, "rgb(255, 255, 255)"),
    "dark": ("dark", 960, "rgb(23, 22, 19)"),
    "phone": ("light", 360, "rgb(255, 255, 255)"),
}


@pytest.mark.parametrize(
    "look",
    [
        "light",
        pytest.param("dark", marks=pytest.mark.full),
        pytest.param("phone", marks=pytest.mark.full),
    ],
)
def test_ask_and_open_the_raw(ui, visit, look):
    """电脑上、深色里、手机上：点一个问题，看它写完，展开原始的请求与响应。"""
    scheme, width, ground = LOOKS[look]
    page = visit(ui, scheme, width)
    shot(page, f"{look}-idle")
    button(page, QUESTION).click()
    page.get_by_text("这一问的原始请求与响应").wait_for()
    assert button(page, "停止").count() == 0
    assert "个 token，回答" in last(page).inner_text()
    shot(page, f"{look}-done")
    page.get_by_text("这一问的原始请求与响应").click()
    page.get_by_text('"include_usage": true').wait_for()
    shot(page, f"{look}-raw")
    style = "getComputedStyle(document.querySelector('[data-testid=stApp]'))"
    assert page.evaluate(f"{style}.backgroundColor") == ground
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.get_attribute("html", "lang") == "zh-CN"


def test_only_this_machine_can_connect(ui):
    """照页面上的命令启动，只有 127.0.0.1 听着；127.0.0.2 也是本机，却连不上。"""
    socket.create_connection(("127.0.0.1", ui.port), timeout=5).close()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.2", ui.port), timeout=5)


def test_stop(endless, endless_ui, visit):
    """点「停止」：写了的留着，服务也停下不再算；接着问下一句，前面那半句在历史里。"""
    page = visit(endless_ui)
    page.get_by_role("slider", name="最多写几个 token").press(
        "End"
    )  # 1000 个，要写好几秒
    type_in(page, QUESTION)
    asked = time.monotonic()
    early = wait_for_words(page, 40)
    shot(page, "light-streaming")
    before = wait_for_words(page, len(early) + 20)
    spent = time.monotonic() - asked
    assert before.startswith(early) and len(before) < 200, "一边写一边长"
    button(page, "停止").click()
    last(page).get_by_text("已停止").wait_for()
    start = time.monotonic()
    plain_answer(endless, max_tokens=1)
    waited = time.monotonic() - start  # 写了不到两百个；若没停，还要写八百个
    assert waited < 2 * spent, "服务还在写没人要的回答，别人要等它"
    shot(page, "light-stopped")
    type_in(page, "温度有什么用？")
    wait_for_words(page, 20)
    button(page, "停止").click()
    last(page).get_by_text("已停止").wait_for()
    last(page).get_by_text("这一问的原始请求与响应").click()
    sent = json.loads(last(page).locator("pre").first.inner_text())["messages"]
    assert [m["role"] for m in sent] == ["user", "assistant", "user"]
    kept = page.get_by_test_id("stChatMessage").nth(1).locator("p").first.inner_text()
    assert kept.startswith(before) and kept == sent[1]["content"].strip()


def test_settings_and_clear(endless_ui, visit):
    """滑块改了，请求就跟着变；到上限会说；清空回到第一屏。"""
    page = visit(endless_ui)
    page.get_by_role("slider", name="最多写几个 token").press("Home")
    for _ in range(4):
        page.get_by_role("slider", name="温度").press("ArrowLeft")
    type_in(page, QUESTION)
    last(page).get_by_text("到上限，没说完").wait_for()
    last(page).get_by_text("这一问的原始请求与响应").click()
    sent = json.loads(last(page).locator("pre").first.inner_text())
    assert (sent["max_tokens"], sent["temperature"]) == (1, 0.3)
    button(page, "清空对话").click()
    page.get_by_text("问点什么").wait_for()
    assert page.get_by_test_id("stChatMessage").count() == 0


@pytest.mark.full
def test_server_dies_and_comes_back(starting, endless, endless_ui, visit):
    """写到一半，服务死了：写了的留着，说断了；再试，说连不上；服务回来，不用刷新就接着用。"""
    page = visit(endless_ui)
    type_in(page, QUESTION)
    before = wait_for_words(page, 40)
    endless.stop(signal.SIGKILL)
    page.get_by_text("回答断在半路").wait_for()
    assert last(page).inner_text().startswith(before)
    shot(page, "light-died")
    button(page, "重试").click()
    page.get_by_text("连不上").wait_for()
    assert before not in page.inner_text("body")
    shot(page, "light-away")
    again = command("serve", "serve").replace("examples/jiezi", str(starting[2]))
    revived = services.start(again, share=False, port=endless.port)
    try:
        button(page, "重试").click()
        button(page, "停止").wait_for()
        page.get_by_text("连不上").wait_for(state="detached")
        wait_for_words(page, 40)
        button(page, "停止").click()
        last(page).get_by_text("已停止").wait_for()
        assert page.get_by_test_id("stChatMessage").count() == 2
    finally:
        revived.stop()

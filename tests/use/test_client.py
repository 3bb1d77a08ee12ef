"""客户端：错误说成人话；服务不在是一行中文；四条路问同一句，得到同样的字。"""

import json
import re
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.request import Request, urlopen

import openai
import pytest

from tests.harness import services, session

QUESTIONS = [
    "什么是 token？",
    "你是谁？",
    "温度有什么用？",
    "什么是因果掩码？",
    "KV 缓存是什么？",
    "编码器和解码器谁更好？",
    "什么是 softmax？",
    "注意力机制里为什么要除以 √d？",
    "明天会下雨吗？",
    "请写一首关于春天的诗",
]


@pytest.fixture(scope="module")
def client():
    """client.py 的名字，页面那一次运行的。"""
    names = session.page("use/client")
    with names["client"]:
        yield names


def broken(status, body=b"{}"):
    """只会回一个状态码的服务，返回它的地址。"""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/v1"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "不接受这个请求（400）"),
        (429, "（429）"),
        (500, "自己出错"),
        (503, "自己出错"),
    ],
)
def test_status_is_explained(client, status, words):
    with (
        openai.OpenAI(base_url=broken(status), api_key="x", max_retries=0) as other,
        pytest.raises(openai.APIStatusError) as caught,
    ):
        other.chat.completions.create(model="x", messages=[])
    assert words in client["explain"](caught.value)


def test_the_meaning_is_in_the_history_not_in_the_model(client):
    """带着前面的话，知道「它」是 KV 缓存；单独问同一句，就不知道。"""
    *_, asked, answered = client["messages"]
    assert "缓存" not in asked["content"] and "KV 缓存的大小" in answered["content"]
    assert client["alone"] == client["ask"]([asked]).choices[0].message.content
    assert client["alone"] and "缓存" not in client["alone"]


def test_a_seed_gives_its_answer_again(client, pytestconfig):
    """四行：同一个种子的两行相同，换一个种子就换一个回答。"""
    out = session.run(pytestconfig.rootpath, "use/client.py").section("seed").out
    rows = re.findall(r"^([01]) (.+)", out, re.M)
    assert [seed for seed, _ in rows] == list("0101"), out
    texts = [text for _, text in rows]
    assert texts[:2] == texts[2:], "同一个种子，回答不同"
    assert texts[0] != texts[1], "换了种子，回答没有变"


@pytest.mark.parametrize(
    "questions",
    [QUESTIONS[:2], pytest.param(QUESTIONS[2:], marks=pytest.mark.full)],
    ids=["两个", "其余八个"],
)
def test_same_text_everywhere(questions, client, pytestconfig, monkeypatch):
    """本地的 generate、openai 客户端、curl、流式、对话界面。"""
    from streamlit.testing.v1 import AppTest
    from transformers import AutoModelForCausalLM, AutoTokenizer

    monkeypatch.setenv("BASE_URL", f"{services.jiezi().url}/v1")
    ui = AppTest.from_file(
        str(pytestconfig.rootpath / "examples/use/chat_ui.py"), default_timeout=60
    ).run()
    ui.slider(key="temperature").set_value(0.0).run()
    ui.slider(key="top_p").set_value(1.0).run()

    folder = pytestconfig.rootpath / "examples/jiezi"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
    for question in questions:
        messages = [{"role": "user", "content": question}]
        inputs = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
        output = model.generate(**inputs, max_new_tokens=200, do_sample=False)
        new = output[0, inputs.input_ids.size(1) :]
        local = tokenizer.decode(new, skip_special_tokens=True)
        assert local and client["predict"](question) == local
        assert curl(messages) == local
        assert "".join(stream(messages)) == local
        ui.session_state["turns"] = []
        ui.chat_input[0].set_value(question).run()
        assert ui.session_state["turns"][-1]["text"] == local


def body(messages, **more):
    return json.dumps({"messages": messages, "temperature": 0} | more)


def curl(messages):
    url = f"{services.jiezi().url}/v1/chat/completions"
    done = subprocess.run(
        [
            "curl",
            "-s",
            url,
            "-H",
            "Content-Type: application/json",
            "-d",
            body(messages),
        ],
        capture_output=True,
        check=True,
    )
    return json.loads(done.stdout)["choices"][0]["message"]["content"]


def stream(messages):
    """逐行读流式响应。"""
    request = Request(
        f"{services.jiezi().url}/v1/chat/completions",
        body(messages, stream=True).encode(),
        {"Content-Type": "application/json"},
    )
    with urlopen(request) as response:
        for line in response:
            if line.startswith(b"data: "):
                delta = json.loads(line[6:])["choices"][0]["delta"]
                yield delta.get("content", "")

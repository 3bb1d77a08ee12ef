"""坏的请求、半路走掉的客户端、起不来的服务：页面说的，服务真的这样做。"""

import json
import re
import socket
import subprocess
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.harness import services, session
from tests.harness.execute import reader
from tests.harness.snippets import extract

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/use/errors.md").read_text("utf-8")
SERVE = extract(ROOT, "use/serve.sh", "serve")
CHAT = "/v1/chat/completions"
QUESTION = [{"role": "user", "content": "什么是 token？"}]
GOOD = {"messages": QUESTION, "temperature": 0, "max_tokens": 8}


@pytest.fixture(scope="module")
def service():
    return services.start(SERVE)


def ask(service, body, path=CHAT, method="POST"):
    """发一个请求，返回（状态码，正文）；每次用新的连接。"""
    if isinstance(body, dict):
        body = json.dumps(body).encode()
    connection = HTTPConnection("127.0.0.1", service.port, timeout=60)
    headers = {"Content-Type": "application/json", "Connection": "close"}
    connection.request(method, path, body, headers)
    with connection.getresponse() as answer:
        return answer.status, answer.read().decode()


def table(heading):
    """页面上某一节的第一张表，去掉表头，一行一个列表。"""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.+) \|$", section, re.M)[1:]
    return [row.split(" | ") for row in rows]


def code(cell):
    """一格里反引号中的文字。"""
    return re.findall("`([^`]+)`", cell)


@pytest.fixture(scope="module")
def run(service):
    """errors.py 跑一遍：它打印的，和服务的终端里写的。"""
    played = session.run(ROOT, "use/errors.py")
    assert not played.failure, played.failure
    return "".join(result.out for _, result in played.results), service.printed()


def test_every_bad_request_is_in_a_table(run):
    """脚本发的每个坏请求，页面都说了怎么办，而且放在它真正的那一节。"""
    printed = re.findall(r"^(\d)\d\d (.+?)：", run[0], re.M)
    for first, heading in {
        "4": "4 开头：它说得清",
        "5": "500：它自己出了错",
        "2": "200：不报错的错",
    }.items():
        names = {name for row in table(heading) for name in row[0].split("、")}
        sent = {
            name
            for status, name in printed
            if status == first or (first, status) == ("4", "3")
        }
        others = {"好的请求", "没写 frequency_penalty", "frequency_penalty 是 0"}
        assert names == sent - others, heading


def test_the_real_cause_is_in_the_terminal_of_the_server(run):
    for name, cause, _ in table("500：它自己出了错"):
        line = ".*".join(map(re.escape, code(cause)))
        assert re.search(line, run[1]), f"{name}：服务的终端里没有 {cause}"


def test_zero_frequency_penalty_is_not_the_same_as_none(run):
    """页面说只多写一个 0 回答就换了：打印的两行要不同。"""
    left, right = (
        re.search(rf"^200 {name}：(.+)", run[0], re.M)[1]
        for name in ("没写 frequency_penalty", "frequency_penalty 是 0")
    )
    assert left != right


def test_the_server_stops_only_for_a_stream(run):
    """流式挂断就停；不流式的要写完，后面的人等。"""
    usual, stream, whole = map(float, re.findall(r"：([\d.]+) 秒", run[0]))
    assert stream < whole / 2, run[0]


def test_the_server_survives_everything(service, run):
    """一通乱发之后，它还活着，好的请求还是原来的回答。"""
    good = ask(service, GOOD)
    values = [None, True, -1, 0, 1e308, "x", "", [], {}, [[]], {"a": 1}]
    fields = ("model", "messages", "temperature", "top_p", "seed", "stop", "stream")
    bodies = [GOOD | {field: value} for field in fields for value in values]
    bodies += [GOOD | {"max_tokens": value} for value in values if value != 1e308]
    raw = [b"", b"null", b"[]", b"1", b'"x"', b"{", b"\xff\xfe", b"\x00", b"[" * 2000]
    for body in bodies + raw:
        status, _ = ask(service, body)
        assert status in (200, 400, 422, 500), body
    assert ask(service, None, "/health", "GET") == (200, '{"status":"ok"}')
    again = ask(service, GOOD)
    choices = [json.loads(text)["choices"] for _, text in (good, again)]
    assert choices[0] == choices[1] and good[0] == again[0] == 200


def test_a_500_closes_the_connection_without_saying_so(service):
    body = json.dumps(GOOD | {"max_tokens": 0}).encode()
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as raw:
        raw.sendall(
            f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        text = b""
        while chunk := raw.recv(4096):  # 一直读到服务断开；不断开就会超时
            text += chunk
    head = text.split(b"\r\n\r\n")[0].lower()
    assert head.startswith(b"http/1.1 500") and b"connection:" not in head, head


def test_stream_has_no_done_and_errors_are_not_escaped(service):
    status, text = ask(service, GOOD | {"stream": True})
    assert status == 200 and '"finish_reason":"length"' in text and "[DONE]" not in text
    words = json.dumps({"bad_words_ids": [['"']], "max_new_tokens": 5})
    status, text = ask(service, GOOD | {"stream": True, "generation_config": words})
    line = text.strip().split("\n")[-1].removeprefix("data: ")
    assert status == 200 and line.startswith('{"error": "'), text
    with pytest.raises(json.JSONDecodeError):
        json.loads(line)


def test_ignored_fields_are_named_once_in_the_terminal(service):
    ignored = ("presence_penalty", "stream_options", "tool_choice", "user")
    for field in ignored:
        for _ in range(2):
            assert ask(service, GOOD | {field: None, "max_tokens": 1})[0] == 200
    log = service.printed()
    for field in ignored:
        assert (
            log.count(f"Ignoring unsupported fields in the request: {{'{field}'}}") == 1
        )


def test_the_long_prompt_is_longer_than_the_context(service):
    context = json.loads((ROOT / "examples/jiezi/config.json").read_text())
    long = [{"role": "user", "content": "什么是 token？" * 500}]
    status, text = ask(service, GOOD | {"messages": long})
    tokens = json.loads(text)["usage"]["prompt_tokens"]
    assert status == 200 and tokens > context["max_position_embeddings"] == 1024


@pytest.mark.full
def test_a_server_that_does_not_start(service):
    """「服务起不来」那张表：退出码和它的话，三种一起试。"""
    serve = ["transformers", "serve"]
    here = ["--host", "127.0.0.1", "--port", str(service.port)]
    arguments = {
        "端口被占": ["examples/jiezi", *here],
        "文件夹名写错": ["examples/jeizi", *here],
        "选项拼错": ["examples/jiezi", "--prot", "8000"],
    }
    env = reader() | {"HF_HUB_OFFLINE": "1"}
    processes = {
        name: subprocess.Popen(
            serve + more,
            cwd=ROOT,
            env=env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for name, more in arguments.items()
    }
    rows = {row[0]: row for row in table("服务起不来")}
    assert rows.keys() == arguments.keys()
    for name, process in processes.items():
        out = process.communicate(timeout=120)[0]
        (words,) = code(rows[name][2])
        assert str(process.returncode) == rows[name][1], f"{name}\n{out}"
        assert words in out, f"{name}\n{out}"

"""反向代理的配置：真的起一个 nginx，前面是坏人和好人，后面是一个假的模型服务。"""

import json
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from openai import AuthenticationError, DefaultHttpxClient, OpenAI

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "examples/use/nginx.conf"
KEY = "0a" * 32
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


class Model(BaseHTTPRequestHandler):
    """什么都答应的服务，像 transformers serve 那样没有鉴权；记下谁到过。"""

    reached, go = [], threading.Event()

    def do_POST(self):
        self.reached.append(self.path)
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.write("一")
        self.write("二" if self.go.wait(10) else "没人收到第一块")

    def write(self, word):
        chunk = {"choices": [{"index": 0, "delta": {"content": word}}]}
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.flush()

    do_GET = do_POST

    def log_message(self, *args):
        pass


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture(scope="module")
def model():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def proxy(model, tmp_path_factory):
    """照页面上的文件起 nginx，只换密钥、证书和两个端口；返回它的网址与证书。"""
    if not NGINX:
        pytest.skip("没有 nginx，反向代理的配置没有跑：apt-get install nginx")
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "llm.key"]
    subprocess.run(
        [*command.split(), *names, "-out", "llm.crt"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    conf = CONF.read_text("utf-8")
    for old, new in {
        "换成密钥": KEY,
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "/etc/nginx/llm": f"{folder}/llm",
        "127.0.0.1:8000": f"127.0.0.1:{model.server_port}",
    }.items():
        assert old in conf
        conf = conf.replace(old, new)
    (folder / "llm.conf").write_text(conf, "utf-8")
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main = f"daemon off; pid {folder}/pid; error_log {folder}/error.log;\nevents {{}}\n"
    main += f"http {{ access_log off;\n{temporary}include {folder}/llm.conf; }}\n"
    (folder / "main.conf").write_text(main, "utf-8")
    process = subprocess.Popen(
        [NGINX, "-p", folder, "-c", folder / "main.conf", "-e", folder / "error.log"],
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(100):
        if process.poll() is not None:
            pytest.fail(process.stderr.read())
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            time.sleep(0.05)
    yield (
        f"https://127.0.0.1:{port}",
        ssl.create_default_context(cafile=folder / "llm.crt"),
    )
    process.terminate()
    process.communicate(timeout=20)


def status(proxy, path, key=None, method="GET"):
    address, context = proxy
    headers = {} if key is None else {"Authorization": key}
    request = urllib.request.Request(
        address + path, b"{}" if method == "POST" else None, headers, method=method
    )
    request.add_header("Content-Length", "2" if method == "POST" else "0")
    try:
        with urllib.request.urlopen(request, timeout=20, context=context) as response:
            return response.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.mark.parametrize(
    "key",
    [
        None,
        "",
        "Bearer",
        "Bearer EMPTY",
        KEY,
        f"Basic {KEY}",
        f"Bearer {KEY}0",
        f"Bearer {KEY[:-1]}",
        f"Bearer {KEY.upper()}",
        f"x Bearer {KEY}",
    ],
)
def test_without_the_key_nothing_reaches_the_model(proxy, key):
    Model.reached.clear()
    paths = ["/v1/models", "/v1/chat/completions"]
    assert [status(proxy, path, key, "POST") for path in paths] == [401, 401]
    assert Model.reached == []


@pytest.mark.parametrize(
    "path",
    [
        "/load_model",
        "/reset",
        "/v1/completions",
        "/v1/responses",
        "/invocations",
        "/pause",
        "/tokenize",
        "/metrics",
        "/docs",
        "/",
        "/v1/models/",
        "/v1/modelsx",
        "/x/v1/models",
        "/v1/models/../../reset",
        "/v1//../reset",
    ],
)
def test_other_endpoints_are_closed_even_with_the_key(proxy, path):
    Model.reached.clear()
    for method in ("GET", "POST"):
        assert status(proxy, path, f"Bearer {KEY}", method) == 404
    assert Model.reached == []


def test_openai_client_streams_through(proxy):
    """有密钥的客户端：第一块到了，服务还没写第二块。"""
    address, context = proxy
    Model.go.clear()
    with DefaultHttpxClient(verify=context) as http:
        client = OpenAI(base_url=f"{address}/v1", api_key=KEY, http_client=http)
        ask = dict(
            model="芥子", messages=[{"role": "user", "content": "你好"}], stream=True
        )
        stream = iter(client.chat.completions.create(**ask))
        assert next(stream).choices[0].delta.content == "一"
        Model.go.set()
        assert next(stream).choices[0].delta.content == "二"
        assert list(stream) == []
        with pytest.raises(AuthenticationError):
            client.with_options(api_key="EMPTY").chat.completions.create(**ask)


def test_the_conf_says_what_the_page_says():
    """只有这两个端点，后面只连本机。"""
    conf = CONF.read_text("utf-8")
    assert re.findall(r"location (.*) \{", conf) == [
        "~ ^/v1/(chat/completions|models)$",
        "/",
    ]
    assert re.findall(r"proxy_pass (.*);", conf) == ["http://127.0.0.1:8000"]

"""一直开着的命令：真的服务。页面和测试里的服务都从这里起，端口换成空闲的。"""

import atexit
import contextlib
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from .execute import Result, reader, without_progress
from .snippets import extract

PORT = re.compile(r"(--(?:server\.)?port[ =])(\d+)")
TIMEOUT = 120  # 秒，等它就绪
POLL = re.compile(r'.*"GET /health .*\n?')  # 等它就绪时自己发的请求，不算它的输出
RUNNING: dict[str, "Service"] = {}


class ServiceError(Exception):
    """服务没有起来；消息里有它打印的全部。"""


@dataclass
class Service:
    """一个开着的服务。"""

    process: subprocess.Popen
    port: int
    log: Path
    greeting: str = ""  # 就绪之前打印的

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def printed(self) -> str:
        return without_progress(POLL.sub("", self.log.read_text("utf-8", "replace")))

    def answers(self) -> bool:
        """有没有像样的 HTTP 回答。"""
        try:
            urllib.request.urlopen(f"{self.url}/health", timeout=5).close()
        except urllib.error.HTTPError as error:
            return error.code < 500
        except OSError:
            return False
        return True

    def wait(self) -> None:
        end = time.monotonic() + TIMEOUT
        while not self.answers():
            code = self.process.poll()
            if code is not None or time.monotonic() > end:
                self.stop()
                how = f"等了 {TIMEOUT} 秒还没就绪" if code is None else f"退出码 {code}"
                raise ServiceError(f"服务没有起来，{how}：\n{self.printed()}")
            time.sleep(0.1)
        self.greeting = self.printed()

    def stop(self, how=signal.SIGTERM) -> None:
        """停下整个进程组；先请，十秒后再强行。"""
        for attempt in (how, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, attempt)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
                return


def start(command: str, *, share: bool = True, port: int | None = None) -> Service:
    """起一个服务，等到它回答。

    Args:
        command: 页面上的命令，要写明 `--port`；端口会换成空闲的。
        share: 同一条命令已经开着，就用那一个。
        port: 要用的端口；None 时挑一个空闲的。

    Raises:
        ServiceError: 没有起来，或等不到回答。
    """
    command = for_model(command.strip())
    if share and command in RUNNING and RUNNING[command].answers():
        return RUNNING[command]
    if not PORT.search(command):
        raise ServiceError(f"服务的命令里要写明 --port：{command}")
    port = port or free_port()
    file, log = tempfile.mkstemp(suffix=".log")
    process = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", PORT.sub(rf"\g<1>{port}", command)],
        env=reader(),
        stdin=subprocess.DEVNULL,
        stdout=file,
        stderr=file,
        start_new_session=True,
    )
    os.close(file)
    service = Service(process, port, Path(log))
    atexit.register(service.log.unlink)
    atexit.register(service.stop)  # 后登记的先做
    service.wait()
    if share:
        RUNNING[command] = service
    return service


def jiezi() -> Service:
    """页面上的那个服务：examples/use/serve.sh 的命令，大家共用一个。"""
    return start(extract(Path(__file__).parents[2], "use/serve.sh", "serve"))


def run(command: str, ports: dict[str, int]) -> Result:
    """页面上的服务围栏：起它，把端口记进 ports；输出是它就绪之前打印的。"""
    try:
        service = start(command)
    except ServiceError as error:
        return Result(failure=str(error))
    ports.update((written, service.port) for _, written in PORT.findall(command))
    return Result(out=service.greeting)


def with_ports(text: str, ports: dict[str, int]) -> str:
    """把页面写的端口换成真的；只换地址和 --port 里的。"""
    for written, port in ports.items():
        text = re.sub(rf"(127\.0\.0\.1:|port[ =]){written}\b", rf"\g<1>{port}", text)
    return text


def without_ports(text: str, ports: dict[str, int]) -> str:
    """把真的端口换回页面写的。"""
    for written, port in ports.items():
        text = re.sub(rf"\b{port}\b", written, text)
    return text


def for_model(command: str) -> str:
    """页面写的是芥子；跑别的模型时换成它的文件夹。"""
    return command.replace("examples/jiezi", os.environ.get("MODEL", "examples/jiezi"))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]

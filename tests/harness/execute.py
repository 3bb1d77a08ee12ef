"""执行一段代码，收下它打印的一切。"""

import contextlib
import gc
import logging
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path

# tqdm：Loading weights: 100%|██| 27/27 [00:00<…]
PROGRESS = re.compile(r"(\d+%\|.*|\d+\S*(it|B)? )\[\d+:\d+.*\]")
CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
# 始终写往当时的 1 号、2 号描述符；谁记住了它们都不会写丢
STREAMS = [open(fd, "w", encoding="utf-8", buffering=1, closefd=False) for fd in (1, 2)]
# Python 自己默认就不给读者看的警告
QUIET = DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning
TIMEOUT = 300  # 秒


@dataclass
class Result:
    """一段代码的下场。"""

    out: str = ""
    err: str = ""  # 标准错误和警告，去掉了进度条
    failure: str = ""  # 没跑通的原因
    skipped: str = ""  # 没有跑的理由
    code: int = 0  # 没跑通时，整个脚本的退出码


def without_progress(text: str) -> str:
    """去掉 tqdm 的进度条：读者看得到它，但它不算警告。"""
    lines = re.split(r"[\r\n]+", CONTROL.sub("", text))
    return "\n".join(
        line for line in lines if line.strip() and not PROGRESS.search(line)
    )


@contextlib.contextmanager
def captured(result: Result):
    """把 1 号、2 号描述符接到临时文件：print、子进程、C++ 写的都收得到；警告照读者看到的规则收。"""
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in STREAMS]
        sys.stdout.flush()
        sys.stderr.flush()
        for fd, (stream, file) in enumerate(zip(STREAMS, files, strict=True), 1):
            saved = os.dup(fd)
            stack.callback(os.close, saved)
            stack.callback(os.dup2, saved, fd)
            stack.callback(stream.flush)
            os.dup2(file.fileno(), fd)
        stack.enter_context(contextlib.redirect_stdout(STREAMS[0]))
        stack.enter_context(contextlib.redirect_stderr(STREAMS[1]))
        for handler in logging.getLogger("transformers").handlers:
            if isinstance(handler, logging.StreamHandler):
                handler.stream = STREAMS[1]  # 它记住的是导入那时的 stderr，也许已经关了
        log = stack.enter_context(warnings.catch_warnings(record=True))
        warnings.resetwarnings()
        for hidden in QUIET:
            warnings.simplefilter("ignore", hidden)
        warnings.filterwarnings("default", "", DeprecationWarning, "__main__")
        try:
            yield
        finally:
            for stream, file in zip(STREAMS, files, strict=True):
                stream.flush()
                file.seek(0)
            result.out, err = (file.read().decode("utf-8", "replace") for file in files)
            for w in log:
                shown = w.message, w.category, w.filename, w.lineno
                err += "\n" + warnings.formatwarning(*shown)
            result.err = without_progress(err)


def fresh_start() -> None:
    """像新开的 Python 那样开始：不带前一个脚本的随机种子，「只说一次」的警告会再说。"""
    random.seed()
    if torch := sys.modules.get("torch"):
        torch.seed()
    if once := getattr(logging.Logger, "warning_once", None):  # transformers 加的
        once.cache_clear()


@contextlib.contextmanager
def inside(folder: Path):
    """在 folder 里跑一个脚本；出来时文件夹与 transformers 的日志级别还原。"""
    logger = logging.getLogger("transformers")
    level = logger.level
    try:
        with contextlib.chdir(folder):
            yield
    finally:
        logger.setLevel(level)


def sweep() -> None:
    """收走脚本没有关的连接；不收，它会在别的测试里忽然报警。"""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def run_python(code, namespace: dict) -> Result:
    """执行一段编译好的 Python；回溯只留脚本自己的行。没跑通时，标准错误与解释器写的一样。"""
    result, said = Result(), ""
    try:
        with captured(result):
            exec(code, namespace)
    except SystemExit as stop:
        words = isinstance(stop.code, str)
        result.code, said = (1, stop.code) if words else (stop.code or 0, "")
        result.failure = f"脚本自己退出了：SystemExit: {stop.code}"
    except Exception as error:
        report = traceback.TracebackException.from_exception(error)
        own = [frame for frame in report.stack if frame.filename == code.co_filename]
        report.stack = traceback.StackSummary.from_list(own)
        result.code, said = 1, "".join(report.format(chain=False))
        result.failure = f"代码抛出了异常：\n{said}"
    result.err = "\n".join(filter(None, [result.err, said]))
    return result


def run_bash(source: str, groups: list[int]) -> Result:
    """用真的 bash 执行一节；它的进程组记进 groups，页面结束时一并收走（后台的服务也在内）。"""
    return run_command(["bash", "-euo", "pipefail", "-c", source], groups)


def run_pwsh(source: str, groups: list[int]) -> Result:
    """用真的 PowerShell 执行一节；没有装就不跑。"""
    if not shutil.which("pwsh"):
        return Result(skipped="这台机器没有 PowerShell（pwsh）")
    return run_command(["pwsh", "-NoProfile", "-Command", source], groups)


def unrun_bash(source: str, reason: str) -> Result:
    """这里没有它要的东西：不跑，只让 bash 看一遍语法。"""
    checked = subprocess.run(["bash", "-n"], input=source.encode(), capture_output=True)
    problem = checked.stderr.decode()
    return Result(failure=problem, skipped="" if problem else reason)


def run_command(command: list[str], groups: list[int]) -> Result:
    """执行一条命令，收下它打印的；工作目录和环境与读者的一样，虚拟环境排在最前面。"""
    result = Result()
    with captured(result):
        process = subprocess.Popen(
            command, env=reader(), stdin=subprocess.DEVNULL, start_new_session=True
        )
        groups.append(process.pid)
        try:
            code = process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            code = f"没有：跑了 {TIMEOUT} 秒还没结束"
    if code:
        result.failure = (
            f"{command[0]} 的退出码是 {code}\n标准错误：\n{result.err or '（空）'}"
        )
    return result


def reader() -> dict[str, str]:
    """读者的环境变量：虚拟环境的命令排在最前面。"""
    here, path = Path(sys.executable).parent, os.environ.get("PATH", os.defpath)
    return os.environ | {"PATH": f"{here}{os.pathsep}{path}"}


def start_script(script: Path, *args: str, cwd: Path, env) -> subprocess.Popen:
    """另起一个进程运行脚本，不等它结束；几个可以同时跑。"""
    pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    command = [sys.executable, str(script), *args]
    return subprocess.Popen(
        command, cwd=cwd, env=env, encoding="utf-8", stdin=subprocess.DEVNULL, **pipes
    )


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    """等它结束，返回（退出码，标准输出，去掉进度条的标准错误）。"""
    try:
        out, err = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
    return process.returncode, out, without_progress(err)

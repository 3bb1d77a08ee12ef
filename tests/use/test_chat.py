"""curl 的命令：贴进 zsh 也一样；原教程的那一条，贴进 shell 是坏的。"""

import json
import os
import shutil
import subprocess

import pytest

from tests.harness import services
from tests.harness.snippets import extract, sections

TUTORIAL = r"""curl -s http://127.0.0.1:8000/v1/chat/completions \
  -H "Content-Type: application/json" \
  -d '{ \
    "messages": [{"role": "user", "content": "你是谁？"}] \
  }'"""


def run(shell, command):
    """在一个不读配置的 shell 里运行，返回（退出码，打印的）；端口换成真的。"""
    if not shutil.which(shell):
        if os.environ.get("CI"):
            pytest.fail(f"CI 里应该装有 {shell}")
        pytest.skip(f"这台机器没有 {shell}")
    plain = {"zsh": ["-f"], "bash": ["--norc"]}[shell]
    done = subprocess.run(
        [shell, *plain, "-c", services.with_ports(command, {"8000": service().port})],
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    return done.returncode, done.stdout + done.stderr


def service():
    return services.jiezi()


def test_every_section_prints_the_same_in_zsh(pytestconfig):
    script = pytestconfig.rootpath / "examples/use/chat.sh"
    for name in sections(script):
        command = extract(pytestconfig.rootpath, "use/chat.sh", name)
        outcomes = [run(shell, command) for shell in ("bash", "zsh")]
        assert all(code == 0 and out.strip() for code, out in outcomes), name
        if name not in ("chat", "stream"):  # 这两节打印编号和时刻，每次不同
            assert outcomes[0] == outcomes[1], name


def test_backslashes_inside_single_quotes_break_the_json():
    code, out = run("bash", TUTORIAL)
    assert code == 0 and "choices" not in json.loads(out) and "detail" in out
    assert "choices" in json.loads(
        run("bash", TUTORIAL.replace("\\\n  }", "\n  }").replace("{ \\", "{"))[1]
    )

"""每一页开头的那十二行：处处一样；模型、设备、数值类型都照说的来。"""

import os

import pytest
import torch

from tests.harness.session import ROOT
from tests.harness.snippets import SnippetError, chapter_scripts, extract


def opening(name):
    """脚本开头的几行；没有 setup 一节就是 None。"""
    try:
        return extract(ROOT, name, "setup")
    except SnippetError:
        return None


STANDARD = opening("local/decode.py")
OWN = {"local/load.py"}  # 拆开来讲的


def test_every_page_opens_alike():
    names = [n for n in chapter_scripts(ROOT) if n.startswith(("local/", "generate/"))]
    found = {name: opening(name) for name in names}
    odd = [
        name
        for name, text in found.items()
        if text not in (None, STANDARD) and name not in OWN
    ]
    assert not odd, "这几页的开头与 local/decode.py 的不同"
    assert sum(text == STANDARD for text in found.values()) >= 12
    load = (ROOT / "examples/local/load.py").read_text("utf-8")
    assert STANDARD[STANDARD.index("try:") :] in load, "拆开来讲的，也是同样的几行"
    lines = [line for line in STANDARD.splitlines() if line.strip()]
    assert len(lines) <= 12, "开头至多十二行"


@pytest.mark.parametrize(
    ("cuda", "env", "device", "dtype"),
    [
        (False, {}, "cpu", torch.float32),
        (True, {"DEVICE": "cpu"}, "cpu", torch.float32),
        (False, {"DEVICE": "meta"}, "meta", torch.bfloat16),
        (True, {}, "cuda", torch.bfloat16),
    ],
)
def test_environment_decides(cuda, env, device, dtype, monkeypatch):
    """没有显卡用 CPU、float32；有显卡用它、bfloat16；环境变量说了算。"""
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("DEVICE")
    for key, value in env.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    if device == "cuda" and not torch.backends.cuda.is_built():
        with pytest.raises(SystemExit, match="（cuda）"):
            exec(STANDARD, {})
        return
    namespace = {}
    exec(STANDARD, namespace)
    model = namespace["model"]
    assert namespace["MODEL"] == os.environ.get("MODEL", "examples/jiezi")
    assert (model.dtype, model.device.type, model.training) == (dtype, device, False)

"""五个页面脚本开头的那几行：模型、设备、数值类型都照说的来。"""

import os

import pytest
import torch

from tests.harness.snippets import extract, sections

NAMES = ["load", "template", "encode", "generate", "decode"]


@pytest.mark.parametrize("name", NAMES)
def test_setup_reads_environment(name, pytestconfig, monkeypatch):
    _, source = extract(pytestconfig.rootpath, f"local/{name}.py", "setup")

    def run(**environment):
        for key in ("MODEL", "DEVICE"):
            monkeypatch.delenv(key, raising=False)
        for key, value in environment.items():
            monkeypatch.setenv(key, value)
        namespace = {}
        exec(source, namespace)
        return namespace["MODEL"], namespace["DEVICE"]

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run() == ("examples/jiezi", "cpu")
    assert run(MODEL="别的", DEVICE="meta") == ("别的", "meta")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert run() == ("examples/jiezi", "cuda")
    assert run(DEVICE="cpu") == ("examples/jiezi", "cpu")


@pytest.mark.parametrize("name", NAMES)
def test_float32_on_cpu_bfloat16_elsewhere(name, pytestconfig, monkeypatch):
    monkeypatch.chdir(pytestconfig.rootpath)
    script = pytestconfig.rootpath / f"examples/local/{name}.py"
    lines = script.read_text("utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("dtype ="))
    end = next(i for i, line in enumerate(lines) if line.startswith("model = "))
    found, _ = sections(script)
    assert any(first <= start < end < last for first, last in found.values())
    from transformers import AutoModelForCausalLM

    for device, dtype in (("cpu", torch.float32), ("meta", torch.bfloat16)):
        namespace = {
            "DEVICE": device,
            "MODEL": os.environ.get("MODEL", "examples/jiezi"),
            "torch": torch,
            "AutoModelForCausalLM": AutoModelForCausalLM,
        }
        exec("\n".join(lines[start : end + 1]), namespace)
        model = namespace["model"]
        assert (model.dtype, model.device.type, model.training) == (
            dtype,
            device,
            False,
        )

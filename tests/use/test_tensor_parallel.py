"""张量并行：两个进程切开来算，与一个进程的 logits 相同；每个进程的回答相同；坏输入一句中文。"""

import json
import os
import re
import socket
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.harness.execute import finish, start_script
from tests.harness.session import run_script

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "examples/use/tensor_parallel.py"
JIEZI = ROOT / "examples/jiezi"
QUESTIONS = ["什么是 token？", "你是谁？", "明天会下雨吗？"]
HAN = re.compile("[\u4e00-\u9fff]")
# 每个进程各跑一遍：像导入那样执行脚本（不走 main），把各自的结果写进文件
DRIVER = """
import runpy, sys
import torch
script = runpy.run_path(sys.argv[1])
model = script["load"](2)
prompts = torch.load("prompts.pt")
with torch.no_grad():
    logits = [model(ids).logits for ids in prompts]
greedy = [model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=60,
                         do_sample=False)[0].tolist() for ids in prompts]
torch.manual_seed(0)
sampled = model.generate(prompts[0], attention_mask=torch.ones_like(prompts[0]),
                         max_new_tokens=10, do_sample=True)[0].tolist()
held = {name: script["local"](w).clone() for name, w in model.named_parameters()}
calls, _ = script["traffic"](model, {"input_ids": prompts[0]})
torch.save([logits, greedy, sampled, held, script["weight_bytes"](model),
            script["shards"](model), dict(calls)], f"rank{script['RANK']}.pt")
"""


def torchrun_env(processes, **more):
    return os.environ | {
        "MODEL": str(JIEZI),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        **more,
    }


def rank_env(rank):
    return {"RANK": str(rank), "LOCAL_RANK": str(rank)}


@pytest.fixture(scope="module")
def prompts():
    tokenizer = AutoTokenizer.from_pretrained(JIEZI)
    return [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": question}],
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
        ).input_ids
        for question in QUESTIONS
    ]


@pytest.fixture(scope="module")
def ranks(prompts, tmp_path_factory):
    """两个进程各自的结果；环境变量照 torchrun 的样子设，省去 torchrun 自己启动的几秒。"""
    folder = tmp_path_factory.mktemp("两个进程")
    torch.save(prompts, folder / "prompts.pt")
    driver = folder / "driver.py"
    driver.write_text(DRIVER, "utf-8")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    env = torchrun_env(2, MASTER_PORT=str(port), DEVICE="cpu", OMP_NUM_THREADS="1")
    started = [
        start_script(driver, str(SCRIPT), cwd=folder, env=env | rank_env(n))
        for n in range(2)
    ]
    assert [finish(process) for process in started] == [(0, "", "")] * 2
    return [torch.load(folder / f"rank{n}.pt", weights_only=False) for n in range(2)]


@pytest.fixture(scope="module")
def whole():
    return AutoModelForCausalLM.from_pretrained(JIEZI, dtype=torch.float32).eval()


@pytest.mark.full
def test_logits_equal_one_process(ranks, whole, prompts):
    """float32 下相差不到 1e-4；每个进程都有完整的 logits。"""
    for logits, *_ in ranks:
        for ids, mine in zip(prompts, logits, strict=True):
            with torch.no_grad():
                want = whole(ids).logits
            assert mine.shape == (*ids.shape, whole.config.vocab_size)
            assert (mine - want).abs().max() < 1e-4


@pytest.mark.full
def test_every_process_gives_the_same_answer(ranks, whole, prompts):
    """贪心的回答与一个进程的一样；同一个种子采样，两个进程也一样。"""
    want = [
        whole.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=60, do_sample=False
        )[0].tolist()
        for ids in prompts
    ]
    (_, first, sampled, *_), (_, second, resampled, *_) = ranks
    assert first == second == want
    assert sampled == resampled


@pytest.mark.full
def test_the_two_halves_make_the_whole_weight(ranks):
    """两个进程手里的拼起来，就是文件里的权重；归一化两边都有。"""
    (*_, mine, held, listed, _), (*_, other, other_held, _, _) = ranks
    assert held == other_held < 0.51 * 4 * 2_362_304
    assert {shape for _, whole, shape in listed if whole == (192, 192)} == {
        (96, 192),
        (192, 96),
    }
    with safe_open(JIEZI / "model.safetensors", "pt") as file:
        names = list(file.keys())
        assert set(mine) == set(names)
        for name in names:
            want = file.get_tensor(name).float()
            if "norm" in name:
                joined = mine[name]
                assert mine[name].equal(other[name])
            else:
                dim = 1 if re.search("(o|down)_proj", name) else 0
                joined = torch.cat([mine[name], other[name]], dim)
            assert joined.equal(want), name


@pytest.mark.full
def test_two_sums_a_layer(ranks, prompts):
    """每层两次相加，嵌入一次，logits 拼接一次。"""
    *_, calls = ranks[0]
    hidden, vocab = (1, prompts[0].size(1), 192), (1, prompts[0].size(1), 2048)
    assert calls == {
        ("embed_tokens", "相加", hidden): 1,
        ("o_proj", "相加", hidden): 4,
        ("down_proj", "相加", hidden): 4,
        ("lm_head", "拼接", vocab): 1,
    }


def test_bad_input_is_one_line(tmp_path):
    """0 号进程说一句中文，退出码 2；别的进程不出声。"""
    config = json.loads((JIEZI / "config.json").read_text("utf-8"))
    four = json.dumps(config | {"num_key_value_heads": 4})
    (tmp_path / "config.json").write_text(four, "utf-8")
    no_folder = {"MODEL": str(tmp_path / "没有")}
    for env, words in [
        (torchrun_env(3), ["2 个 KV 头", "3 个进程", "1 或 2"]),
        (torchrun_env(8, MODEL=str(tmp_path)), ["4 个 KV 头", "8 个", "1 或 2 或 4"]),
        (torchrun_env(2, **no_folder), ["读不了模型", "没有", "MODEL"]),
        (torchrun_env(2, DEVICE="tpu"), ["用不了设备 tpu", "DEVICE", "cpu"]),
    ]:
        code, out, err = run_script(SCRIPT, cwd=ROOT, env=env | rank_env(0))
        first = err.split("\n")[0]
        assert (code, out) == (2, "") and HAN.search(first), err
        assert [word for word in words if word not in first] == [], err
    quiet = run_script(SCRIPT, cwd=ROOT, env=torchrun_env(3) | rank_env(1))
    assert quiet == (0, "", "")

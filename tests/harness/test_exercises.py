"""每一章的练习：起点通不过检查，答案通得过，常见的错法也通不过。"""

import runpy
import sys

import pytest

WRONG = {
    "use/read_sse": {
        "按段切行": '\n    import json\n    for part in parts:\n        for line in part.decode().splitlines():\n            if line.startswith("data: {"):\n                choices = json.loads(line[6:])["choices"]\n                if choices and "content" in choices[0]["delta"]:\n                    yield choices[0]["delta"]["content"]'
    },
    "use/trim_history": {
        "连 system 一起丢": "\n    while count(messages) > limit:\n        messages = messages[1:]\n    return messages"
    },
    "use/read_response": {
        "只认 detail": '\n    import json\n    if status != 200:\n        raise ValueError(f"{status} {json.loads(body)[\'detail\']}")\n    choice = json.loads(body)["choices"][0]\n    return choice["message"]["content"], choice["finish_reason"] == "stop" '
    },
    "use/ask_all": {
        "一句一句问": "\n    def safe(question):\n        try:\n            return ask(question)\n        except ValueError as error:\n            return error\n    return [safe(question) for question in questions]"
    },
    "local/prompt_length": {
        "不算模板": "return sum(len(tokenizer(m['content']).input_ids) for m in messages)"
    },
    "local/pad_left": {
        "掩码里填反了": "import torch; n = max(map(len, sequences)); return [torch.tensor([s + [p] * (n - len(s)) for s in x]) for x, p in ((sequences, pad_token_id), ([[1] * len(s) for s in sequences], 0))]"
    },
    "local/cut_answer": {"只去掉最后一个": "return output[prompt_length:-1]"},
    "local/stream_text": {
        "一个一个解码": "yield from (tokenizer.decode([i]) for i in ids)"
    },
    "generate/stop_rows": {
        "只认第一个结束符": "return next_tokens.masked_fill(finished, pad_token_id), finished | (next_tokens == eos_token_ids[0])",
        "说完了还接着写": "import torch; return next_tokens, finished | torch.isin(next_tokens, torch.tensor(eos_token_ids))",
        "把结束符也换成填充": "import torch; done = finished | torch.isin(next_tokens, torch.tensor(eos_token_ids)); return next_tokens.masked_fill(done, pad_token_id), done",
    },
    "generate/position_ids": {
        "不管填充": "import torch; return torch.arange(attention_mask.size(1)).expand_as(attention_mask)",
        "从 1 数起": "return attention_mask.cumsum(1)",
        "填充是负数": "return attention_mask.cumsum(1) - 1",
    },
    "generate/ban_end": {
        "只禁第一个": "logits = logits.clone(); logits[:, eos_token_ids[:1]] = logits[:, eos_token_ids[:1]] if length >= min_new_tokens else -float('inf'); return logits",
        "多禁一步": "logits = logits.clone(); logits[:, eos_token_ids] = logits[:, eos_token_ids] if length > min_new_tokens else -float('inf'); return logits",
        "改了原来的": "logits[:, eos_token_ids] = logits[:, eos_token_ids] if length >= min_new_tokens else -float('inf'); return logits",
    },
    "generate/ban_repeats": {
        "出现过就禁": "return logits.scatter(1, ids, -float('inf'))",
        "只看第一行": "import torch; row = ids[0].tolist(); ban = [row[i + size - 1] for i in range(len(row) - size + 1) if row[i:i + size - 1] == row[len(row) - size + 1:]]; logits = logits.clone(); logits[:, ban] = -torch.inf; return logits",
    },
    "generate/cache_bytes": {
        "数了全部的头": "return 2 * config.num_hidden_layers * config.hidden_size * tokens * batch * bytes_each",
        "忘了值": "return config.num_hidden_layers * config.num_key_value_heads * config.hidden_size // config.num_attention_heads * tokens * batch * bytes_each",
        "忘了批": "return 2 * config.num_hidden_layers * config.num_key_value_heads * (config.hidden_size // config.num_attention_heads) * tokens * bytes_each",
    },
    "generate/until": {
        "一段一段地找": "for p in pieces:\n        if stop in p: return\n        yield p",
        "攒到最后": "text = ''.join(pieces); yield text.split(stop)[0]",
        "总是扣着": "held = ''\n    for p in pieces:\n        held += p\n        if stop in held: break\n        if len(held) > len(stop): yield held[:-len(stop)]; held = held[-len(stop):]\n    if held.split(stop)[0]: yield held.split(stop)[0]",
        "忘了最后扣着的": "held = ''\n    for p in pieces:\n        held += p\n        if stop in held:\n            if held.split(stop)[0]: yield held.split(stop)[0]\n            return\n        n = max(n for n in range(len(stop)) if held.endswith(stop[:n]))\n        ready, held = held[:len(held) - n], held[len(held) - n:]\n        if ready: yield ready",
    },
    "generate/perplexity": {
        "先各算各的": "from math import exp; return sum(exp(-sum(t) / len(t)) for t in texts) / len(texts)",
        "忘了负号": "from math import exp; flat = sum(texts, []); return exp(sum(flat) / len(flat))",
        "没有取平均": "from math import exp; return exp(-sum(map(sum, texts)))",
    },
    "generate/beam_search": {
        "就是贪心": "ids, total = [], 0\n    for _ in range(length):\n        p = next_logprobs(ids); i = p.index(max(p)); ids = ids + [i]; total += p[i]\n    return ids, total",
        "全都试一遍": "beams = [([], 0)]\n    for _ in range(length): beams = [(i + [t], s + p) for i, s in beams for t, p in enumerate(next_logprobs(i))]\n    return max(beams, key=lambda b: b[1])",
        "只看最后一步": "beams = [([], 0)]\n    for _ in range(length): beams = sorted(((i + [t], p) for i, s in beams for t, p in enumerate(next_logprobs(i))), key=lambda b: -b[1])[:width]\n    return beams[0]",
    },
}
WRONG_ANSWERS = [(name, how) for name, answers in WRONG.items() for how in answers]


@pytest.fixture
def check(pytestconfig, monkeypatch, capsys):
    """像读者那样运行 examples/check.py，返回（退出码，打印的）。"""
    monkeypatch.chdir(pytestconfig.rootpath)

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["check.py", *args])
        try:
            runpy.run_path("examples/check.py", run_name="__main__")
            code = 0
        except SystemExit as stop:
            code = stop.code
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run


def test_every_exercise_has_starter_solution_check_and_wrong_answer(pytestconfig):
    found = set()
    for path in (pytestconfig.rootpath / "examples").glob("*/exercises/*.py"):
        if path.stem != "check":
            name = path.stem.removesuffix("_solution")
            found.add(f"{path.parents[1].name}/{name}")
            assert path.with_name(f"{name}.py").exists(), path
            assert path.with_name(f"{name}_solution.py").exists(), path
    assert found == set(WRONG)


@pytest.mark.parametrize("name", WRONG)
def test_starter_fails_and_solution_passes(name, check):
    function = name.split("/")[1]
    code, printed = check(name)
    assert (code, printed) == (
        1,
        f"没有通过：{function}.py 里的 {function} 还没有写。\n",
    )
    assert check(name, "--solution") == (0, "通过\n")


@pytest.mark.parametrize(("name", "how"), WRONG_ANSWERS)
def test_wrong_answer_is_caught(name, how, pytestconfig, monkeypatch):
    monkeypatch.chdir(pytestconfig.rootpath)
    chapter, function = name.split("/")
    folder = pytestconfig.rootpath / "examples" / chapter / "exercises"
    starter = (folder / f"{function}.py").read_text("utf-8")
    assert "raise NotImplementedError" in starter
    mine = {}
    exec(starter.replace("raise NotImplementedError", WRONG[name][how].strip()), mine)
    checks = runpy.run_path(str(folder / "check.py"))
    with pytest.raises((AssertionError, UnicodeDecodeError), match="."):
        checks[f"check_{function}"](mine[function])


def test_wrong_name_is_one_clear_line(check):
    code, printed = check("padleft")
    assert code == 2 and printed.startswith("参数不对：") and printed.count("\n") == 1


def test_missing_model_is_one_clear_line(check, monkeypatch):
    monkeypatch.setenv("MODEL", "nowhere")
    code, printed = check("local/pad_left")
    assert code == 2 and "nowhere" in printed and printed.count("\n") == 1

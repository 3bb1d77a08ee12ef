"""每一章的练习：起点通不过检查，答案通得过，常见的错法也通不过。"""

import runpy
import sys

import pytest

WRONG = {
    "use/read_sse": """
    import json
    for part in parts:
        for line in part.decode().splitlines():
            if line.startswith("data: {"):
                choices = json.loads(line[6:])["choices"]
                if choices and "content" in choices[0]["delta"]:
                    yield choices[0]["delta"]["content"]""",
    "use/trim_history": """
    while count(messages) > limit:
        messages = messages[1:]
    return messages""",
    "use/read_response": """
    import json
    if status != 200:
        raise ValueError(f"{status} {json.loads(body)['detail']}")
    choice = json.loads(body)["choices"][0]
    return choice["message"]["content"], choice["finish_reason"] == "stop" """,
    "use/ask_all": """
    def safe(question):
        try:
            return ask(question)
        except ValueError as error:
            return error
    return [safe(question) for question in questions]""",
    "local/prompt_length": "return sum(len(tokenizer(m['content']).input_ids) for m in messages)",
    "local/pad_left": (
        "import torch; n = max(map(len, sequences)); "
        "return [torch.tensor([s + [p] * (n - len(s)) for s in x]) for x, p in "
        "((sequences, pad_token_id), ([[1] * len(s) for s in sequences], 0))]"
    ),
    "local/cut_answer": "return output[prompt_length:-1]",
    "local/stream_text": "yield from (tokenizer.decode([i]) for i in ids)",
}


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


@pytest.mark.parametrize("name", WRONG)
def test_wrong_answer_is_caught(name, pytestconfig, monkeypatch):
    monkeypatch.chdir(pytestconfig.rootpath)
    chapter, function = name.split("/")
    folder = pytestconfig.rootpath / "examples" / chapter / "exercises"
    starter = (folder / f"{function}.py").read_text("utf-8")
    assert "raise NotImplementedError" in starter
    mine = {}
    exec(starter.replace("raise NotImplementedError", WRONG[name].strip()), mine)
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

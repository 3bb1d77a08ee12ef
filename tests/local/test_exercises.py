"""第二章的练习：起点通不过检查，答案通得过，常见的错法也通不过。"""

import subprocess
import sys

import pytest

NAMES = ["prompt_length", "pad_left", "cut_answer", "stream_text"]
WRONG = {
    "prompt_length": "return sum(len(tokenizer(m['content']).input_ids) for m in messages)",
    "pad_left": (
        "import torch; n = max(map(len, sequences)); "
        "return [torch.tensor([s + [p] * (n - len(s)) for s in x]) for x, p in "
        "((sequences, pad_token_id), ([[1] * len(s) for s in sequences], 0))]"
    ),
    "cut_answer": "return output[prompt_length:-1]",
    "stream_text": "yield from (tokenizer.decode([i]) for i in ids)",
}


@pytest.fixture(scope="module")
def exercises(request):
    return request.config.rootpath / "examples/local/exercises"


def check(script, *args, cwd):
    return subprocess.run(
        [sys.executable, script, *args],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=cwd,
    )


def test_every_exercise_is_listed(exercises):
    assert {path.stem for path in exercises.glob("*.py")} - {"check"} == {
        n + s for n in NAMES for s in ("", "_solution")
    }


@pytest.mark.parametrize("name", NAMES)
def test_starter_fails_and_solution_passes(name, exercises, pytestconfig):
    starter = check(exercises / "check.py", name, cwd=pytestconfig.rootpath)
    assert (starter.returncode, starter.stdout) == (
        1,
        f"没有通过：{name}.py 里的 {name} 还没有写。\n",
    ), starter.stderr
    solution = check(
        exercises / "check.py", name, "--solution", cwd=pytestconfig.rootpath
    )
    assert (solution.returncode, solution.stdout) == (0, "通过\n"), (
        solution.stdout + solution.stderr
    )


@pytest.mark.parametrize("name", NAMES)
def test_wrong_answer_is_caught(name, exercises, tmp_path, pytestconfig):
    (tmp_path / "check.py").write_text(
        (exercises / "check.py").read_text("utf-8"), "utf-8"
    )
    starter = (exercises / f"{name}.py").read_text("utf-8")
    (tmp_path / f"{name}.py").write_text(
        starter.replace("raise NotImplementedError", WRONG[name]), "utf-8"
    )
    result = check(tmp_path / "check.py", name, cwd=pytestconfig.rootpath)
    assert result.returncode == 1 and result.stdout.startswith("没有通过："), (
        result.stdout + result.stderr
    )


def test_wrong_name_is_one_clear_line(exercises, pytestconfig):
    result = check(exercises / "check.py", "padleft", cwd=pytestconfig.rootpath)
    assert (
        result.returncode == 2
        and result.stderr.startswith("参数不对：")
        and result.stderr.count("\n") == 1
    )

"""每一章的练习：起点通不过检查，答案通得过，常见的错法也通不过。"""

import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
EXERCISES = sorted(
    f"{path.parents[1].name}/{path.stem.removesuffix('_solution')}"
    for path in EXAMPLES.glob("*/exercises/*_solution.py")
)
WRONG = {}  # 题 -> {错在哪里: 函数}；各章 tests/<章>/wrong_answers.py 里叫「题名__错在哪里」的函数
for path in sorted(ROOT.glob("tests/*/wrong_answers.py")):
    for name, function in runpy.run_path(str(path)).items():
        if "__" in name.strip("_"):
            exercise, how = name.split("__")
            WRONG.setdefault(f"{path.parent.name}/{exercise}", {})[how] = function
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


def test_every_exercise_has_starter_solution_check_and_wrong_answer():
    files = {
        f"{path.parents[1].name}/{path.stem.removesuffix('_solution')}"
        for path in EXAMPLES.glob("*/exercises/*.py")
        if path.stem != "check"
    }
    assert files == set(EXERCISES) == set(WRONG)
    for name in EXERCISES:
        chapter, exercise = name.split("/")
        assert (EXAMPLES / chapter / f"exercises/{exercise}.py").is_file(), name


@pytest.mark.parametrize("name", EXERCISES)
def test_starter_fails_and_solution_passes(name, check):
    function = name.split("/")[1]
    code, printed = check(name)
    assert (code, printed) == (
        1,
        f"没有通过：{function}.py 里的 {function} 还没有写。\n",
    )
    assert check(name, "--solution") == (0, "通过\n")


@pytest.mark.parametrize(("name", "how"), WRONG_ANSWERS)
def test_wrong_answer_is_caught(name, how, monkeypatch):
    monkeypatch.chdir(ROOT)
    chapter, function = name.split("/")
    checks = runpy.run_path(str(EXAMPLES / chapter / "exercises/check.py"))
    with pytest.raises((AssertionError, UnicodeDecodeError), match="."):
        checks[f"check_{function}"](WRONG[name][how])


def test_wrong_name_is_one_clear_line(check):
    code, printed = check("padleft")
    assert code == 2 and printed.startswith("参数不对：") and printed.count("\n") == 1


def test_missing_model_is_one_clear_line(check, monkeypatch):
    monkeypatch.setenv("MODEL", "nowhere")
    code, printed = check("local/pad_left")
    assert code == 2 and "nowhere" in printed and printed.count("\n") == 1

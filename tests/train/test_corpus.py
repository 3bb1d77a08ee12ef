"""语料够多、没有毛病；评测的题没有混进训练里。"""

import corpus
import evaluate
import pytest


def test_no_problems():
    assert corpus.problems() == []


def test_large_enough():
    assert sum(file.stat().st_size for file in corpus.CORPUS.glob("*.txt")) >= 300_000
    talks = corpus.dialogues()
    assert len(talks) >= 2000
    assert sum(len(talk) > 1 for talk in talks) >= 30
    assert all(q and all(answers) for talk in talks for q, answers in talk)


@pytest.mark.parametrize("name", ["zaodian-early", "zaodian-breakfast"])
def test_zaodian(name):
    sentences = corpus.lines(name)
    assert len(sentences) == len({corpus.normalize(s) for s in sentences}) >= 300


def test_zaodian_meanings_do_not_overlap():
    early, breakfast = (
        {corpus.normalize(s) for s in corpus.lines(f"zaodian-{n}")}
        for n in ("early", "breakfast")
    )
    assert not early & breakfast


@pytest.mark.parametrize("name", ["dev", "blind"])
def test_eval_questions_are_well_formed(name):
    questions, ids = corpus.load_eval(name), {entry.id for entry in corpus.entries()}
    asked = {corpus.normalize(q.get("before", "") + q["question"]) for q in questions}
    assert len(asked) == len(questions)
    kinds = dict.fromkeys(("named", "described", "identity", "follow-up"), True)
    kinds |= dict.fromkeys(("off-topic", "near-miss", "repeat"), False)
    wanted = [q["kind"] for q in questions if "want" in q]
    assert set(wanted) <= {"follow-up", "repeat"}
    bad = [
        i
        for i, q in enumerate(questions, 1)
        if bool(q["concept"]) is not kinds.get(q["kind"])
    ]
    bad += [
        i
        for i, q in enumerate(questions, 1)
        if q["concept"] and q["concept"] not in ids
    ]
    assert bad == [], f"{name}.jsonl 的这几行不对"


@pytest.mark.parametrize(
    ("name", "paraphrases", "off_topic"), [("dev", 100, 30), ("blind", 200, 50)]
)
def test_enough_unseen_questions(name, paraphrases, off_topic, capsys):
    """与训练的问法、框架相同的题，评测时会剔除；剔除之后还要够多。只报个数，不打印题目。"""
    every = corpus.load_eval(name)
    every = [q for q in every if q["kind"] not in ("follow-up", "repeat", "identity")]
    fresh = [bool(q["concept"]) for q in every if not evaluate.was_seen(q["question"])]
    counts = f"{name}：{len(every)} 道题，剔除 {len(every) - len(fresh)} 道，剩 {sum(fresh)} + {fresh.count(False)}"
    with capsys.disabled():
        print(f"\n{counts}")
    assert sum(fresh) >= paraphrases and fresh.count(False) >= off_topic, counts


def test_dev_and_blind_do_not_overlap():
    dev, blind = (
        {
            corpus.normalize(q.get("before", "") + q["question"])
            for q in corpus.load_eval(name)
        }
        for name in ("dev", "blind")
    )
    assert len(dev & blind) == 0, f"{len(dev & blind)} 道题两边都有"


BLOCK = "# a\n别名：甲 | 乙\n关键：k\n答：有 k。\n答：另有 k。\n答：也有 k。\n问：甲是什么？"


@pytest.mark.parametrize(
    "text", ["问：没有开头", "# a\n没有冒号", "# a\n别的：x", "# a\n追答：没有追问"]
)
def test_parse_names_the_line(text):
    with pytest.raises(
        ValueError, match=rf"x\.txt 第 {text.count(chr(10)) + 1} 行认不出来"
    ):
        corpus.parse(text, "x.txt")


PROBLEMS = {
    "重复的 id": (
        f"{BLOCK}\n\n{BLOCK.replace('甲', '丙').replace('乙', '丁')}",
        "出现了两次",
    ),
    "没有答": ("# a\n关键：k", "没有「答」"),
    "问法太少": (BLOCK, "只有 1 种问法"),
    "没有关键": ("# a\n答：x", "没有「关键」"),
    "关键不在答里": ("# a\n关键：z\n答：x", "「x」里没有「关键」"),
    "答太少": ("# a\n关键：x\n答：x", "只有 1 种「答」"),
    "开头一样": ("# a\n关键：x\n答：x 一\n答：x 二", "有两种「答」的开头一样"),
    "关键不独有": (f"{BLOCK}\n\n# b\n关键：q\n答：q 和 k", "关键「k」也出现在 b"),
    "追问没有追答": (f"{BLOCK}\n追问：为什么？", "没有追答"),
    "两块同一种问法": (
        f"{BLOCK}\n\n# b\n关键：q\n答：q\n问：甲是什么",
        "在 x # a 里也有",
    ),
    "两块同一个别名": (
        f"{BLOCK}\n\n# b\n别名：甲\n关键：q\n答：q",
        "别名「甲」已经属于 a",
    ),
}


@pytest.mark.parametrize(("text", "words"), PROBLEMS.values(), ids=PROBLEMS.keys())
def test_problems_are_found(text, words, monkeypatch):
    monkeypatch.setattr(corpus, "entries", lambda: corpus.parse(text, "x"))
    assert [problem for problem in corpus.problems() if words in problem], (
        corpus.problems()
    )

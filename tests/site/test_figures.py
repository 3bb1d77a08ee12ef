"""插图里的数，与另一条路算出的相同；提交的就是此刻画出的，由页面上引入它的那一项证明。"""

import ast
import json
import re
from itertools import groupby, pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from dashscope import get_tokenizer
from tokenizers import Tokenizer

from tests.harness import session

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ROOT / "docs/assets/figures"
JIEZI = ROOT / "examples/jiezi"
PROMPT = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)


@pytest.fixture(scope="module")
def jiezi():
    return Tokenizer.from_file(str(JIEZI / "tokenizer.json"))


@pytest.fixture(scope="module")
def qwen():
    return get_tokenizer("qwen-7b-chat")


def shapes(name, tag):
    """提交的插图里的元素：[(类名的集合, 属性, 文字)]。"""
    root = ElementTree.parse(FIGURES / f"{name}.svg").getroot()
    return [
        (set(e.get("class", "").split()), e.attrib, "".join(e.itertext()))
        for e in root.iter(tag)
    ]


def rows(name, *styles):
    """一行行的等宽字，从上到下；同一行里从左到右。"""
    found = [e for e in shapes(name, "text") if {"mono", *styles} <= e[0]]
    found.sort(key=lambda e: (float(e[1]["y"]), float(e[1]["x"])))
    return [
        [words for *_, words in row]
        for _, row in groupby(found, key=lambda e: e[1]["y"])
    ]


def introduction():
    """首页上，它对第一个问题「你是谁？」的回答；那段输出是真的跑出来比过的。"""
    script = (ROOT / "examples/local/ask.sh").read_text("utf-8")
    assert '[start:hello]\npython examples/local/ask.py "你是谁？"' in script
    page = (ROOT / "docs/index.md").read_text("utf-8")
    return re.search(
        '^--8<-- "local/ask.sh:hello"\n```\n\n```text .*\n(.*)$', page, re.M
    )[1]


def test_every_figure_is_drawn_and_shown():
    """一幅图一个模块，都有页面引入。"""
    pages = "".join(path.read_text("utf-8") for path in (ROOT / "docs").rglob("*.md"))
    figures = {path.stem for path in FIGURES.glob("*.svg")}
    modules = {path.stem for path in (ROOT / ".mkdocs/figures").glob("*/*.py")}
    assert {name.replace("-", "_") for name in figures} == modules - {"distribution"}
    assert [name for name in figures if f'--8<-- "{name}.svg"' not in pages] == []


def test_four_steps(jiezi):
    lines = [words for row in rows("four-steps") for words in row]
    prompt = PROMPT.format("你是谁？")
    assert "".join(line.replace("↵", "\n") for line in lines if "↵" in line) == prompt
    messages = "".join(lines[:2]).replace("\u00a0", " ")
    assert json.loads(messages) == [{"role": "user", "content": "你是谁？"}]
    ids = [
        int(i) for line in lines if re.fullmatch("[0-9 ]+", line) for i in line.split()
    ]
    prompt_ids = jiezi.encode(prompt).ids
    written = jiezi.decode(ids[len(prompt_ids) :], skip_special_tokens=False)
    assert written == introduction() + "<|im_end|>"
    assert ids == prompt_ids + jiezi.encode(written).ids
    plain = [
        words for style, _, words in shapes("four-steps", "text") if "mono" not in style
    ]
    assert f"前 {len(prompt_ids)} 个还是提示语，后面是新写的" in plain
    assert "".join(plain).endswith(written.removesuffix("<|im_end|>"))


@pytest.mark.skipif(
    not (JIEZI / "model.safetensors").exists(), reason="还没有芥子的权重"
)
def test_four_steps_is_what_jiezi_writes(jiezi):
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(JIEZI, dtype=torch.float32).eval()
    prompt = torch.tensor([jiezi.encode(PROMPT.format("你是谁？")).ids])
    output = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        repetition_penalty=1.0,
        max_new_tokens=64,
    )
    lines = [words for row in rows("four-steps") for words in row]
    drawn = " ".join(line for line in lines if re.fullmatch("[0-9 ]+", line))
    assert [int(i) for i in drawn.split()] == output[0].tolist()


def test_bpe(qwen):
    """合并的先后与页面上的 bpe 函数一样，编号与 Qwen2 的分词器一样。"""
    tree = ast.parse((ROOT / "examples/local/encode.py").read_text("utf-8"))
    tree.body = [node for node in tree.body if getattr(node, "name", "") == "bpe"]
    scope = {"pairwise": pairwise}
    exec(compile(tree, "encode.py", "exec"), scope)

    class Ranks(dict):
        def __contains__(self, token):
            return len(qwen.encode(token.decode())) == 1

        def __getitem__(self, token):
            return qwen.encode(token.decode())[0]

    letters, *merges, result, ids = rows("bpe")
    *_, parts = steps = [
        [part.decode() for part in parts]
        for parts in scope["bpe"]("congratulation", Ranks())
    ]
    assert letters == steps[0] == list("congratulation")
    assert result == parts == ["con", "gr", "at", "ulation"]
    assert [int(i) for i in ids] == qwen.encode("congratulation")
    split = letters
    for (token, rank), after in zip(merges, steps[1:], strict=True):
        assert qwen.encode(token) == [int(rank)]
        at = next(
            i
            for i, (old, new) in enumerate(zip(split, after, strict=False))
            if old != new
        )
        assert after[at] == token
        split = after


def test_padding(jiezi):
    """每行画开头三格与末尾四格，下面是它们的掩码。"""
    short, long = (
        jiezi.encode(PROMPT.format(q)).ids for q in ("你是谁？", "什么是因果掩码？")
    )
    pad, gap = jiezi.token_to_id("<|endoftext|>"), len(long) - len(short)
    assert gap > 0
    zeros, ones = [0] * gap, [1] * len(short)
    full = [1] * len(long)
    expected = [
        [pad] * gap + short,
        zeros + ones,
        long,
        full,
        short + [pad] * gap,
        ones + zeros,
        long,
        full,
    ]
    drawn = [
        [int(i) for i in row if i != "?"] for row in rows("padding") if row != ["?"]
    ]
    assert drawn == [row[:3] + row[-4:] for row in expected]
    assert rows("padding", "accent") == [[str(pad)], ["?"]]
    words = [words for *_, words in shapes("padding", "text")]
    assert words.count("接在 assistant↵ 后面") == 3 and words.count("接在填充后面") == 1
    assert (
        jiezi.decode(long[-2:]) == "assistant\n"
        and f"{pad} 是填充符 <|endoftext|>" in words
    )


def test_half_char(jiezi, qwen):
    data = "龘".encode()
    own, theirs = jiezi.encode("龘").ids, qwen.encode("龘")
    assert rows("half-char") == [
        [f"{b:02X}" for b in data],
        [str(i) for i in own],
        [str(i) for i in theirs],
    ]
    alone = [
        words
        for style, _, words in shapes("half-char", "text")
        if {"mid", "accent"} <= style
    ]
    assert (
        alone
        == [jiezi.decode([i]) for i in own]
        == [qwen.decode([i]) for i in theirs]
        == ["�"] * len(own)
    )
    whole = [
        words for style, _, words in shapes("half-char", "text") if style == {"mid"}
    ]
    assert whole == ["龘", jiezi.decode(own)] == ["龘", qwen.decode(theirs)]
    tokens = [
        (a["x"], a["width"])
        for style, a, _ in shapes("half-char", "rect")
        if "panel" in style
    ]
    assert tokens[: len(own)] == tokens[len(own) :], (
        "两份词表切的位置不同，「各自解码」不能共用一行"
    )


@pytest.fixture(scope="module")
def last_logits(jiezi):
    """一个问题之后、已经写了 new 之后，下一个 token 的 logits。"""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(JIEZI, dtype=torch.float32).eval()

    def logits(question, new=()):
        ids = torch.tensor([[*jiezi.encode(PROMPT.format(question)).ids, *new]])
        with torch.no_grad():
            return ids, model(ids).logits[:, -1]

    return logits


def test_loop(jiezi, last_logits):
    """图里的 token 是贪心一步一步写出来的；每一步的输出折下来，正落在下一步的最后一格上。"""
    new = []
    while not new or new[-1] != jiezi.token_to_id("<|im_end|>"):
        new.append(last_logits("什么是 token？", new)[1].argmax().item())
    words = [jiezi.decode([i], skip_special_tokens=False).strip() for i in new]
    drawn = [
        (float(a["y"]), float(a["x"]), style, text)
        for style, a, text in shapes("loop", "text")
        if "mid" in style and "muted" not in style and text != "提示语"
    ]
    lines = [list(row) for _, row in groupby(sorted(drawn), key=lambda e: e[0])]
    expected = [words[: n + 1] for n in range(4)] + [["…", *words[-2:]]]
    assert [[text for *_, text in line] for line in lines] == expected
    for line in lines:  # 强调色：刚接上的和新写的
        accents = ["accent" in style for _, _, style, _ in line]
        assert accents == [False] * (len(line) - 2) + [True] * min(len(line), 2)
    steps = [text for _, _, text in shapes("loop", "text") if text.startswith("第 ")]
    assert steps == [f"第 {n} 步" for n in (1, 2, 3, 4, len(words))]
    folds = [
        [float(x) for x in re.findall(r"[MH]([\d.]+)", a["d"])]
        for style, a, _ in shapes("loop", "path")
        if "accent" in style and "H" in a["d"]
    ]
    assert folds == [[line[-1][1], below[-2][1]] for line, below in pairwise(lines[:4])]


@pytest.mark.parametrize("name", ["temperature", "sampling"])
def test_distributions(name, jiezi, last_logits):
    """每一格的数与条都是页面上的函数算出来的；去掉了的没有条。"""
    page = session.page("generate/sampling")
    [(*_, title)] = shapes(name, "title")
    question = re.match("「(.*?)」", title)[1]
    asked = page["tokenizer"].decode(page["input_ids"][0])
    assert asked == PROMPT.format(question)  # 页面上问的就是这一句
    ids, logits = last_logits(question)
    columns = {
        "temperature": {
            ("T=1", "原样"): logits,
            ("T=0.2", ""): page["temperature"](logits, 0.2),
            ("T=0.7", ""): page["temperature"](logits, 0.7),
            ("T=2", ""): page["temperature"](logits, 2.0),
        },
        "sampling": {
            ("原样", ""): logits,
            ("温度", "0.7"): page["temperature"](logits, 0.7),
            ("top-k", "2"): page["top_k"](logits, 2),
            ("top-p", "0.8"): page["top_p"](logits, 0.8),
            ("min-p", "0.5"): page["min_p"](logits, 0.5),
            ("惩罚", "1.1"): page["repetition_penalty"](logits, ids, 1.1),
        },
    }[name]
    best = logits[0].topk(6).indices.tolist()
    probs = [x.softmax(-1)[0, best].tolist() for x in columns.values()]
    texts = [(a, text) for _, a, text in shapes(name, "text")]
    tokens = [text for a, text in texts if a["x"] == "1.5"]
    assert tokens == [jiezi.decode([i]).strip() for i in best]
    places = sorted({float(a["x"]) for a, _ in texts if a["x"] != "1.5"})
    assert len(places) == len(columns)
    drawn = [[text for a, text in texts if float(a["x"]) == x] for x in places]
    assert [(head, value) for head, value, *_ in drawn] == list(columns)
    assert [cells[2:] for cells in drawn] == [
        [f"{p:.2f}" if p else "去掉" for p in column] for column in probs
    ]
    bars = [(float(a["x"]), float(a["width"])) for _, a, _ in shapes(name, "rect")]
    flat = [
        (x, p) for x, column in zip(places, probs, strict=True) for p in column if p
    ]
    unit = max(width for _, width in bars) / max(p for _, p in flat)
    assert [x for x, _ in bars] == [x for x, _ in flat]
    for (_, width), (_, p) in zip(bars, flat, strict=True):
        assert abs(width - p * unit) < 0.15


def test_kv_cache(jiezi):
    """每一步的列数与形状，是不用缓存一遍遍重算时得出的；实心的正是这一步送入的。"""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(JIEZI, dtype=torch.float32).eval()
    prompt = jiezi.encode(PROMPT.format("什么是 token？")).ids
    ids = torch.tensor([prompt])
    answer = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        repetition_penalty=1.0,
        max_new_tokens=100,
    )[0, len(prompt) :].tolist()
    steps = [1, 2, 3, 4, len(answer)]
    columns = [len(prompt) + n - 1 for n in steps]
    sent = [len(prompt), 1, 1, 1, 1]
    words = [words for *_, words in shapes("kv-cache", "text")]
    assert [w for w in words if w.startswith("第 ")] == [
        f"第 {n} 步，送入 {s} 个" for n, s in zip(steps, sent, strict=True)
    ]
    heads, dim = model.config.num_key_value_heads, 32
    assert model.model.layers[0].self_attn.k_proj.out_features == heads * dim
    assert [w for w in words if w.startswith("(")] == [
        f"(1, {heads}, {n}, {dim})" for n in columns
    ]
    assert f"这是一层，{model.config.num_hidden_layers} 层各有一份" in words
    new = [a["d"].count("M") for s, a, _ in shapes("kv-cache", "path") if "seed" in s]
    old = [a["d"].count("M") for s, a, _ in shapes("kv-cache", "path") if "box" in s]
    assert new == [s for s in sent for _ in "键值"]
    assert old == [n - 1 for n in columns[1:] for _ in "键值"]


def test_kv_time():
    """两条线的每个点，落在记下的毫秒数上；刻度与点用同一把尺。"""
    path = ROOT / "examples/generate/measured/kv_cache.json"
    record = json.loads(path.read_text("utf-8"))
    numbers = [
        (float(a["x"]), float(a["y"]), int(words))
        for _, a, words in shapes("kv-time", "text")
        if words.isdigit()
    ]
    ticks = {
        "x": [(x, n) for x, y, n in numbers if x != numbers[0][0]],
        "y": [(y - 4.5, n) for x, y, n in numbers if x == numbers[0][0]],
    }

    def read(axis, place):
        (p, low), *_, (q, high) = ticks[axis]
        return low + (place - p) / (q - p) * (high - low)

    curves = [
        [tuple(map(float, point.split(","))) for point in a["points"].split()]
        for _, a, _ in shapes("kv-time", "polyline")
    ]
    assert len(curves) == 2
    for key, points in zip(("without_ms", "with_ms"), curves, strict=True):
        for length, ms, (x, y) in zip(
            record["lengths"], record[key], points, strict=True
        ):
            assert read("x", x) == pytest.approx(length, abs=1)
            assert read("y", y) == pytest.approx(ms, abs=0.1)


def test_tensor_parallel():
    """图里的形状是权重文件里的形状对半切；框住的一半一上一下、一左一右。"""
    from safetensors import safe_open

    names = ["gate", "up", "down"]
    with safe_open(JIEZI / "model.safetensors", "np") as weights:
        shapes_in_file = [
            weights.get_slice(f"model.layers.0.mlp.{name}_proj.weight").get_shape()
            for name in names
        ]
    [width, hidden], [*up], [*down] = shapes_in_file
    assert up == [width, hidden] and down == [hidden, width]
    words = [words for *_, words in shapes("tensor-parallel", "text")]
    half = width // 2
    assert words.count(f"各 {half}×{hidden}") == words.count(f"{hidden}×{half}") == 2
    assert words.count(f"{half} 个数") == 2 and f"各 {hidden} 个数" in words
    assert [f"{letter}  {hidden} 个数" in words for letter in "xy"] == [True, True]

    def sides(style):
        return [
            [float(a[key]) for key in ("x", "y", "width", "height")]
            for found, a, _ in shapes("tensor-parallel", "rect")
            if style in found and not a.get("rx", "0").startswith("4")
        ]

    whole, owned = sides("wire"), sides("now")
    assert len(whole) == len(owned) == 6
    for n, ((x, y, w, h), (x2, y2, w2, h2)) in enumerate(
        zip(whole, owned, strict=True)
    ):
        process, rows = n // 3, n % 3 < 2  # 一个进程三块：gate、up 切行，down 切列
        offset = process * (h if rows else w) / 2
        want = (x, y + offset, w, h / 2) if rows else (x + offset, y, w / 2, h)
        assert (x2, y2, w2, h2) == pytest.approx(want, abs=0.01)
        assert (h / w if rows else w / h) == pytest.approx(width / hidden, rel=1e-3)


def measured(name):
    path = ROOT / f"examples/generate/measured/{name}.json"
    return json.loads(path.read_text("utf-8"))


def test_ladder():
    """每一级的名字、数、条的长短与细线的两端，都是记下的那一次。"""
    rungs = [rung for rung in measured("faster") if rung["model"] == "jiezi"]
    texts = [words for *_, words in shapes("ladder", "text")]
    assert texts[::2] == [rung["name"] for rung in rungs]
    speeds = [rung["tokens_per_second"] for rung in rungs]
    assert texts[1::2] == [f"{speed:,.0f}" for speed in speeds]
    bars = [a for _, a, _ in shapes("ladder", "rect")]
    unit = float(bars[0]["width"]) / speeds[0]
    lines = [
        re.findall(r"[MH]([\d.]+)", a["d"]) for _, a, _ in shapes("ladder", "path")
    ]
    for bar, line, rung in zip(bars, lines, rungs, strict=True):
        drawn = [float(bar["width"]), *(float(x) - float(bar["x"]) for x in line)]
        wanted = [rung["tokens_per_second"], *rung["tokens_per_second_range"]]
        assert drawn == pytest.approx([x * unit for x in wanted], rel=0.01)
    single = [rung for rung in rungs if rung["batch"] == 1]
    best = max(range(len(single)), key=lambda n: single[n]["tokens_per_second"])
    accents = [n for n, bar in enumerate(bars) if "accent" in bar["style"]]
    assert accents == [best]

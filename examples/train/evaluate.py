"""评测芥子：把每一项量出来，连同区间写成模型卡里的那张表。

用法：
    python examples/train/evaluate.py --sets train dev              # 训练中用来调
    python examples/train/evaluate.py --sets train dev blind --card examples/jiezi/README.md   # 只为模型卡打开一次

blind 的问题与语料由不同的人各自写成；问法与语料（含训练时套的框架）相同的，评测前先剔除。
"""

import functools
import json
import math
import os
import random
import sys
from pathlib import Path

import context
import corpus
import torch
from context import SYSTEM
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

MAX_NEW_TOKENS = 200
BATCH = 64
BEGIN, END = "<!-- {}：开始 -->", "<!-- {}：结束 -->"
GREEDY = dict(
    do_sample=False, repetition_penalty=1.0, temperature=None, top_p=None, top_k=None
)
SAMPLED = dict(
    do_sample=True, repetition_penalty=1.0, temperature=1.0, top_p=1.0, top_k=0
)


def load(folder):
    """读入模型与分词器；CPU 上用 float32。"""
    if not Path(folder, "config.json").exists():
        sys.exit(
            f"找不到模型文件夹 {folder}：先运行 python examples/train/train.py --out {folder}"
        )
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32
    ).eval(), tokenizer


def answer_all(model, tokenizer, talks, settings=GREEDY):
    """对每段对话（最后一句是问题）生成回答。

    Args:
        talks: messages 列表的列表。
        settings: 给 generate 的参数；GREEDY 贪心，SAMPLED 照温度 1 的整个分布抽，{} 用模型自带的默认值。

    Returns:
        与 talks 同序的 (token 列表（不含结束符）, 文本, 是否自己停下)。
    """
    order = sorted(
        range(len(talks)), key=lambda i: sum(len(m["content"]) for m in talks[i])
    )
    results = [None] * len(talks)
    for start in tqdm(range(0, len(order), BATCH), unit="批", leave=False):
        chosen = order[start : start + BATCH]
        inputs = tokenizer.apply_chat_template(
            [talks[i] for i in chosen],
            add_generation_prompt=True,
            padding=True,
            return_dict=True,
            return_tensors="pt",
        )
        with torch.inference_mode():
            output = model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, **settings)
        for i, row in zip(
            chosen, output[:, inputs["input_ids"].size(1) :].tolist(), strict=True
        ):
            ends = [
                row.index(e) for e in model.generation_config.eos_token_id if e in row
            ]
            new = row[: min(ends)] if ends else row
            text = tokenizer.decode(new, skip_special_tokens=True)
            results[i] = (new, text, bool(ends))
    return results


def is_utf8(tokenizer, ids):
    """这些 token 的字节接起来是不是完整的 UTF-8；只看文本里有没有 � 不行，回答里可以有真的 �。"""
    byte_of = {char: byte for byte, char in bytes_to_unicode().items()}
    try:
        tokens = tokenizer.convert_ids_to_tokens(ids)
        bytes(byte_of[char] for token in tokens for char in token).decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def as_messages(turns, system=SYSTEM):
    """[(问, 答), …, (问, 答)] → 不含最后一句回答的 messages。"""
    messages = [{"role": "system", "content": system}]
    for question, answer in turns:
        messages += [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    return messages[:-1]


@functools.cache
def wordings():
    """训练见过的问法，都已归一化：(语料里的，框架的 (前半, 后半)，填得进框架的名字)。"""
    said = {corpus.normalize(talk[0][0]) for talk in corpus.dialogues()}
    frames = {
        tuple(map(corpus.normalize, frame.split("{}"))) for frame in corpus.frames()
    }
    names = [a for e in corpus.entries() for a in e.aliases] + corpus.lines("nouns")
    return said, frames, set(map(corpus.normalize, names))


def was_seen(question):
    """训练见过这样问吗：语料里的问法，或框架套上一个别名、一个外来名词。"""
    said, frames, names = wordings()
    q = corpus.normalize(question)
    cuts = range(len(q) + 1)
    return q in said or any(
        (q[:i], q[j:]) in frames and q[i:j] in names for i in cuts for j in cuts[i:]
    )


def judge_train(model, tokenizer, limit=None):
    """语料里的每段对话（多轮的看最后一轮），回答与语料里的一种逐字相同才算对。"""
    talks = corpus.dialogues()
    talks += [talk[:n] for talk in talks if len(talk) > 1 for n in range(2, len(talk))]
    talks = talks[:: max(1, len(talks) // limit)] if limit else talks
    asked = [as_messages([(q, answers[0]) for q, answers in talk]) for talk in talks]
    results = answer_all(model, tokenizer, asked)
    wrong = [
        (talk[-1][0], text)
        for talk, (_, text, _) in zip(talks, results, strict=True)
        if text not in talk[-1][1]
    ]
    return {"training": (len(talks) - len(wrong), len(talks))}, results, wrong


def is_right(q, text, entries):
    """一道题答对了没有：没学过的要说没学过，写明 want 的要有其中一个，其余要有这个概念的「关键」。"""
    if q["kind"] in ("off-topic", "near-miss"):
        return corpus.DECLINED in text
    if q["kind"] == "repeat":
        return text == q["want"][0]
    return any(k in text for k in q.get("want") or entries[q["concept"]].keys)


def turns_of(q, entries):
    """一道题的对话；before 是前一问，前一问的回答取语料里的第一种。"""
    before = [(q["before"], entries[q["concept"]].replies[0])] if "before" in q else []
    return [*before, (q["question"], "")]


def judge_held_out(model, tokenizer, name):
    """dev 或 blind。返回 ({种类: (对, 总)}, 结果, 答错的, 剔除了几道)。"""
    every = corpus.load_eval(name)
    entries = {e.id: e for e in corpus.entries()}
    questions = [q for q in every if "before" in q or not was_seen(q["question"])]
    talks = [as_messages(turns_of(q, entries)) for q in questions]
    results = answer_all(model, tokenizer, talks)
    counts, wrong = {}, []
    for q, (_, text, _) in zip(questions, results, strict=True):
        right = is_right(q, text, entries)
        good, total = counts.get(q["kind"], (0, 0))
        counts[q["kind"]] = (good + right, total + 1)
        if not right:
            wrong.append((q["kind"], q["concept"], q["question"], text))
    return counts, results, wrong, len(every) - len(questions)


def names_of(stratum, count):
    """评测用的名字：seen 训练里常见的，new 字见过而没有这样组合过，unseen 有从没进过名字的字。"""
    rng, found = random.Random(f"评测 {stratum}"), []
    while len(found) < count:
        if stratum == "seen":
            found.append(rng.choice(context.seen_names()))
        elif stratum == "unseen":
            found.append(context.make_name(rng, context.name_parts()["别的名"]))
        elif corpus.held_out(name := context.make_name(rng)):
            found.append(name)
    return found


def judge_context(model, tokenizer, stratum="new", count=200):
    """名字与跟念。返回 ({任务: (对, 总)}, 结果, 答错的)。"""
    rng, part = random.Random(f"评测 {stratum} {count}"), context.phrases()
    entries = [e for e in corpus.entries() if e.aliases]
    tasks = {"system": [], "told": [], "later": []}
    for name in names_of(stratum, count):
        system = rng.choice(part["系统里的名字"]["系统"]).replace("{}", name)
        asked = rng.choice(part["系统里的名字"]["问"])
        tasks["system"].append((as_messages([(asked, "")], system), name))
        told, recalled = context.tell_name(rng, name), context.recall(rng, name)
        e = rng.choice(entries)
        between = (rng.choice(e.questions), e.replies[0])
        tasks["told"].append((as_messages([told, recalled]), name))
        tasks["later"].append((as_messages([told, between, recalled]), name))
    if stratum == "new":
        tasks["untold"], tasks["repeat"] = [], []
        for _ in range(count):
            e = rng.choice(entries)
            before = [(rng.choice(e.questions), e.replies[0])] * (rng.random() < 0.5)
            tasks["untold"].append((as_messages([*before, context.recall(rng)]), None))
            while not corpus.held_out(
                phrase := "".join(
                    rng.choices(context.characters(), k=rng.randint(3, 8))
                )
            ):
                pass
            asked = rng.choice(part["跟念"]["问"]).replace("{}", phrase)
            tasks["repeat"].append((as_messages([(asked, "")]), phrase))
    counts, every, wrong = {}, [], []
    for task, rows in tasks.items():
        results = answer_all(model, tokenizer, [messages for messages, _ in rows])
        every += results
        good = 0
        for (messages, want), (_, text, _) in zip(rows, results, strict=True):
            right = (
                text in part["问名字"]["没说"]
                if task == "untold"
                else text == want
                if task == "repeat"
                else want in text
            )
            good += right
            if not right:
                wrong.append((task, want, messages[-1]["content"], text))
        counts[task] = good, len(rows)
    return counts, every, wrong


def judge_systems(model, tokenizer, name="dev"):
    """系统要求一句话、写出英文名：拿没见过的问法来问。"""
    entries = {e.id: e for e in corpus.entries()}
    asked = [q for q in corpus.load_eval(name) if q["kind"] == "named"]
    rng, counts, wrong = random.Random("评测"), {}, []
    for task, section in (("short", "一句话"), ("english", "写出英文名")):
        rows = [q for q in asked if task == "short" or entries[q["concept"]].english]
        systems = context.phrases()[section]["系统"]
        talks = [as_messages([(q["question"], "")], rng.choice(systems)) for q in rows]
        good = 0
        for q, (_, text, _) in zip(
            rows, answer_all(model, tokenizer, talks), strict=True
        ):
            right = (
                text.count("。") == 1
                if task == "short"
                else entries[q["concept"]].english in text.partition("英文名：")[2]
            )
            good += right
            if not right:
                wrong.append((task, q["concept"], q["question"], text))
        counts[task] = good, len(rows)
    return counts, wrong


def judge_variety(model, tokenizer, samples=10):
    """温度 1、不截断，每个概念问十遍：几种文本、几次有关键、每个 token 的熵、第一步有几个像样的候选。"""
    entries = [e for e in corpus.entries() if e.aliases]
    talks = [as_messages([(e.questions[0], "")]) for e in entries]
    torch.manual_seed(0)
    every = answer_all(
        model, tokenizer, [t for t in talks for _ in range(samples)], SAMPLED
    )
    texts = [
        [text for _, text, _ in every[i : i + samples]]
        for i in range(0, len(every), samples)
    ]
    good = sum(
        any(k in text for k in e.keys)
        for e, ts in zip(entries, texts, strict=True)
        for text in ts
    )
    entropies, wide = [], 0
    for i, talk in enumerate(talks):
        prompt = tokenizer.apply_chat_template(
            talk, add_generation_prompt=True, return_dict=True
        ).input_ids
        ids = torch.tensor([prompt + every[i * samples][0]])
        with torch.inference_mode():
            logp = model(input_ids=ids).logits[0, len(prompt) - 1 :].log_softmax(-1)
        entropies += (-(logp.exp() * logp).sum(-1)).tolist()
        wide += int((logp[0].exp() > 0.1).sum()) >= 3
    return {
        "texts": sum(len(set(ts)) for ts in texts) / len(texts),
        "key": (good, len(every)),
        "entropy": sum(entropies) / len(entropies),
        "wide": (wide, len(entries)),
    }


@torch.inference_mode()
def judge_zaodian(model, tokenizer):
    """「早点」：问意思；接在「早点」后面，自己的下文比另一个意思的下文更可能；各层的向量分不分得开。

    Returns:
        ({"asked" | "continue": (对, 总)}, 每层（含嵌入）分对的比例)。都用留出的句子；分开看离哪一类的平均向量近。
    """
    pairs = corpus.zaodian()
    kept = [(s, a) for s, a in pairs if corpus.held_out(s)]
    frames = corpus.lines("zaodian-frames")
    asked = [(f.replace("{}", s), a) for s, a in kept for f in frames]
    results = answer_all(model, tokenizer, [as_messages([(q, "")]) for q, _ in asked])
    good = sum(text == a for (_, a), (_, text, _) in zip(asked, results, strict=True))
    counts = {"asked": (good, len(asked))}

    def surprise(before, after):
        """接着 before 写出 after 的平均损失，nats/token。"""
        head = tokenizer(before).input_ids
        ids = torch.tensor([head + tokenizer(after).input_ids])
        logits = model(input_ids=ids).logits[0, len(head) - 1 : -1]
        return torch.nn.functional.cross_entropy(logits, ids[0, len(head) :]).item()

    halves = [
        (s.partition("早点")[0] + "早点", s.partition("早点")[2], a) for s, a in kept
    ]
    halves = [h for h in halves if len(h[0]) > 2 and len(h[1]) > 1]
    rng, good = random.Random("评测"), 0
    for before, after, meaning in halves:
        other = rng.choice([h[1] for h in halves if h[2] != meaning])
        good += surprise(before, after) < surprise(before, other)
    counts["continue"] = good, len(halves)

    def vectors(sentence):
        ids = tokenizer(sentence.partition("早点")[0] + "早点", return_tensors="pt")
        states = model(**ids, output_hidden_states=True).hidden_states
        return torch.stack([h[0, -1] for h in states])  # (层, 隐藏)

    known = [(vectors(s), a) for s, a in corpus.zaodian_for_training()]
    centers = [
        torch.stack([v for v, a in known if a == meaning]).mean(0)
        for meaning in (corpus.EARLY, corpus.BREAKFAST)
    ]
    right = torch.zeros(centers[0].size(0))
    for sentence, meaning in kept:
        near = [(vectors(sentence) - center).norm(dim=-1) for center in centers]
        right += (near[0] < near[1]) == (meaning == corpus.EARLY)
    return counts, (right / len(kept)).tolist()


def interval(good, total):
    """比例的 95 % 区间（Wilson）：题少，区间就宽。

    >>> [round(x, 3) for x in interval(190, 200)]
    [0.91, 0.973]
    """
    z, p = 1.96, good / total
    middle, half = (
        p + z * z / 2 / total,
        z * math.sqrt(p * (1 - p) / total + (z / 2 / total) ** 2),
    )
    return (middle - half) / (1 + z * z / total), (middle + half) / (1 + z * z / total)


def share(*pairs):
    """几组 (对, 总) 合起来：(带区间的文字, 比例)。"""
    good, total = (sum(column) for column in zip(*pairs, strict=True))
    low, high = interval(good, total)
    return f"{good / total:.1%}（{good}/{total}，{low:.0%}–{high:.0%}）", good / total


def table(rows):
    """[(项目, 结果文字, 数值, 目标或 None)] → Markdown 表。"""
    head = "| 项目 | 结果（95 % 区间） | 目标 | 达到 |\n|---|---|---|---|\n"

    def aim(goal):
        return "—" if goal is None else f"≥ {goal:.0%}" if goal <= 1 else f"≥ {goal:g}"

    body = [
        f"| {name} | {text} | {aim(goal)} | {'—' if goal is None else '是' if value >= goal else '**否**'} |"
        for name, text, value, goal in rows
    ]
    return head + "\n".join(body)


def held_out_rows(name, counts):
    """dev 或 blind 的几行。"""

    def row(title, goal, *kinds):
        pairs = [counts[kind] for kind in kinds if kind in counts]
        return [(title, *share(*pairs), goal)] if pairs else []

    return [
        *row(f"{name}：换一种问法，答出关键事实", 0.90, "named", "described"),
        *row("　其中只描述、不点名的", 0.80, "described"),
        *row(f"{name}：问它自己，不论怎样问", 0.95, "identity"),
        *row(f"{name}：不相干的，说没有学过", 0.92, "off-topic"),
        *row(f"{name}：似是而非的，说没有学过", 0.85, "near-miss"),
        *row(f"{name}：追问（它、这个、那……呢）", 0.85, "follow-up"),
        *row(f"{name}：跟念平常的短句", 0.80, "repeat"),
    ]


def context_rows(model, tokenizer, count=200):
    """读上文的几行：三层名字，跟念，没说过，系统的要求。"""
    titles = {
        "system": "系统里给的名字，答得出",
        "told": "上一轮说过的名字，答得出",
        "later": "中间隔一问，还答得出",
    }
    levels = {
        "new": "新的组合",
        "seen": "训练里见过的名字",
        "unseen": "有从没进过名字的字",
    }
    rows, every, wrong = [], [], []
    for stratum, words in levels.items():
        new = stratum == "new"
        counts, results, missed = judge_context(
            model, tokenizer, stratum, count if new else count // 2
        )
        rows += [
            (f"{title}：{words}", *share(counts[task]), 0.95 if new else None)
            for task, title in titles.items()
        ]
        if new:
            rows.append(("没说过名字，说没有告诉", *share(counts["untold"]), 0.95))
            rows.append(("跟念胡乱凑的 3 到 8 个字", *share(counts["repeat"]), 0.80))
        every, wrong = every + results, wrong + missed
    counts, missed = judge_systems(model, tokenizer)
    rows.append(("系统要求一句话，只答一句", *share(counts["short"]), None))
    rows.append(("系统要求英文名，写得对", *share(counts["english"]), None))
    return rows, every, wrong + missed


def variety_rows(model, tokenizer):
    found = judge_variety(model, tokenizer)
    wide, total = found["wide"]
    return [
        ("温度 1 抽十次，平均几种文本", f"{found['texts']:.2f}", found["texts"], 4),
        ("　其中有关键事实的", *share(found["key"]), 0.90),
        ("　每个 token 的熵（nats）", f"{found['entropy']:.3f}", 0, None),
        ("　第一步有三个候选各超过 10 %", f"{wide} 个概念（共 {total}）", wide, None),
    ]


def zaodian_rows(model, tokenizer):
    counts, layers = judge_zaodian(model, tokenizer)
    shares = "、".join(f"{share:.0%}" for share in layers)
    return [
        ("早点：留出的句子，问得出意思", *share(counts["asked"]), 0.95),
        ("早点：下文合乎意思", *share(counts["continue"]), None),
        ("早点：嵌入与各层的向量分得开", shares, 0, None),
    ]


def training_table(facts):
    """train.py 写的 training.json → 模型卡里的表。"""
    versions = "，".join(
        f"{name} {number}" for name, number in facts["versions"].items()
    )
    rows = {
        "权重的 sha256": f"`{facts['sha256']}`",
        "语料的指纹": f"`{facts['corpus']}`",
        "种子、轮数、步数": f"{facts['seed']}、{facts['epochs']}、{facts['steps']:,}",
        "读过的 token（含填充）": f"{facts['tokens']:,}",
        "末尾损失": f"{facts['loss']} nats/token",
        "用时": f"{facts['seconds'] / 60:.0f} 分钟，{facts['threads']} 个线程，{facts['date']}",
        "版本": versions,
    }
    return "| 项目 | 值 |\n|---|---|\n" + "\n".join(
        f"| {name} | {value} |" for name, value in rows.items()
    )


def fill(card, name, text):
    """把模型卡里两个记号之间换成 text；别的不动。"""
    begin, end = BEGIN.format(name), END.format(name)
    head, _, rest = card.partition(begin)
    return f"{head}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}"


def main():
    parser = corpus.Parser("评测芥子。")
    parser.options.add_argument(
        "--model", default=os.environ.get("MODEL", "examples/jiezi"), help="模型文件夹"
    )
    parser.options.add_argument(
        "--sets",
        nargs="+",
        choices=["train", "dev", "blind", "context", "variety", "zaodian"],
        default=["train", "dev", "context", "variety", "zaodian"],
        help="量哪些",
    )
    parser.options.add_argument("--limit", type=int, help="训练题只抽查大约这么多道")
    parser.options.add_argument(
        "--wrong",
        type=corpus.writable_file,
        metavar="FILE",
        help="把答错的题写成 JSONL",
    )
    parser.options.add_argument(
        "--card", type=corpus.writable_file, metavar="FILE", help="把表写进模型卡"
    )
    args = parser.parse_args()
    if args.card and not args.card.is_file():
        parser.error(f"没有模型卡 {args.card}：--card 只改写已有的那一份")
    model, tokenizer = load(args.model)
    rows, everything, mistakes = [], [], []
    for name in args.sets:
        results, wrong = [], []
        if name == "train":
            counts, results, wrong = judge_train(model, tokenizer, args.limit)
            title = "训练集：贪心，与语料里的一种逐字相同"
            rows.append((title, *share(counts["training"]), 0.95))
        elif name in ("dev", "blind"):
            counts, results, wrong, dropped = judge_held_out(model, tokenizer, name)
            rows += held_out_rows(name, counts)
            print(f"{name}：剔除了 {dropped} 道与语料或框架同样问法的题")
        elif name == "context":
            new, results, wrong = context_rows(model, tokenizer)
            rows += new
        elif name == "variety":
            rows += variety_rows(model, tokenizer)
        else:
            rows += zaodian_rows(model, tokenizer)
        everything += results
        mistakes += wrong
    if everything:
        stopped = sum(ends for *_, ends in everything), len(everything)
        whole = sum(is_utf8(tokenizer, ids) for ids, *_ in everything), len(everything)
        rows.append(("200 个 token 以内自己停下", *share(stopped), 0.99))
        rows.append(("是完整的 UTF-8", *share(whole), 0.99))
    print(table(rows))
    if args.wrong:
        args.wrong.write_text(
            "".join(json.dumps(w, ensure_ascii=False) + "\n" for w in mistakes),
            encoding="utf-8",
        )
    if args.card:
        card = fill(args.card.read_text(encoding="utf-8"), "评测表", table(rows))
        training = Path(args.model, "training.json")
        if training.exists():
            facts = json.loads(training.read_text(encoding="utf-8"))
            card = fill(card, "训练记录", training_table(facts))
        args.card.write_text(card, encoding="utf-8")


if __name__ == "__main__":
    main()

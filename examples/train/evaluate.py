"""评测芥子：贪心生成，把结果写成模型卡里的那张表。

用法：
    python examples/train/evaluate.py --sets train dev              # 训练中用来调
    python examples/train/evaluate.py --sets train blind --card examples/jiezi/README.md   # 只为模型卡打开一次

blind 的问题与语料由不同的人各自写成；问法与语料（含训练时套的框架）相同的，评测前先剔除。
"""

import functools
import json
import os
import sys
from pathlib import Path

import corpus
import torch
from tokenizer import SYSTEM
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

MAX_NEW_TOKENS = 200
BATCH = 64
BEGIN, END = "<!-- 评测表：开始 -->", "<!-- 评测表：结束 -->"


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


def answer_all(model, tokenizer, talks, sampled=False):
    """对每段对话（最后一句是问题）生成回答。

    Args:
        talks: messages 列表的列表。
        sampled: True 时用模型自带的抽样默认值，False 时贪心，且不加重复惩罚。

    Returns:
        与 talks 同序的 (token 列表（含结束符）, 文本, 是否自己停下)。
    """
    order = sorted(
        range(len(talks)), key=lambda i: sum(len(m["content"]) for m in talks[i])
    )
    results = [None] * len(talks)
    settings = (
        {}
        if sampled
        else {
            "do_sample": False,
            "repetition_penalty": 1.0,
            "temperature": None,
            "top_p": None,
            "top_k": None,
        }
    )
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
            results[i] = (
                new,
                tokenizer.decode(new, skip_special_tokens=True),
                bool(ends),
            )
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


def as_messages(turns):
    """[(问, 答), …, (问, 答)] → 不含最后一句回答的 messages。"""
    messages = [{"role": "system", "content": SYSTEM}]
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
    """语料里的每段对话（多轮的看最后一轮），回答与语料逐字相同才算对。"""
    talks = corpus.dialogues()
    talks += [talk[:n] for talk in talks if len(talk) > 1 for n in range(2, len(talk))]
    talks = talks[:: max(1, len(talks) // limit)] if limit else talks
    results = answer_all(model, tokenizer, [as_messages(t) for t in talks])
    wrong = [
        (t[-1][0], text)
        for t, (_, text, _) in zip(talks, results, strict=True)
        if text != t[-1][1]
    ]
    return {"training": (len(talks) - len(wrong), len(talks))}, results, wrong


def judge_held_out(model, tokenizer, name, sampled=False):
    """dev 或 blind：答案里有该概念的关键事实才算对，跑题的要说没学过。"""
    every = corpus.load_eval(name)
    questions = [q for q in every if not was_seen(q["question"])]
    keys = {e.id: e.keys for e in corpus.entries()}
    results = answer_all(
        model,
        tokenizer,
        [as_messages([(q["question"], "")]) for q in questions],
        sampled,
    )
    counts, wrong = {}, []
    for q, (_, text, _) in zip(questions, results, strict=True):
        right = (
            any(k in text for k in keys[q["concept"]])
            if q["concept"]
            else text.startswith(corpus.DECLINE[:9])
        )
        good, total = counts.get(q["kind"], (0, 0))
        counts[q["kind"]] = (good + right, total + 1)
        if not right:
            wrong.append((q["kind"], q["concept"], q["question"], text))
    return counts, results, wrong, len(every) - len(questions)


def share(*pairs):
    good, total = (sum(column) for column in zip(*pairs, strict=True))
    return f"{good / total:.1%}（{good}/{total}）", good / total


def table(rows):
    """[(项目, 结果文字, 比例, 目标比例或 None)] → Markdown 表。"""
    head = "| 项目 | 结果 | 目标 | 达到 |\n|---|---|---|---|\n"
    body = [
        f"| {name} | {text} | {f'≥ {goal:.0%}' if goal else '—'} | {'—' if not goal else '是' if value >= goal else '**否**'} |"
        for name, text, value, goal in rows
    ]
    return head + "\n".join(body)


def main():
    parser = corpus.Parser("评测芥子。")
    parser.options.add_argument(
        "--model", default=os.environ.get("MODEL", "examples/jiezi"), help="模型文件夹"
    )
    parser.options.add_argument(
        "--sets",
        nargs="+",
        choices=["train", "dev", "blind"],
        default=["train", "dev"],
        help="用哪些题",
    )
    parser.options.add_argument("--limit", type=int, help="训练题只抽查大约这么多道")
    parser.options.add_argument(
        "--sampled",
        action="store_true",
        help="另用抽样默认值（温度 0.7）答一遍，只报告",
    )
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
    torch.manual_seed(0)
    rows, everything, mistakes = [], [], []
    for name in args.sets:
        if name == "train":
            counts, results, wrong = judge_train(model, tokenizer, args.limit)
            rows.append(("训练集：回答逐字相同", *share(counts["training"]), 0.95))
        else:
            counts, results, wrong, dropped = judge_held_out(model, tokenizer, name)
            rows += [
                (
                    f"{name}：换一种问法，答出关键事实",
                    *share(counts["named"], counts["described"]),
                    0.85,
                ),
                ("　其中点了名的", *share(counts["named"]), None),
                ("　其中只描述的", *share(counts["described"]), None),
                (
                    f"{name}：没学过的，如实说没学过",
                    *share(counts["off-topic"], counts["near-miss"]),
                    0.80,
                ),
                ("　其中似是而非的", *share(counts["near-miss"]), None),
            ]
            print(f"{name}：剔除了 {dropped} 道与语料或框架同样问法的题")
            if args.sampled:
                counts, *_ = judge_held_out(model, tokenizer, name, sampled=True)
                rows.append(
                    (
                        f"{name}：同样的题，温度 0.7 抽样",
                        *share(counts["named"], counts["described"]),
                        None,
                    )
                )
        everything += results
        mistakes += wrong
    rows.append(
        (
            "200 个 token 以内自己停下",
            *share((sum(r[2] for r in everything), len(everything))),
            0.99,
        )
    )
    rows.append(
        (
            "是完整的 UTF-8",
            *share(
                (sum(is_utf8(tokenizer, r[0]) for r in everything), len(everything))
            ),
            1.0,
        )
    )
    print(table(rows))
    if args.wrong:
        args.wrong.write_text(
            "".join(json.dumps(w, ensure_ascii=False) + "\n" for w in mistakes),
            encoding="utf-8",
        )
    if args.card:
        head, _, rest = args.card.read_text(encoding="utf-8").partition(BEGIN)
        args.card.write_text(
            f"{head}{BEGIN}\n\n{table(rows)}\n\n{END}{rest.partition(END)[2]}",
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()

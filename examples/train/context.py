"""要读上文才答得出的对话：名字、跟念、系统的要求、追问。名字和短句每次另造，背不下来，只能去上文里找。

用法：
    python examples/train/context.py    # 每种打印几段
"""

import functools
import random
import re

import corpus

SYSTEM = "You are a helpful assistant."


@functools.cache
def phrases():
    """`corpus/context.txt`：{段名: {"系统" | "问" | "答" | "没说": [句子, …]}}。"""
    found = {}
    for line in corpus.lines("context"):
        if line.startswith("# "):
            part = found[line[2:]] = {}
        else:
            kind, _, text = line.partition("：")
            part.setdefault(kind, []).append(text)
    return found


@functools.cache
def name_parts():
    """`corpus/names.txt`：{"姓" | "名" | "别的名" | "英文": [字或名字, …]}；「别的名」训练时从不用在名字里。"""
    rows = (line.split("：", 1) for line in corpus.lines("names"))
    return {kind: text.split() for kind, text in rows}


def make_name(rng, given=None):
    """随手起一个名字：王小禾、王禾、小禾、阿禾、Tom；given 是名可以用的字，默认是训练用的那些。"""
    parts = name_parts()
    given = given or parts["名"]
    draw = rng.random()
    if draw < 0.08 and given is parts["名"]:
        return rng.choice(parts["英文"])
    if draw < 0.4:
        return rng.choice("小小小阿阿老大") + rng.choice(given)
    family = rng.choice(parts["姓"])
    return family + "".join(rng.choice(given) for _ in range(1 if draw < 0.6 else 2))


def new_name(rng):
    """训练用的名字：留给评测的那些不用；三成取自一小批常见的，其余每次新造。"""
    while True:
        seed = rng.randrange(200) if rng.random() < 0.3 else rng.random()
        name = make_name(random.Random(f"名字 {seed}"))
        if not corpus.held_out(name):
            return name


def seen_names():
    """训练里一再出现的那一小批名字。"""
    names = {make_name(random.Random(f"名字 {n}")) for n in range(200)}
    return sorted(name for name in names if not corpus.held_out(name))


@functools.cache
def spans():
    """跟念用的短句从哪里取：语料里不含标点的片段。"""
    texts = [t for e in corpus.entries() for t in e.answers + e.more + e.questions]
    texts += [s for s, _ in corpus.zaodian()] + corpus.lines("decline")
    found = {p for t in texts for p in re.findall(r"[\u4e00-\u9fff]{3,}", t)}
    return sorted(found)


@functools.cache
def characters():
    """语料里的汉字，各一次。"""
    return sorted(set("".join(spans())))


def new_phrase(rng):
    """三到八个字的短句：一半从语料里截一段，一半是胡乱凑的字、重复的词、名字、数字。"""
    size, draw = rng.randint(3, 8), rng.random()
    while True:
        if draw < 0.5:
            span = rng.choice(spans())
            start = rng.randint(0, max(0, len(span) - size))
            phrase = span[start : start + size]
        elif draw < 0.85:
            phrase = "".join(rng.choice(characters()) for _ in range(size))
        elif draw < 0.95:
            phrase = make_name(rng) + rng.choice(spans())[:4]
        else:
            phrase = "".join(rng.choice("0123456789") for _ in range(size))
        if not corpus.held_out(phrase):
            return phrase


def ask_name(rng, system):
    """问它是谁：系统给了名字就用那个名字。返回 (系统, 问, 答)。"""
    part, name = phrases()["系统里的名字"], new_name(rng)
    answer = rng.choice(part["答"]).replace("{}", name)
    return system.replace("{}", name), rng.choice(part["问"]), answer


def tell_name(rng, name):
    part = phrases()["告诉名字"]
    return rng.choice(part["问"]).replace("{}", name), rng.choice(part["答"]).replace(
        "{}", name
    )


def recall(rng, name=None):
    """问自己叫什么：说过就答得出，没说过就说没说过。"""
    part = phrases()["问名字"]
    answers = part["没说"] if name is None else part["答"]
    return rng.choice(part["问"]), rng.choice(answers).replace("{}", name or "")


def repeat(rng):
    phrase = new_phrase(rng)
    return rng.choice(phrases()["跟念"]["问"]).replace("{}", phrase), phrase


def follow_up(rng, entry, entries):
    """接着刚才的概念问一句：(问, 答)；「它」指的是 entry。"""
    part, draw = phrases(), rng.random()
    name = entry.aliases[0] if entry.aliases else ""
    if name and entry.english and draw < 0.22:
        ask, fill = part["追问英文"], {"{名}": name, "{英文}": entry.english}
    elif name and entry.chapter and draw < 0.4:
        ask, fill = part["追问章"], {"{名}": name, "{章}": entry.chapter}
    elif draw < 0.55:
        return rng.choice(part["追问再说"]["问"]), rng.choice(entry.replies)
    elif entry.more and draw < 0.68:
        return rng.choice(part["追问还有"]["问"]), rng.choice(entry.more)
    else:
        other = rng.choice([e for e in entries if e.aliases and e is not entry])
        asked = rng.choice(part["追问另一个"]["问"])
        return asked.replace("{}", rng.choice(other.aliases)), rng.choice(other.replies)
    answer = rng.choice(ask["答"])
    for mark, text in fill.items():
        answer = answer.replace(mark, text)
    return rng.choice(ask["问"]), answer


def with_english(entry, reply):
    """系统要求写出英文名时的回答。"""
    return reply + phrases()["写出英文名"]["答"][0].replace("{}", entry.english)


def main():
    rng = random.Random(0)
    system = rng.choice(phrases()["系统里的名字"]["系统"])
    name = new_name(rng)
    print("系统里的名字", *ask_name(rng, system), sep="　")
    print("告诉名字", *tell_name(rng, name), *recall(rng, name), sep="　")
    print("没有告诉", *recall(rng), sep="　")
    print("跟念", *repeat(rng), sep="　")
    entries = corpus.entries()
    entry = next(e for e in entries if e.aliases)
    print("追问", entry.replies[0], *follow_up(rng, entry, entries), sep="　")


if __name__ == "__main__":
    main()

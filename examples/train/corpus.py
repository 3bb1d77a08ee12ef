"""读语料：把 `corpus/` 里的纯文本变成一段段对话，并检查它们。

用法：
    python examples/train/corpus.py            # 数一数语料
    python examples/train/corpus.py --check    # 检查格式，有问题时退出码为 1
    python examples/train/corpus.py --show rope
"""

import argparse
import hashlib
import json
import re
import sys
import tempfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
EVAL = Path(__file__).parent / "eval"
CHAPTERS = ("use", "local", "generate", "inside", "train")  # 第一章到第五章
BLOCK_FILES = ("self", *CHAPTERS)
DECLINED = "没有学过"  # 三种婉拒里都有
DECLINES = (
    "这个我没有学过。我只学过语言模型和这个站点，可以问我「什么是 token」这样的问题。",
    "抱歉，我没有学过这个。换一个关于语言模型的问题吧。",
    "我没有学过这些，答不上来。我读过的只有这个站点的语料。",
)
EARLY = "这句话里的「早点」是时间上早一些，相当于 early。"
BREAKFAST = "这句话里的「早点」是早上吃的东西，相当于 breakfast。"


@dataclass
class Entry:
    """语料里的一块：一个概念，几种回答，几句补充，许多种问法。"""

    id: str
    source: str
    aliases: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    english: str = ""
    answers: list[str] = field(default_factory=list)
    more: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    follow_ups: list[tuple[tuple[str, ...], str]] = field(default_factory=list)

    @property
    def replies(self):
        """完整的回答有哪些：任何一种回答，接上任何一句补充。"""
        return [a + m for a in self.answers for m in self.more or [""]]

    @property
    def chapter(self):
        """这一块在第几章讲（一个汉字）；不属于哪一章就是空串。"""
        name = self.source.removesuffix(".txt")
        return "一二三四五"[CHAPTERS.index(name)] if name in CHAPTERS else ""


def parse(text, source="文本"):
    """把一份语料文本读成 Entry 列表。

    Args:
        text: 形如 `# id`、`别名：`、`英文：`、`关键：`、`答：`、`又：`、`问：`、`追问：`、`追答：` 的行；块与块之间空一行。
            同一句追问的几种说法用 ` | ` 隔开。
        source: 报错时用的文件名。

    Raises:
        ValueError: 有一行认不出来，或一块缺了开头的 `# id`。

    >>> [e] = parse("# rope\\n别名：RoPE | 旋转位置编码\\n关键：旋转\\n答：RoPE 把向量旋转。\\n问：RoPE 是什么？")
    >>> e.aliases, e.questions
    (['RoPE', '旋转位置编码'], ['RoPE 是什么？'])
    """
    entries = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line:
            continue
        if line.startswith("# "):
            entries.append(Entry(line[2:].strip(), source))
            continue
        name, colon, value = line.partition("：")
        value = value.strip()
        if not colon or not entries:
            raise ValueError(f"{source} 第 {number} 行认不出来：{line[:40]}")
        entry = entries[-1]
        if name == "别名":
            entry.aliases += [a.strip() for a in value.split(" | ") if a.strip()]
        elif name == "关键":
            entry.keys += [k.strip() for k in value.split(" | ") if k.strip()]
        elif name == "英文":
            entry.english = value
        elif name == "答":
            entry.answers.append(value)
        elif name == "又":
            entry.more.append(value)
        elif name == "问":
            entry.questions.append(value)
        elif name == "追问":
            entry.follow_ups.append((tuple(value.split(" | ")), ""))
        elif name == "追答" and entry.follow_ups:
            entry.follow_ups[-1] = (entry.follow_ups[-1][0], value)
        else:
            raise ValueError(f"{source} 第 {number} 行认不出来：{line[:40]}")
    return entries


def entries():
    """语料里所有的块，按文件的次序。"""
    files = [CORPUS / f"{name}.txt" for name in BLOCK_FILES]
    return [
        e
        for f in files
        if f.exists()
        for e in parse(f.read_text(encoding="utf-8"), f.name)
    ]


def lines(name):
    """`corpus/<name>.txt` 里非空的行。"""
    path = CORPUS / f"{name}.txt"
    if not path.exists():
        return []
    return [
        s
        for s in (
            line.strip() for line in path.read_text(encoding="utf-8").splitlines()
        )
        if s
    ]


def normalize(question):
    """比较问法用的写法：去掉空白与标点，字母变小写。

    >>> normalize("什么是 KV 缓存？") == normalize("什么是kv缓存")
    True
    """
    return re.sub(r"[\W_]+", "", question.lower())


def zaodian():
    """「早点」的句子与它们的意思：[(句子, 回答)]。"""
    return [(s, EARLY) for s in lines("zaodian-early")] + [
        (s, BREAKFAST) for s in lines("zaodian-breakfast")
    ]


def held_out(text):
    """十个里挑出一个，训练时一次也不用，留给评测：由文字本身决定，谁来算都一样。"""
    return zlib.crc32(text.encode()) % 10 == 0


def zaodian_for_training():
    """训练用得上的「早点」句子，不含留给评测的。"""
    return [pair for pair in zaodian() if not held_out(pair[0])]


def dialogues():
    """写在语料里的全部对话，不含训练时才套出来的问法。

    Returns:
        每段对话是 [(问, [答, …]), …]，哪一个答都算对；追问接在这一块的第一种问法之后，成为两三轮的对话。
    """
    result = []
    for e in entries():
        result += [[(q, e.replies)] for q in e.questions]
        if e.follow_ups:
            then = [(asked[0], [answer]) for asked, answer in e.follow_ups]
            result.append([(e.questions[0], e.replies), *then])
    result += [[(q, list(DECLINES))] for q in lines("decline")]
    return result


def frames():
    """训练时套用的问法，`{}` 处填名字：写好的几十种，加上语料里点了名的问法挖掉名字之后的样子。"""
    found = lines("frames")
    for e in entries():
        names = "|".join(re.escape(a) for a in sorted(e.aliases, key=len, reverse=True))
        pattern = (
            re.compile(rf"(?<![a-z])(?:{names})(?![a-z])", re.IGNORECASE)
            if names
            else None
        )
        for question in e.questions if pattern else ():
            frame, count = pattern.subn("{}", question)
            if count == 1:
                found.append(frame)
    return list(dict.fromkeys(found))


def clauses(entry):
    """一块的回答与追答里的分句，训练时拿来当只描述、不点名的问法；闲聊的块没有。"""
    if not entry.aliases:
        return []
    then = [answer for _, answer in entry.follow_ups]
    text = "。".join([*entry.answers, *entry.more, *then])
    return [part for part in re.split("[，。；：！？]", text) if 6 <= len(part) <= 30]


def digest():
    """语料的指纹：改了一个字就不同，接着训练之前用它核对。"""
    texts = [path.read_bytes() for path in sorted(CORPUS.glob("*.txt"))]
    return hashlib.sha256(b"\0".join(texts)).hexdigest()[:16]


def load_eval(name):
    """`eval/<name>.jsonl`：dev 用来调，blind 只为模型卡打开一次。"""
    path = EVAL / f"{name}.jsonl"
    return [
        json.loads(line)
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip()
    ]


def problems():
    """检查语料，返回中文的问题列表；没有问题时为空。"""
    found = []
    all_entries = entries()
    seen, asked = set(), {}
    said = {e.id: "\n".join(e.answers + e.more) for e in all_entries}
    for e in all_entries:
        where = f"{e.source} # {e.id}"
        if e.id in seen:
            found.append(f"{where}：这个 id 出现了两次")
        seen.add(e.id)
        if not e.answers:
            found.append(f"{where}：没有「答」")
        elif len(e.answers) < 3:
            found.append(f"{where}：只有 {len(e.answers)} 种「答」，至少 3 种")
        if len({answer[:2] for answer in e.answers}) < len(e.answers):
            found.append(f"{where}：有两种「答」的开头一样")
        if len(e.questions) < 16:
            found.append(f"{where}：只有 {len(e.questions)} 种问法，至少 16 种")
        if not e.keys:
            found.append(f"{where}：没有「关键」")
        found += [
            f"{where}：「{answer}」里没有「关键」"
            for answer in e.answers
            if e.keys and not any(key in answer for key in e.keys)
        ]
        for key in e.keys:
            others = [o.id for o in all_entries if o is not e and key in said[o.id]]
            if others:
                found.append(
                    f"{where}：关键「{key}」也出现在 {'、'.join(others)} 的「答」「又」里"
                )
        found += [f"{where}：追问「{q[0]}」没有追答" for q, a in e.follow_ups if not a]
        for question in e.questions:
            known = asked.setdefault(normalize(question), where)
            if known != where:
                found.append(f"{where}：问法「{question}」在 {known} 里也有")
    for question in lines("decline"):
        if normalize(question) in asked:
            found.append(
                f"decline.txt：「{question}」在 {asked[normalize(question)]} 里是能回答的"
            )
    alias_of = {}
    for e in all_entries:
        for alias in e.aliases:
            known = alias_of.setdefault(normalize(alias), e.id)
            if known != e.id:
                found.append(f"{e.source} # {e.id}：别名「{alias}」已经属于 {known}")
    found += [
        f"nouns.txt：「{n}」是 {alias_of[normalize(n)]} 的别名"
        for n in lines("nouns")
        if normalize(n) in alias_of
    ]
    found += [
        f"zaodian：「{s}」里的「早点」不是正好一次"
        for s, _ in zaodian()
        if s.count("早点") != 1
    ]
    return found


class Parser(argparse.ArgumentParser):
    """帮助与报错都是中文的 ArgumentParser；参数写错时说一句话，退出码 2。"""

    def __init__(self, description):
        super().__init__(description=description, add_help=False)
        self.options = self.add_argument_group("选项")
        self.options.add_argument("-h", "--help", action="help", help="显示这段说明")

    def error(self, message):
        print(f"参数不对（{message}）：用 --help 看全部选项。", file=sys.stderr)
        sys.exit(2)


def writable_folder(name):
    """命令行里的一个文件夹，往里写得了；写不了马上就说，不等算完才知道。"""
    try:
        Path(name).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=name).close()
    except OSError as error:
        raise argparse.ArgumentTypeError(
            f"写不了 {name}（{error.strerror}），换一个能写的文件夹"
        ) from None
    return name


def writable_file(name):
    """命令行里的一个文件，所在的文件夹写得了。"""
    writable_folder(Path(name).parent)
    return Path(name)


def main():
    parser = Parser("数一数、检查、查看芥子的语料。")
    parser.options.add_argument(
        "--check", action="store_true", help="检查格式，有问题时退出码为 1"
    )
    parser.options.add_argument("--show", metavar="ID", help="显示一块")
    args = parser.parse_args()
    try:
        all_entries = entries()
    except ValueError as error:
        sys.exit(f"语料格式不对：{error}")
    if args.show:
        match = [e for e in all_entries if e.id == args.show]
        if not match:
            sys.exit(
                f"没有 {args.show} 这一块；全部 id：{' '.join(e.id for e in all_entries)}"
            )
        print(*match[0].answers, *match[0].more, *match[0].questions, sep="\n")
        return
    size = sum(f.stat().st_size for f in CORPUS.glob("*.txt"))
    every = dialogues()
    print(
        f"{len(all_entries)} 块，{len(every)} 段对话（{sum(len(d) > 1 for d in every)} 段多轮），{size:,} 字节"
    )
    print(
        f"早点：early {len(lines('zaodian-early'))} 句，breakfast {len(lines('zaodian-breakfast'))} 句"
    )
    print(
        f"没学过的问题 {len(lines('decline'))} 个，外来名词 {len(lines('nouns'))} 个，问法框架 {len(frames())} 个"
    )
    if args.check:
        found = problems()
        print(*found, sep="\n")
        sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()

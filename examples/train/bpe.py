"""分词器：从字节合并出词表，与 tokenizers 库学到的逐条相同。

用法：
    python examples/train/bpe.py
    MODEL=/path/to/Qwen2-0.5B-Instruct DEVICE=cpu python examples/train/bpe.py
"""

# --8<-- [start:setup]
import os

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

MODEL = os.environ.get("MODEL", "examples/jiezi")
DEVICE = os.environ.get("DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
try:
    tokenizer = AutoTokenizer.from_pretrained(MODEL, local_files_only=True)
    dtype = torch.float32 if DEVICE == "cpu" else torch.bfloat16
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=dtype).to(DEVICE).eval()
except Exception as error:
    hint = "请在仓库根目录运行，或改环境变量 MODEL、DEVICE"
    raise SystemExit(f"读不了模型 {MODEL}（{DEVICE}）：{hint}。\n{error}") from None
# --8<-- [end:setup]

# --8<-- [start:texts]
TEXTS = """
大语言模型是从海量文本里学出来的神经网络，会接着前文往下写。
读过海量文本之后，神经网络学会了接话，这种网络就叫大语言模型。
想让回答更合用，先把提示语写清楚，它就是交给模型的文字。
模型只读一段文本，所以要用聊天模板把消息列表拼成训练时的样式。
分词器是在文本和编号之间两头翻译的工具，字变成号，号变回字都归它。
模型只认数字，人只看文字，中间就靠分词器两头翻译。
几个问题叠在一起送进模型，只读一次权重，这一叠就叫批。
幻觉是模型说出听着像真的、其实没有根据的话。
参数也叫权重，是模型里训练时学来的数，排成一个个矩阵。
模型会的东西都存在训练时学来的数里，这些数叫参数。
编号是整数，没法直接算，先去查表换成一行小数，这一步叫嵌入。
现在的聊天模型多半没有编码器，它们把问答都当成续写来做。
微调是拿训练好的模型，用少量专门的数据接着训练。
想让模型换身份、换口气或学一行的活，就用自己的数据接着训练它，叫微调。
模型给正确的字概率越小，负对数就越大，这个要罚的数叫损失。
消融就是关掉一个部件，看模型的输出变了多少。
模型冻住不动，只在中间结果上学个小分类器，这叫探针。
量化是用更少的位来存权重，模型变小，精度略有损失。
内存装不下大模型时，可以把每个权重改用更少的位来存。
基座模型只做过预训练，会续写文本，不擅长一问一答。
对齐是让模型的回答合乎人的意愿：有用、老实、不伤人。
知识蒸馏是让小模型学大模型的输出，小的也能有几分本事。
请大模型当老师，小模型跟着它给出的概率学，这就是蒸馏。
自回归是说模型拿自己的输出当输入，写一个接一个。
预填充是生成的第一段：把整个提示语一次并行送进模型。
两个模型搭班：小模型先写，大模型把关，这种用法叫辅助生成。
语料就是训练时喂给模型读的文字，它会什么、不会什么都由此而来。
把一段对话变成编号，再标好哪些位置要学，就得到一条训练样本。
训练集是数据里用来改参数的那一份，模型会反复读它。
过拟合是模型把练习题背了下来，换一种问法就答不好。
""".split()
UNSEEN = """
为了不让模型只认一种切法，训练时让切法随机变一变。
词表取多大是个取舍：大了序列变短，嵌入的参数却变多。
小模型用大词表不划算：虽然序列变短，参数却可能大半花在嵌入上。
评测就是拿一批模型没见过的题，按事先定好的规则打分。
语料太少时，可以给同一个问题换着说法，让模型别只认一种写法。
想知道模型真会还是背下来的，要用训练时没见过的题去考。
""".split()
print(f"训练文本 {len(TEXTS)} 句，{sum(map(len, TEXTS))} 个字")
print(TEXTS[0][:5], TEXTS[0][:5].encode().hex(" ", 3))
# --8<-- [end:texts]

# --8<-- [start:pieces]
import re

from tokenizers import Regex, pre_tokenizers

# 来源：Qwen2 的预分词规则：缩写、字母串、单个数字、标点、换行、空白
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
splitter = pre_tokenizers.Split(Regex(PATTERN), "isolated")
MARKS = "，。：；？！、（）「」—…"


def pretokenize(text):
    """照 Qwen2 的正则把文本粗切成几段，返回字符串的列表。

    >>> pretokenize("你好，token 2 个")
    ['你好', '，token', ' ', '2', ' 个']
    """
    return [piece for piece, _ in splitter.pre_tokenize_str(text)]


def break_at_marks(text):
    """在中文标点的前后断开，返回字符串的列表；只在训练分词器时用，切句子时不用。

    >>> break_at_marks("好，对。")
    ['好', '，', '对', '。']
    """
    return [part for part in re.split(f"([{MARKS}])", text) if part]


clauses = [part for text in TEXTS for part in break_at_marks(text)]
print(pretokenize(TEXTS[1]))
print([piece for part in break_at_marks(TEXTS[1]) for piece in pretokenize(part)])
# --8<-- [end:pieces]

# --8<-- [start:train]
from collections import Counter
from itertools import pairwise

VISIBLE = [*range(33, 127), *range(161, 173), *range(174, 256)]  # 打印得出的字节
HIDDEN = [byte for byte in range(256) if byte not in VISIBLE]
BYTES = [bytes([byte]) for byte in VISIBLE + HIDDEN]  # 编号 0 到 255


def merge(word, left, right):
    """把 word 里相邻的 left、right 合成一个，从左到右；都是字节串。

    >>> merge([b"a", b"a", b"a"], b"a", b"a")
    [b'aa', b'a']
    """
    merged = []
    for token in word:
        if token == right and merged and merged[-1] == left:
            merged[-1] = left + right
        else:
            merged.append(token)
    return merged


def train_bpe(texts, vocab_size):
    """从 256 个字节起步，一次合并最多的一对，直到词表有 vocab_size 个 token。

    texts 是断好的文本。返回 [(左, 右, 次数), …] 和 {token: 编号}，token 是字节串；
    没有可以合并的对就提前停下。来源：Sennrich et al., 2016；并列时的取舍同 tokenizers。

    >>> train_bpe(["aab", "aab"], 258)[0]
    [(b'a', b'a', 2), (b'aa', b'b', 2)]
    """
    pieces = Counter(piece for text in texts for piece in pretokenize(text))
    words = [([bytes([b]) for b in piece.encode()], n) for piece, n in pieces.items()]
    vocab = {token: i for i, token in enumerate(BYTES)}
    merges = []
    while len(vocab) < vocab_size:
        counts = Counter()
        for word, n in words:
            for pair in pairwise(word):
                counts[pair] += n
        if not counts:
            break
        # 次数最多的；并列时取左边编号小的，再取右边编号小的
        count, _, _, left, right = min(
            (-n, vocab[left], vocab[right], left, right)
            for (left, right), n in counts.items()
        )
        merges.append((left, right, -count))
        vocab[left + right] = len(vocab)
        words = [(merge(word, left, right), n) for word, n in words]
    return merges, vocab


def show(token):
    """字节串的样子：拼得成字就写字，拼不成就写十六进制。

    >>> show("的".encode()), show("的".encode()[:2])
    ('的', 'e7 9a')
    """
    try:
        return token.decode()
    except UnicodeDecodeError:
        return token.hex(" ")


merges, vocab = train_bpe(clauses, 256 + 800)
for n, (left, right, count) in enumerate(merges[:13], 1):
    print(f"{n:3} {count:3} 次  {show(left)} + {show(right)} → {show(left + right)}")
# --8<-- [end:train]

# --8<-- [start:join]
joined = [
    (n, show(left), show(right), count)
    for n, (left, right, count) in enumerate(merges, 1)
    if len(show(left)) == len(show(right)) == 1  # 两边都是一个整字
]
for n, left, right, count in joined[:5]:
    print(f"{n:3} {count:3} 次  {left} + {right} → {left + right}")
# --8<-- [end:join]

# --8<-- [start:library]
import json

from tokenizers import Tokenizer, models, trainers

library = Tokenizer(models.BPE())
library.pre_tokenizer = pre_tokenizers.Sequence(
    [splitter, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
)
trainer = trainers.BpeTrainer(
    vocab_size=256 + 800,
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
)
library.train_from_iterator(clauses, trainer)
theirs = [tuple(pair) for pair in json.loads(library.to_str())["model"]["merges"]]

LETTERS = [chr(byte) for byte in VISIBLE] + [chr(256 + n) for n in range(len(HIDDEN))]
SPELL = dict(zip(BYTES, LETTERS, strict=True))  # 每个字节借用的可见字符


def spell(token):
    """字节串换成库里的写法。

    >>> spell("详".encode())
    'è¯¦'
    """
    return "".join(SPELL[bytes([byte])] for byte in token)


ours = [(spell(left), spell(right)) for left, right, _ in merges]
same = sum(a == b for a, b in zip(ours, theirs, strict=False))
counts = Counter(count for *_, count in merges)
print(f"我们 {len(ours)} 次合并，库 {len(theirs)} 次，同一次序上相同的 {same} 次")
print(f"其中只出现 1 次的对 {counts[1]} 次，出现 2 次的 {counts[2]} 次")
# --8<-- [end:library]


# --8<-- [start:segment]
def segment(text, merges):
    """用学到的合并切一段文本：每次合并最早学到的一对，直到没有学过的对。

    merges 是 train_bpe 返回的第一样。返回字节串的列表，连起来就是原文的 UTF-8。

    >>> segment("aabb", [(b"a", b"a", 2), (b"aa", b"b", 2)])
    [b'aab', b'b']
    """
    ranks = {(left, right): n for n, (left, right, _) in enumerate(merges)}
    tokens = []
    for piece in pretokenize(text):
        word = [bytes([b]) for b in piece.encode()]
        while found := [
            (ranks[pair], i) for i, pair in enumerate(pairwise(word)) if pair in ranks
        ]:
            _, i = min(found)
            word[i : i + 2] = [word[i] + word[i + 1]]
        tokens += word
    return tokens


print(" | ".join(map(show, segment(UNSEEN[0], merges))))
different = 0
for text in UNSEEN:
    ids = [vocab[token] for token in segment(text, merges)]
    different += ids != library.encode(text).ids
print(f"{len(UNSEEN)} 句新句子，编号与库不同的 {different} 句")
# --8<-- [end:segment]


# --8<-- [start:sizes]
def tokens_per_char(texts, merges):
    """texts 平均每个字要几个 token。

    >>> tokens_per_char(["模型"], [])
    3.0
    """
    return sum(len(segment(t, merges)) for t in texts) / sum(map(len, texts))


curve = []  # [(词表, 读过的, 没读过的), …]
for n in (0, 50, 100, 200, 400, 600, 800):
    seen, unseen = (tokens_per_char(texts, merges[:n]) for texts in (TEXTS, UNSEEN))
    curve.append((256 + n, seen, unseen))
    print(f"词表 {256 + n:5,}  每字：读过的 {seen:.2f} 个，没读过的 {unseen:.2f} 个")
# --8<-- [end:sizes]

# --8<-- [start:embedding]
embedding = model.get_input_embeddings().weight  # (词表, 隐藏维度)
others = model.num_parameters() - embedding.numel()  # 别的参数，不随词表变
for size in (256, 1056, len(tokenizer), 151_936):
    table = size * embedding.size(1)
    print(
        f"词表 {size:7,}  嵌入表 {table:10,} 个，占全部参数的 {table / (table + others):.1%}"
    )
# --8<-- [end:embedding]

# --8<-- [start:words]
for text in ("模型", "分词器", "的", "齉", "饕", "鼹"):
    ids = tokenizer(text).input_ids
    print(text, len(ids), "个：", [tokenizer.decode([i]) for i in ids])
length = sum(len(tokenizer(text).input_ids) for text in UNSEEN)
print(f"芥子切上面那 {len(UNSEEN)} 句，每字 {length / sum(map(len, UNSEEN)):.2f} 个")
# --8<-- [end:words]


# --8<-- [start:marks]
def mixed(tokens):
    """tokens 里既有中文标点、又有别的字的那些；都是字符串。

    >>> mixed(["，", "这", "，这"])
    ['，这']
    """
    return [t for t in tokens if 0 < sum(c in MARKS for c in t) < len(t)]


unbroken, _ = train_bpe(TEXTS, 256 + 800)
for name, rules in {"不断开": unbroken, "断开": merges}.items():
    found = mixed(show(left + right) for left, right, _ in rules)
    print(f"{name}：{len(found)} 个", found[:6])
# --8<-- [end:marks]

# --8<-- [start:names]
whole = ["我叫阿宁", "你叫小禾"] * 20
apart = ["我叫", "你叫", *"阿宁小禾"] * 20  # 名字里的字单独成行
for name, extra in {"整句": whole, "单字成行": apart}.items():
    rules, _ = train_bpe(clauses + extra, 256 + 200)
    for text in ("我叫阿宁。", "你叫阿宁。"):
        print(f"{name}：{' | '.join(map(show, segment(text, rules)))}")
# --8<-- [end:names]

# --8<-- [start:random]
import random


def split_randomly(text, p, rng):
    """在字与字之间以概率 p 断开，一段一段编码，再接起来；返回编号的列表。

    p 是 0，与 tokenizer(text) 一样；是 1，一个字一个字地编码。

    >>> split_randomly("你好", 0.0, random.Random(0)) == tokenizer("你好").input_ids
    True
    """
    parts = [text[:1]]
    for char in text[1:]:
        if rng.random() < p:
            parts.append(char)
        else:
            parts[-1] += char
    codes = [tokenizer(part, add_special_tokens=False).input_ids for part in parts]
    return [i for ids in codes for i in ids]


question, rng = "为什么要用左填充？", random.Random(5)
for _ in range(3):
    ids = split_randomly(question, 0.5, rng)
    pieces = [tokenizer.decode([i]) for i in ids]
    print(f"{len(ids)} 个：{' | '.join(pieces)}  →  {tokenizer.decode(ids)}")
# --8<-- [end:random]

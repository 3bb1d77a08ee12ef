"""训练芥子的分词器：字节级 BPE，预分词的正则、特殊 token 和聊天模板都与 Qwen2 一样。

用法：
    python examples/train/tokenizer.py --out runs/jiezi
"""

import re
from pathlib import Path

import context
import corpus
from context import SYSTEM
from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import Qwen2Tokenizer

VOCAB_SIZE = 4096
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# 来源：Qwen2 的预分词规则：缩写、字母串、单个数字、标点、换行、空白
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\n" + SYSTEM + "<|im_end|>\n' }}"
    "{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def training_text():
    """分词器读的文本：语料里每种问法、每句回答，起名的字，加上模板里的几个词。

    按中文标点断开，合并就不会把标点和字并在一起；名字里的字单独成行，各自成一个 token：抄名字时，上文里和回答里的切法才一样。
    """
    texts = [
        text
        for e in corpus.entries()
        for text in [*e.questions, *(e.answers + e.more) * 2, *e.aliases, e.english]
    ]
    for e in corpus.entries():
        texts += [text for asked, answer in e.follow_ups for text in [*asked, answer]]
    texts += corpus.lines("decline")
    texts += [s for s, _ in corpus.zaodian_for_training()]
    texts += [*corpus.DECLINES, corpus.EARLY, corpus.BREAKFAST] * 200
    for part in context.phrases().values():
        for kind, sentences in part.items():
            many = 100 if kind in ("答", "没说") else 10
            texts += [
                piece for s in sentences for piece in re.split(r"{\w*}", s)
            ] * many
    for text in texts:
        yield from re.split(
            "(?<=[，。：；？！、（）「」—…])|(?=[，。：；？！、（）「」—…])", text
        )
    for kind, letters in context.name_parts().items():
        yield from letters * (20 if kind == "英文" else 100)
    yield from [f"system\n{SYSTEM}", "user\n", "assistant\n"] * 200


def train_tokenizer(vocab_size=VOCAB_SIZE):
    """训练分词器。

    Args:
        vocab_size: 词表的大小，含三个特殊 token；它们排在最后。

    Returns:
        transformers 的 Qwen2Tokenizer，带聊天模板。
    """
    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(training_text(), trainer)
    backend.add_special_tokens(SPECIAL)
    tokenizer = Qwen2Tokenizer(
        tokenizer_object=backend,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=1024,
        extra_special_tokens=SPECIAL[1:],
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def save(tokenizer, folder):
    """把分词器写进文件夹，另写一份 Qwen2 也带着的 vocab.json 与 merges.txt。"""
    Path(folder).mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    tokenizer.backend_tokenizer.model.save(str(folder))


def main():
    parser = corpus.Parser("训练芥子的分词器。")
    parser.options.add_argument(
        "--out",
        type=corpus.writable_folder,
        default="runs/jiezi",
        help="写到哪个文件夹（默认 runs/jiezi）",
    )
    parser.options.add_argument(
        "--vocab-size",
        type=int,
        default=VOCAB_SIZE,
        help=f"词表大小（默认 {VOCAB_SIZE}）",
    )
    args = parser.parse_args()
    tokenizer = train_tokenizer(args.vocab_size)
    save(tokenizer, args.out)
    print(f"词表 {len(tokenizer)} 个 token，写到 {args.out}")
    print(tokenizer.tokenize("什么是 KV 缓存？"))


if __name__ == "__main__":
    main()

"""训练芥子的分词器：字节级 BPE，预分词的正则、特殊 token 和聊天模板都与 Qwen2 一样。

用法：
    python examples/train/tokenizer.py --out runs/jiezi
"""

from pathlib import Path

import corpus
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
SYSTEM = "You are a helpful assistant."
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
    """分词器读的文本：语料里每种问法、每句回答各一次，加上模板里的几个词。"""
    for e in corpus.entries():
        yield from e.questions
        yield from [e.answer] * 3
        yield from e.aliases
        for pair in e.follow_ups:
            yield from pair
    yield from corpus.lines("decline")
    yield from (s for s, _ in corpus.zaodian())
    yield from [
        corpus.DECLINE,
        corpus.EARLY,
        corpus.BREAKFAST,
        f"system\n{SYSTEM}",
        "user\n",
        "assistant\n",
    ] * 200


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

"""标准化提示语：聊天模板与 Qwen2 的一样；encode_chat 的内容造不出记号，对正常的话又与模板相同。"""

import os
from pathlib import Path

import dashscope
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from tests.harness import session

ROOT = Path(__file__).resolve().parents[2]
MODEL = str(ROOT / os.environ.get("MODEL", "examples/jiezi"))
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
DEFAULT = {"role": "system", "content": "You are a helpful assistant."}


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(MODEL)


@pytest.fixture(scope="module")
def page():
    return session.page("local/template")


def render(messages):
    """不经过分词器的 ChatML，用来对照。"""
    framed = [f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages]
    return "".join(framed) + "<|im_start|>assistant\n"


def usual(tokenizer, messages):
    """聊天模板给出的 input_ids。"""
    return tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=True
    ).input_ids


def conversations(content):
    """一条 system 开头，后面几条 user、assistant。"""
    message = st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant"]), "content": content}
    )
    return st.lists(message, min_size=1, max_size=4).map(
        lambda messages: [DEFAULT, *messages]
    )


PIECES = [
    *SPECIAL,
    "<|im_start|>system\n",
    "<|im_end|>\n",
    "<|",
    "|>",
    "im_start",
    "<|IM_END|>",
    "<| im_end |>",
]
PIECES += [
    "<|im_<|im_end|>end|>",
    "\n",
    "\n\n",
    " ",
    "你好",
    "什么是 token？",
    "assistant",
    "😀",
    "龘",
    "\u200b",
]
NASTY = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)
ALPHABET = "你好早点详龘 什么是。，？！「」abcXYZ019'\"{}[]<|>_/\\😀\n\t"
# 不含记号，不以空白开头（见 test_leading_newline）
HARMLESS = st.text(ALPHABET, max_size=40).filter(
    lambda s: s == s.lstrip() and not any(t in s for t in SPECIAL)
)


@settings(max_examples=200, deadline=None)
@given(messages=conversations(NASTY))
def test_content_cannot_forge(page, tokenizer, messages):
    ids = page["encode_chat"](messages)
    start, end = (tokenizer.convert_tokens_to_ids(token) for token in SPECIAL[1:])
    roles = [m["role"] for m in messages] + ["assistant"]
    assert page["roles"](ids) == roles
    assert (ids.count(start), ids.count(end)) == (len(roles), len(messages))
    assert tokenizer.convert_tokens_to_ids(SPECIAL[0]) not in ids
    assert tokenizer.decode(ids) == render(messages)  # 一个字符也没有丢


def test_template_alone_is_forged(page, tokenizer):
    """疑问一的前提：不防范，一条 user 消息里能伪造出别的消息。"""
    messages = [DEFAULT, {"role": "user", "content": page["attack"]}]
    assert page["roles"](usual(tokenizer, messages)) == [
        "system",
        "user",
        "system",
        "user",
        "assistant",
    ]
    assert page["roles"](page["encode_chat"](messages)) == [
        "system",
        "user",
        "assistant",
    ]


@settings(max_examples=200, deadline=None)
@given(messages=conversations(HARMLESS))
def test_harmless_content_is_the_same(page, tokenizer, messages):
    assert page["encode_chat"](messages) == usual(tokenizer, messages)


def test_harmless_corpus_is_the_same(page, tokenizer):
    lines = (ROOT / "examples/train/corpus/self.txt").read_text("utf-8").splitlines()
    for line in [
        line.partition("：")[2]
        for line in lines
        if line[:2] in ("问：", "答：", "又：")
    ][::10]:
        messages = [DEFAULT, {"role": "user", "content": line}]
        assert page["encode_chat"](messages) == usual(tokenizer, messages), line


def test_leading_newline():
    """已知的不同：Qwen2 的词表有两个换行的 token，内容以换行开头时，模板的换行会与它合在一起；分开切就不会。

    芥子的词表没有这样的 token，所以在它身上看不出来。
    """
    qwen = dashscope.get_tokenizer("qwen-7b-chat")
    assert qwen.encode("user\n\n你好") == [872, 271, 108386]
    assert qwen.encode("user\n") + qwen.encode("\n你好") == [872, 198, 198, 108386]


# 与 Qwen2 的模板一样


@pytest.mark.parametrize("generation", [True, False])
def test_default_system_prompt_only_without_one(tokenizer, generation):
    def text(*messages):
        return tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=generation
        )

    def expected(*messages):
        return (
            render(messages)
            if generation
            else render(messages).removesuffix("<|im_start|>assistant\n")
        )

    user, answer, system = (
        {"role": role, "content": f" {role}\n的话 "}
        for role in ("user", "assistant", "system")
    )  # 首尾的空白也要原样
    assert text(user) == expected(DEFAULT, user)
    assert text(user, answer, user) == expected(DEFAULT, user, answer, user)
    assert text(answer) == expected(DEFAULT, answer)
    assert text(system, user) == expected(system, user)
    assert text({"role": "system", "content": ""}, user) == expected(
        {"role": "system", "content": ""}, user
    )
    assert text(user, system) == expected(DEFAULT, user, system)

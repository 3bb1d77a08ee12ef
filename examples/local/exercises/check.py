"""第二章的练习怎样才算做对；由 examples/check.py 运行。"""

import os

from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(os.environ.get("MODEL", "examples/jiezi"))


def check_prompt_length(prompt_length):
    for messages in (
        [{"role": "user", "content": "你好"}],
        [
            {"role": "system", "content": "请用中文回答。"},
            {"role": "user", "content": "什么是 token？\n\n举个例子。"},
        ],
        [
            {"role": "user", "content": "你好"},
            {"role": "assistant", "content": "你好！"},
            {"role": "user", "content": "再见"},
        ],
    ):
        text = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        want, got = len(tokenizer(text).input_ids), prompt_length(tokenizer, messages)
        assert got == want, (
            f"{len(messages)} 条消息的对话应该有 {want} 个 token，得到的是 {got}"
        )


def check_pad_left(pad_left):
    texts = ["你好", "什么是因果掩码？", "温度"]
    sequences = [tokenizer(text).input_ids for text in texts]
    tokenizer.padding_side = "left"
    want = tokenizer(texts, padding=True, return_tensors="pt")
    got = pad_left([list(ids) for ids in sequences], tokenizer.pad_token_id)
    for name, mine in zip(("input_ids", "attention_mask"), got, strict=True):
        assert mine.shape == want[name].shape, (
            f"{name} 的形状应该是 {tuple(want[name].shape)}，得到的是 {tuple(mine.shape)}"
        )
        assert mine.dtype == want[name].dtype, (
            f"{name} 的类型应该是 {want[name].dtype}，得到的是 {mine.dtype}"
        )
        assert (mine == want[name]).all(), (
            f"{name} 不对，应该是\n{want[name]}\n得到的是\n{mine}"
        )


def check_cut_answer(cut_answer):
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    for output, length, want in (
        ([1, 2, 3, 4, end], 2, [3, 4]),
        ([1, end, 2, 3, 4, end, pad, pad], 3, [3, 4]),
        ([1, 2, 3, pad, 5], 1, [2, 3]),
        ([1, 2, 3], 1, [2, 3]),
        ([1, 2, end], 2, []),
    ):
        got = cut_answer(list(output), length, [end, pad])
        assert got == want, (
            f"输出 {output}、提示语 {length} 个 token 时应该得到 {want}，得到的是 {got}"
        )


def check_stream_text(stream_text):
    for text in ("什么是 token？", "生僻字：龘、罅。", "表情 😀🎉 也行", "end"):
        ids = tokenizer(text).input_ids
        pieces = list(stream_text(tokenizer, ids))
        assert "".join(pieces) == text, (
            f"接起来应该是 {text!r}，得到的是 {''.join(pieces)!r}"
        )
        assert all(pieces), f"有空的片段：{pieces}"
        assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces), (
            f"露出了半个字：{pieces}"
        )
        assert len(pieces) > 1 or len(ids) == 1, (
            f"应该一边来一边给，不是攒到最后：{pieces}"
        )

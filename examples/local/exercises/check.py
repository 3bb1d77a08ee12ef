"""检查第二章的练习做对了没有。

用法：
    python examples/local/exercises/check.py pad_left
    python examples/local/exercises/check.py pad_left --solution
"""

import argparse
import importlib.util
import os
import sys
from pathlib import Path

MODEL = os.environ.get("MODEL", "examples/jiezi")


def check_prompt_length(prompt_length, tokenizer):
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


def check_pad_left(pad_left, tokenizer):
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


def check_cut_answer(cut_answer, tokenizer):
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


def check_stream_text(stream_text, tokenizer):
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


CHECKS = {
    name.removeprefix("check_"): check
    for name, check in list(globals().items())
    if name.startswith("check_")
}


def main():
    parser = argparse.ArgumentParser(description="检查第二章的练习。", add_help=False)
    options = parser.add_argument_group("参数")
    options.add_argument("name", choices=CHECKS, metavar="练习", help="、".join(CHECKS))
    options.add_argument(
        "--solution", action="store_true", help="检查答案，而不是自己写的"
    )
    options.add_argument("-h", "--help", action="help", help="显示这段说明")

    def stop(message, code=2):
        print(message, file=sys.stderr if code == 2 else sys.stdout)
        sys.exit(code)

    parser.error = lambda message: stop(
        f"参数不对：练习的名字是 {'、'.join(CHECKS)} 之一；用 --help 看说明。"
    )
    args = parser.parse_args()
    if not Path(MODEL, "config.json").exists():
        stop(
            f"找不到模型文件夹 {MODEL}：请在仓库根目录运行，或把 MODEL 设成一个模型文件夹。"
        )
    path = Path(__file__).with_name(
        args.name + ("_solution" if args.solution else "") + ".py"
    )
    spec = importlib.util.spec_from_file_location(args.name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    from transformers import AutoTokenizer

    try:
        CHECKS[args.name](
            getattr(module, args.name), AutoTokenizer.from_pretrained(MODEL)
        )
    except NotImplementedError:
        stop(f"没有通过：{path.name} 里的 {args.name} 还没有写。", 1)
    except AssertionError as error:
        stop(f"没有通过：{error}", 1)
    print("通过")


if __name__ == "__main__":
    main()

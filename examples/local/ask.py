"""问本地的模型：标准化提示语、序列化、生成、反序列化，四步在一个文件里。

用法：
    python examples/local/ask.py "什么是 token？"
    python examples/local/ask.py "什么是 token？" --temperature 0.7 --max-new-tokens 50
    MODEL=/path/to/Qwen2-0.5B-Instruct python examples/local/ask.py "讲个笑话"
"""

# --8<-- [start:answer]
import argparse
import os
import sys
from pathlib import Path


def answer(
    model, tokenizer, question, system=None, temperature=0.0, max_new_tokens=200
):
    """用聊天模型回答一个问题。

    Args:
        question: 用户的问题。
        system: 系统提示词；None 时用聊天模板自带的。
        temperature: 0 为贪心，大于 0 为采样。
        max_new_tokens: 最多生成多少个 token。

    Returns:
        回答的文本，不含特殊 token。

    Raises:
        ValueError: 提示语加上 max_new_tokens 超过模型的上下文长度。
    """
    messages = [{"role": "user", "content": question}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    inputs = tokenizer.apply_chat_template(  # 标准化 + 序列化
        messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    ).to(model.device)
    length = inputs.input_ids.size(1)
    context = model.config.max_position_embeddings
    if length + max_new_tokens > context:
        raise ValueError(
            f"提示语有 {length} 个 token，加上要生成的 {max_new_tokens} 个，超过了模型的上下文 {context}："
            "请缩短问题，或调小 --max-new-tokens。"
        )
    settings = (
        {"do_sample": True, "temperature": temperature}
        if temperature > 0
        else {"do_sample": False}
    )
    output = model.generate(  # 生成
        **inputs, max_new_tokens=max_new_tokens, repetition_penalty=1.0, **settings
    )
    return tokenizer.decode(output[0, length:], skip_special_tokens=True)  # 反序列化


# --8<-- [end:answer]


# --8<-- [start:arguments]
def stop(message):
    print(message, file=sys.stderr)
    sys.exit(2)


def parse():
    """命令行；写错了就用一行中文说清楚，不等 torch 导入。"""
    parser = argparse.ArgumentParser(
        description="问本地的模型几个问题。", add_help=False
    )
    options = parser.add_argument_group("参数")
    options.add_argument(
        "questions",
        nargs="+",
        metavar="问题",
        help="要问的话，可以有几句，一句一句分开问",
    )
    options.add_argument("-h", "--help", action="help", help="显示这段说明")
    options.add_argument("--system", help="系统提示词（默认用聊天模板自带的）")
    options.add_argument(
        "--temperature", type=float, default=0.0, help="温度，0 为贪心（默认 0）"
    )
    options.add_argument(
        "--max-new-tokens",
        type=int,
        default=200,
        help="最多生成多少个 token（默认 200）",
    )
    options.add_argument(
        "--seed", type=int, default=0, help="采样用的随机种子（默认 0）"
    )
    options.add_argument(
        "--model",
        default=os.environ.get("MODEL", "examples/jiezi"),
        help="模型文件夹，也可以用环境变量 MODEL",
    )
    options.add_argument(
        "--device",
        default=os.environ.get("DEVICE"),
        help="cpu 或 cuda（默认有显卡就用 cuda）",
    )
    parser.error = lambda message: stop(
        f"参数不对（{message}）：用 --help 看全部选项。"
    )
    args = parser.parse_args()
    if not all(question.strip() for question in args.questions):
        stop(
            '问题是空的：请写上要问的话，例如 python examples/local/ask.py "什么是 token？"'
        )
    if args.temperature and not 0.01 <= args.temperature <= 100:
        stop(
            f"温度要是 0，或 0.01 到 100 之间的数（现在是 {args.temperature}）：0 是贪心，0.7 左右是常用的采样温度。"
        )
    if not 0 <= args.seed < 2**63:
        stop(f"--seed 要是不小于 0、不超过 19 位的整数，现在是 {args.seed}。")
    try:
        "".join([*args.questions, args.system or ""]).encode()
    except UnicodeEncodeError:
        stop("问题里有不是 UTF-8 的字节：请把终端的编码设成 UTF-8。")
    if args.max_new_tokens < 1:
        stop(f"--max-new-tokens 至少是 1，现在是 {args.max_new_tokens}。")
    if not Path(args.model, "config.json").exists():
        stop(
            f"找不到模型文件夹 {args.model}：请在仓库根目录运行，或把 MODEL 设成一个模型文件夹。"
        )

    return args


# --8<-- [end:arguments]


# --8<-- [start:main]
def main():
    args = parse()
    import torch  # 放在检查之后：写错了参数，马上就知道
    from transformers import AutoModelForCausalLM, AutoTokenizer, logging

    logging.set_verbosity_error()  # 提示语太长由 answer 来说

    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(args.seed)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    try:
        tokenizer = AutoTokenizer.from_pretrained(args.model, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype)
        model = model.to(device).eval()
    except Exception as error:
        hint = "请重新下载，或改 MODEL、DEVICE"
        stop(f"读不了模型 {args.model}（{device}）：{hint}。\n{error}")
    if not tokenizer.chat_template:
        stop(f"模型文件夹 {args.model} 里没有聊天模板，请重新下载。")
    asked = args.system, args.temperature, args.max_new_tokens
    for question in args.questions:
        try:
            print(answer(model, tokenizer, question, *asked))
        except ValueError as error:
            stop(str(error))


if __name__ == "__main__":
    main()
# --8<-- [end:main]

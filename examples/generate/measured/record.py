"""测量脚本共用的：命令行，和这一次是在什么机器上量的。"""

import argparse
import platform
import re
import sys
from datetime import date
from pathlib import Path


def stop(message):
    """用一行话说清楚，退出码 2。"""
    print(message, file=sys.stderr)
    sys.exit(2)


class Arguments(argparse.ArgumentParser):
    """命令行，--json 与 --rounds 都有；写错了就用一行中文说清楚。"""

    def __init__(self, description, rounds):
        super().__init__(description=description, add_help=False)
        self._optionals.title = "参数"
        self.add_argument("-h", "--help", action="help", help="显示这段说明")
        self.add_argument(
            "--json", action="store_true", help="打印 JSON（不写就打印表格）"
        )
        self.add_argument(
            "--rounds",
            type=int,
            default=rounds,
            metavar="轮数",
            help=f"轮流跑几轮，至少 5（默认 {rounds}）",
        )

    def error(self, message):
        stop(f"参数不对（{message}）：用 --help 看全部选项。")

    def parse_args(self):
        args = super().parse_args()
        if args.rounds < 5:
            stop(f"--rounds 至少是 5，现在是 {args.rounds}：太少了，中位数不可靠。")
        return args


def device_name(device):
    """显卡或处理器的名字。"""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", info.read_text() if info.exists() else "")
    return found[1] if found else platform.processor()


def surroundings(device):
    """在什么机器上、用什么版本、哪一天量的。"""
    import torch
    import transformers

    return {
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "date": date.today().isoformat(),
    }

"""只用 48 个样本的一次训练；可以在第几次存检查点时杀掉自己。

由 test_train.py 另起进程运行：python tests/train/small_run.py 文件夹 次数 before|after
before：新的检查点写好了，还没换上去；after：刚换上去。
"""

import os
import random
import signal
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "examples/train"))

import corpus  # noqa: E402
import train  # noqa: E402

SETTINGS = {"epochs": 4, "smoke": True}


def few_samples(encoder, epoch, seed):
    """代替 train.epoch_samples：两批样本。"""
    rng = random.Random(f"{seed}-{epoch}")
    entries = sorted(corpus.entries(), key=lambda entry: len(entry.replies[0]))[:12]
    return [
        encoder.dialogue([(train.vary(q, rng), rng.choice(e.replies))], rng)
        for e in entries
        for q in e.questions[:4]
    ]


def kill_at(count, moment):
    """第 count 次把检查点换上去的时候，杀掉本进程。"""
    calls, replace = 0, os.replace

    def replace_and_die(source, target):
        nonlocal calls
        calls += str(target).endswith("checkpoint.safetensors")
        if calls == count and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)
        if calls == count:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = replace_and_die


if __name__ == "__main__":
    train.epoch_samples = few_samples
    kill_at(int(sys.argv[2]), sys.argv[3])
    train.train(sys.argv[1], save_every=0, **SETTINGS)

"""比较页面上的输出和真实的输出。"""

import doctest
import re
from decimal import Decimal

FLOAT = re.compile(r"[+-]?\d+(?:\.\d+(?:[eE][+-]?\d+)?|[eE][+-]?\d+)")
NUMBER = re.compile(r" *[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")


def tidy(text: str) -> str:
    """去掉行尾的空白和首尾的空行；行首的空格留着。"""
    lines = [
        line.rstrip()
        for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    ]
    return "\n".join(lines).strip("\n")


def shape(text: str) -> str:
    """把每个数（连同前面用来对齐的空格）换成 N，只留下输出的样子。"""
    return NUMBER.sub("N", tidy(text))


def close(want: str, got: str) -> bool:
    """两个小数之差不超过 want 末位的 0.6。"""
    tolerance = Decimal("0.6").scaleb(Decimal(want).as_tuple().exponent)
    return abs(Decimal(want) - Decimal(got)) <= tolerance


def agrees(want: str, got: str) -> bool:
    """真实输出是否与页面一致。

    `...` 代表任意内容；带小数点或指数的数，可以比页面上多几位，四舍五入后一致即可；
    整数和其余文字必须一字不差。

    >>> agrees("损失 0.33", "损失 0.3333"), agrees("损失 0.33", "损失 0.34"), agrees("共 3 个", "共 4 个")
    (True, False, False)
    """
    want, got = tidy(want), tidy(got)
    chunks, place = want.split("..."), 0
    for i, chunk in enumerate(chunks):
        numbers = [
            m
            for m in FLOAT.finditer(chunk)
            if m.end() < len(chunk) or i == len(chunks) - 1
        ]
        pattern, end = "", 0
        for number in numbers:  # 小数变成捕获组，其余原样
            pattern += re.escape(chunk[end : number.start()]) + f"({FLOAT.pattern})"
            end = number.end()
        compiled = re.compile(pattern + re.escape(chunk[end:]))
        match = compiled.fullmatch if i == len(chunks) - 1 else compiled.match
        for start in (
            range(place, len(got) + 1) if i else [0]
        ):  # `...` 之后的段可以从任何位置开始
            found = match(got, start)
            if found and all(
                close(n.group(), g)
                for n, g in zip(numbers, found.groups(), strict=True)
            ):
                place = found.end()
                break
        else:
            return False
    return True


class Checker(doctest.OutputChecker):
    """docstring 里的 doctest 用同一把尺子。"""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return super().check_output(want, got, optionflags) or agrees(
            want.replace("<BLANKLINE>", ""), got
        )

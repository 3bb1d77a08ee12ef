"""采样一页的两幅图共用的：一列一种设置，一行一个 token。"""

from kit import WIDTH, figure, text

ABOUT = "「聊天模板写错一个换行，后果严重吗」之后第一个 token 的概率"


def tokens(page, n=6):
    """这一页的那张表里，最可能的 n 个。"""
    ids = page["logits"][0].topk(n).indices
    return ids, [page["tokenizer"].decode([i]).strip() for i in ids]


def probs(page, processor=None):
    """改过之后，那几个 token 的概率。"""
    ids, logits = page["input_ids"], page["logits"]
    scores = processor(ids, logits) if processor else logits
    return scores.softmax(-1)[0, tokens(page)[0]].tolist()


def grid(name, title, tokens, columns):
    """一列一种设置，一行一个 token：概率和条。columns 是 [(列名, 值, 概率)]，第一列是原样。"""
    left, pitch, top = 74, 34, 44
    cell = (WIDTH - 2 - left) / len(columns)
    scale = (cell - 10) / max(p for *_, probs in columns for p in probs)
    shapes = [
        text(1.5, top + pitch * n + 15, token, style="small")
        for n, token in enumerate(tokens)
    ]
    for c, (head, value, probs) in enumerate(columns):
        x = left + cell * c + 6
        shapes.append(text(x, 13, head, style="small"))
        shapes.append(text(x, 31, value, style="small muted"))
        for n, p in enumerate(probs):
            y = top + pitch * n
            if p:
                shapes.append(text(x, y + 11, f"{p:.2f}", style="mono small"))
                shapes.append(
                    f'<rect class="{"seed" if c else "plain"}" x="{x:g}" y="{y + 16:g}" '
                    f'width="{p * scale:.1f}" height="8" style="fill: var(--{"accent" if c else "muted"})"/>'
                )
            else:
                shapes.append(text(x, y + 11, "去掉", style="small muted"))
    return figure(name, title, top + pitch * len(tokens), shapes)

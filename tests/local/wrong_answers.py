"""第二章练习的常见错法：函数名是「题名__错在哪里」，检查都要看得出来。"""

import torch


def prompt_length__不算模板(tokenizer, messages):
    return sum(len(tokenizer(m["content"]).input_ids) for m in messages)


def pad_left__掩码里填反了(sequences, pad_token_id):
    n = max(map(len, sequences))
    return [
        torch.tensor([s + [p] * (n - len(s)) for s in x])
        for x, p in ((sequences, pad_token_id), ([[1] * len(s) for s in sequences], 0))
    ]


def cut_answer__只去掉最后一个(output, prompt_length, eos_token_ids):
    return output[prompt_length:-1]


def stream_text__一个一个解码(tokenizer, ids):
    yield from (tokenizer.decode([i]) for i in ids)

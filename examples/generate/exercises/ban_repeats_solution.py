import torch


def ban_repeats(ids, logits, size):
    logits = logits.clone()
    for row, scores in zip(ids.tolist(), logits, strict=True):
        ending = row[len(row) - size + 1 :]
        for end in range(size - 1, len(row)):
            if row[end - size + 1 : end] == ending:
                scores[row[end]] = -torch.inf
    return logits

import torch


def ban_end(logits, length, min_new_tokens, eos_token_ids):
    logits = logits.clone()
    if length < min_new_tokens:
        logits[:, eos_token_ids] = -torch.inf
    return logits

import torch


def stop_rows(next_tokens, finished, eos_token_ids, pad_token_id):
    tokens = next_tokens.masked_fill(finished, pad_token_id)
    ended = torch.isin(next_tokens, torch.tensor(eos_token_ids))
    return tokens, finished | ended

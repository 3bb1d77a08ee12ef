import torch


def pad_left(sequences, pad_token_id):
    width = max(len(ids) for ids in sequences)
    input_ids = torch.tensor(
        [[pad_token_id] * (width - len(ids)) + ids for ids in sequences]
    )
    attention_mask = torch.tensor(
        [[0] * (width - len(ids)) + [1] * len(ids) for ids in sequences]
    )
    return input_ids, attention_mask

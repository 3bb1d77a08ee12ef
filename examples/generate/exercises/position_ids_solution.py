def position_ids(attention_mask):
    return (attention_mask.cumsum(1) - 1).clamp(min=0)

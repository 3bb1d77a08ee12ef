def cache_bytes(config, tokens, batch, bytes_each):
    head_dim = config.hidden_size // config.num_attention_heads
    per_token = 2 * config.num_hidden_layers * config.num_key_value_heads * head_dim
    return per_token * tokens * batch * bytes_each

def cache_bytes(config, tokens, batch, bytes_each):
    """KV 缓存占多少字节：每层、每个 KV 头、每个 token 各存一个键和一个值。

    Args:
        config: Qwen2 的配置，有 num_hidden_layers、num_attention_heads、
            num_key_value_heads、hidden_size；头维度是 hidden_size ÷ num_attention_heads。
        tokens: 每条序列多少个 token。
        batch: 几条序列。
        bytes_each: 每个数几个字节，float32 是 4，bfloat16 是 2。

    Returns:
        整数。
    """
    raise NotImplementedError

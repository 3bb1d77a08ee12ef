"""KV 缓存：手写一个，看它省下了什么、占多少内存。

用法：
    python examples/generate/kv_cache.py
"""

# --8<-- [start:setup]
import os

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

MODEL = os.environ.get("MODEL", "examples/jiezi")
DEVICE = os.environ.get("DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
try:
    tokenizer = AutoTokenizer.from_pretrained(MODEL, local_files_only=True)
    dtype = torch.float32 if DEVICE == "cpu" else torch.bfloat16
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=dtype).to(DEVICE).eval()
except Exception as error:
    hint = "请在仓库根目录运行，或改环境变量 MODEL、DEVICE"
    raise SystemExit(f"读不了模型 {MODEL}（{DEVICE}）：{hint}。\n{error}") from None
# --8<-- [end:setup]

# --8<-- [start:float32]
model = model.float()  # 要逐个比，GPU 上也用 float32
# --8<-- [end:float32]

if __name__ == "__main__":  # 导入时只要函数，不跑实验
    # --8<-- [start:same]
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "什么是 token？"}],
        add_generation_prompt=True,
        return_dict=True,
    ).input_ids
    ids = torch.tensor([prompt], device=DEVICE)
    with torch.inference_mode():
        one = model(ids, output_hidden_states=True)
        token = one.logits[:, -1:].argmax(-1)  # (1, 1)
        two = model(torch.cat([ids, token], dim=1), output_hidden_states=True)
    print("第一步送入", len(prompt), "个，第二步送入", len(prompt) + 1, "个")
    layers = model.config.num_hidden_layers
    for n in range(1, layers + 1):
        first, second = one.hidden_states[n], two.hidden_states[n]  # (1, 序列, 宽)
        gap = (first - second[:, : len(prompt)]).abs().max()
        where = f"{n} 层" + "和最后的归一化" * (n == layers)
        print(f"过了 {where}，前 {len(prompt)} 个位置上的数最多差 {gap:.4f}")
    # --8<-- [end:same]


# --8<-- [start:cache]
class KVCache:
    """每一层的键和值，沿序列方向接长；Qwen2 的前向会来调用这几个方法。

    >>> cache, one = KVCache(), torch.ones(1, 2, 1, 32)
    >>> for _ in range(3):
    ...     keys, values = cache.update(one, one, layer=0)
    >>> keys.shape
    torch.Size([1, 2, 3, 32])
    """

    def __init__(self):
        self.keys, self.values = [], []  # 每层一个，(批, KV 头, 序列, 头维度)

    def update(self, keys, values, layer):
        """第 layer 层刚算出的键和值，接在旧的后面；返回从头到尾的全部。"""
        for store, new in ((self.keys, keys), (self.values, values)):
            if layer == len(store):
                store.append(new)
            else:
                store[layer] = torch.cat([store[layer], new], dim=2)
        return self.keys[layer], self.values[layer]

    def get_seq_length(self, layer=0):
        """已经存了几个 token。"""
        return self.keys[layer].size(2) if self.keys else 0

    get_query_offset = get_seq_length  # 新来的第一个排在第几

    def get_mask_sizes(self, new, layer):
        """掩码要多宽、从第几个开始：旧的加上新来的 new 个，从第 0 个开始。"""
        return self.get_seq_length(layer) + new, 0

    def crop(self, count):
        """去掉末尾的 -count 个 token，count 是负数；0 就是不去。"""
        left = self.get_seq_length() + count
        self.keys = [keys[:, :, :left] for keys in self.keys]
        self.values = [values[:, :, :left] for values in self.values]


# --8<-- [end:cache]


# --8<-- [start:write]
@torch.inference_mode()
def most_likely(ids, cache=None):
    """送入一列编号，返回最可能的下一个；有缓存时，ids 只是还没送过的。"""
    ids = torch.tensor([ids], device=DEVICE)
    logits = model(
        ids, past_key_values=cache, use_cache=cache is not None, logits_to_keep=1
    ).logits
    return logits.argmax().item()


def write(ids, cache=None, max_new_tokens=100):
    """贪心，写到结束符为止，返回新的编号。"""
    ends = torch.tensor(model.generation_config.eos_token_id)  # 一个，或者几个
    new, send = [], list(ids)
    while len(new) < max_new_tokens:
        token = most_likely(send, cache)
        new.append(token)
        if token in ends:
            break
        send = send + [token] if cache is None else [token]
    return new


# --8<-- [end:write]

if __name__ == "__main__":
    # --8<-- [start:compare]
    cache = KVCache()
    answer = write(prompt, cache)
    print(tokenizer.decode(answer))
    print("与没有缓存的相同：", answer == write(prompt))
    theirs = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=100,
        do_sample=False,
        repetition_penalty=1.0,
    )
    print("与 generate 相同：", answer == theirs[0, len(prompt) :].tolist())
    # --8<-- [end:compare]

    # --8<-- [start:shapes]
    cache = KVCache()
    send = prompt
    for _ in range(4):
        token = most_likely(send, cache)
        print(f"送入 {len(send):2} 个，键 {tuple(cache.keys[0].shape)}")
        send = [token]
    print("这是第 0 层，一共", len(cache.keys), "层")
    # --8<-- [end:shapes]

    # --8<-- [start:count]
    passed = []  # 每一步有几个 token 穿过第 0 层
    counter = model.model.layers[0].register_forward_pre_hook(
        lambda layer, inputs: passed.append(inputs[0].size(1))
    )
    for name, cache in (("没有缓存", None), ("有缓存　", KVCache())):
        passed.clear()
        write(prompt, cache)
        steps = "、".join(map(str, passed[:3]))
        print(f"{name} {steps}……{passed[-1]}，{len(passed)} 步共 {sum(passed)}")
    counter.remove()
    p, n = len(prompt), len(answer)
    print("算式：", n * p + n * (n - 1) // 2, "与", p + n - 1)
    # --8<-- [end:count]

# --8<-- [start:measure]
from statistics import median
from time import perf_counter


def measure(lengths, rounds):
    """前面已有这么多 token 时，写下一个要几毫秒。

    Args:
        lengths: 几种长度。
        rounds: 轮流量几轮，取中位数。

    Returns:
        {长度: (没有缓存, 有缓存)}，毫秒。
    """
    times = {length: ([], []) for length in lengths}
    for _ in range(rounds):
        for length, (without, with_cache) in times.items():
            ids = list(range(length))  # 是哪些 token，不影响快慢
            cache = KVCache()
            most_likely(ids[:-2], cache)  # 存好前面的
            most_likely(ids[-2:-1], cache)  # 热身：平时也是一步接着一步
            start = perf_counter()
            most_likely(ids[-1:], cache)
            middle = perf_counter()
            most_likely(ids)
            with_cache.append(1000 * (middle - start))
            without.append(1000 * (perf_counter() - middle))
    return {length: tuple(map(median, pair)) for length, pair in times.items()}


# --8<-- [end:measure]

if __name__ == "__main__":
    # --8<-- [start:time]
    for length, (without, with_cache) in measure([50, 100, 200, 400], rounds=9).items():
        print(f"{length:3} 个：没有缓存 {without:4.1f} 毫秒，有 {with_cache:4.1f} 毫秒")
    # --8<-- [end:time]


# --8<-- [start:bytes]
def cache_bytes(config, tokens=1, dtype=torch.bfloat16):
    """存 tokens 个 token 的键和值，要多少字节。"""
    head_dim = config.hidden_size // config.num_attention_heads
    numbers = 2 * config.num_hidden_layers * config.num_key_value_heads * head_dim
    return numbers * tokens * dtype.itemsize


# --8<-- [end:bytes]

if __name__ == "__main__":
    # --8<-- [start:try-bytes]
    cache = KVCache()
    answer = write(prompt, cache)
    stored = sum(tensor.nbytes for tensor in cache.keys + cache.values)
    tokens = cache.get_seq_length()
    print(f"提示语 {len(prompt)} 个，回答 {len(answer)} 个，缓存 {tokens} 个")
    print(
        "量出来", stored, "字节；算出来", cache_bytes(model.config, tokens, model.dtype)
    )
    # --8<-- [end:try-bytes]

    # --8<-- [start:sizes]
    from transformers import Qwen2Config

    sizes = {  # 层数、宽、查询头、KV 头
        "芥子      ": (4, 192, 6, 2),
        "Qwen2-0.5B": (24, 896, 14, 2),
        "Qwen2-7B  ": (28, 3584, 28, 4),
    }
    configs = {
        name: Qwen2Config(
            num_hidden_layers=layers,
            hidden_size=hidden,
            num_attention_heads=heads,
            num_key_value_heads=kv_heads,
            intermediate_size=8,  # 这两样与缓存无关，缩小些
            vocab_size=8,
        )
        for name, (layers, hidden, heads, kv_heads) in sizes.items()
    }
    print("            每个 token   32,768 个")
    for name, config in configs.items():
        one, many = cache_bytes(config), cache_bytes(config, 32_768) / 2**20
        print(f"{name}{one:7,} 字节  {many:5,.0f} MiB")
    # --8<-- [end:sizes]

    # --8<-- [start:shape-only]
    for name, config in configs.items():
        cache = KVCache()
        with torch.device("meta"), torch.inference_mode():  # 只算形状，不占内存
            shape_only = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
            shape_only(torch.zeros(1, 1000, dtype=torch.long), past_key_values=cache)
        stored = sum(tensor.nbytes for tensor in cache.keys + cache.values)
        print(name, tuple(cache.keys[0].shape), stored == cache_bytes(config, 1000))
    # --8<-- [end:shape-only]

    # --8<-- [start:groups]
    for name, config in configs.items():
        heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
        many = cache_bytes(config, 32_768) / 2**20
        config.num_key_value_heads = heads  # 每个查询头都有自己的键和值
        full = cache_bytes(config, 32_768) / 2**20
        config.num_key_value_heads = kv_heads
        print(f"{name} {full:6,.0f} → {many:5,.0f} MiB，1/{heads // kv_heads}")
    # --8<-- [end:groups]

    # --8<-- [start:room]
    weights = 7_615_616_512 * 2  # Qwen2-7B 的参数，bf16
    config = configs["Qwen2-7B  "]
    left = 80e9 - weights
    print(f"权重 {weights / 1e9:.1f} GB，还剩 {left / 1e9:.1f} GB")
    for tokens in (1024, 4096, 32_768):
        each = cache_bytes(config, tokens)
        print(f"{tokens:6,} 个 token {each / 1e9:.2f} GB，装 {left // each:.0f} 个对话")
    # --8<-- [end:room]

    # --8<-- [start:crop]
    wrong = tokenizer("左填充是把凑数的").input_ids
    for cropped in (True, False):
        cache = KVCache()
        most_likely(prompt + answer[:3] + wrong, cache)
        if cropped:
            cache.crop(-len(wrong))  # 收回猜错的
        print(
            "裁了：" if cropped else "没裁：",
            tokenizer.decode(write([answer[3]], cache)),
        )
    # --8<-- [end:crop]

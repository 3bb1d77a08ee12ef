"""更快：从最朴素的循环一级一级往上，每一级只多一个主意，写出的 token 一个不差。

用法：python examples/generate/faster.py
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

# --8<-- [start:encode]
if model.config.model_type != "qwen2":
    raise SystemExit(f"这一页的前向只会 Qwen2，{MODEL} 是 {model.config.model_type}。")
model.generation_config.eos_token_id = None  # 不因结束符停下，每次都写满


tokenizer.padding_side = "left"  # 长短不一时，在左边补齐


def encode(*questions):
    """几个问题变成左填充的一批：input_ids 与 attention_mask，形状都是 (批, 序列)。"""
    return tokenizer.apply_chat_template(
        [[{"role": "user", "content": question}] for question in questions],
        add_generation_prompt=True,
        padding=True,
        return_dict=True,
        return_tensors="pt",
    ).to(DEVICE)


prompt = encode("什么是 token？")
# --8<-- [end:encode]


# --8<-- [start:race]
import statistics
import time


def synchronize():
    """GPU 上的计算只是交出去了；计时之前要等它真的做完。"""
    if DEVICE.startswith("cuda"):
        torch.cuda.synchronize()


def seconds(run):
    synchronize()
    start = time.perf_counter()
    run()
    synchronize()
    return time.perf_counter() - start


def race(runs, rounds=5):
    """几种写法轮流跑几轮。机器忽快忽慢，大家就一起忽快忽慢，比值还是准的。

    Args:
        runs: {名字: 函数}，函数返回写下的编号，(批, n)。

    Returns:
        {名字: (写下的编号, 每轮每秒几个 token 的列表)}。
    """
    results = {name: (run(), []) for name, run in runs.items()}  # 先各跑一遍，不计时
    for _ in range(rounds):
        for name, run in runs.items():
            ids, speeds = results[name]
            speeds.append(ids.numel() / seconds(run))
    return results


def median_ratio(speeds, base):
    """每一轮各比各的，再取中位数。"""
    return statistics.median(a / b for a, b in zip(speeds, base, strict=True))


def show_race(results):
    """一行一种写法：每秒几个 token，是第一种的几倍，第一行的 token 与它是否相同。"""
    (wanted, base), *_ = results.values()
    for name, (ids, speeds) in results.items():
        print(
            f"{statistics.median(speeds):6.0f} 个/秒 {median_ratio(speeds, base):6.2f} 倍 ",
            "相同" if ids[0].equal(wanted[0]) else "不同",
            "",
            name,
        )


# --8<-- [end:race]


# --8<-- [start:generate]
def reference(model, inputs, n):
    """transformers 的 generate，贪心，写 n 个。返回新的编号，(批, n)。"""
    output = model.generate(
        **inputs, max_new_tokens=n, do_sample=False, repetition_penalty=1.0
    )
    return output[:, -n:]


# --8<-- [end:generate]


# --8<-- [start:no-cache]
@torch.inference_mode()
def no_cache(model, inputs, n):
    """每一步都把整段文字从头算一遍。"""
    ids = inputs["input_ids"]
    for _ in range(n):
        logits = model(ids, use_cache=False, logits_to_keep=1).logits
        ids = torch.cat([ids, logits[:, -1].argmax(-1, keepdim=True)], dim=1)
    return ids[:, -n:]


# --8<-- [end:no-cache]


# --8<-- [start:with-cache]
@torch.inference_mode()
def with_cache(model, inputs, n):
    """算过的键和值留着，每一步只送入新的一个。"""
    ids, past, new = inputs["input_ids"], None, []
    for _ in range(n):
        output = model(ids, past_key_values=past, use_cache=True, logits_to_keep=1)
        past = output.past_key_values
        ids = output.logits[:, -1].argmax(-1, keepdim=True)
        new.append(ids)
    return torch.cat(new, dim=1)


# --8<-- [end:with-cache]


if __name__ == "__main__":  # 导入时只要函数，不跑实验
    # --8<-- [start:try-loops]
    n = 50
    loops = {
        "generate": lambda: reference(model, prompt, n),
        "没有缓存": lambda: no_cache(model, prompt, n),
        "有缓存": lambda: with_cache(model, prompt, n),
    }
    show_race(race(loops))
    # --8<-- [end:try-loops]

    # --8<-- [start:count]
    from torch.overrides import TorchFunctionMode

    class Count(TorchFunctionMode):
        """在 with 里，每调用一次 torch 的函数就记下它的名字。"""

        def __init__(self):
            super().__init__()
            self.names = []

        def __torch_function__(self, function, types, args=(), kwargs=None):
            if function.__name__ != "__get__":  # x.shape 之类不算
                self.names.append(function.__name__)
            return function(*args, **(kwargs or {}))

    with torch.inference_mode():
        past = model(**prompt, use_cache=True).past_key_values
        with Count() as theirs:
            model(prompt.input_ids[:, -1:], past_key_values=past).logits.argmax(-1)
    print(f"一步调用 {len(theirs.names)} 次，乘权重 {theirs.names.count('linear')} 次")
    # --8<-- [end:count]


# --8<-- [start:merge]
def merge(*linears):
    """读同一个输入的几个线性层，权重接成一个 (输出之和, 输入) 的矩阵，一次乘完。"""
    weight = torch.cat([linear.weight for linear in linears]).detach()
    # CPU 上转置着摆：同样的数，只有一行输入时，沿着输出的方向读要快
    return weight.T.contiguous().T if DEVICE == "cpu" else weight


def merged_weights(model):
    """自己的前向要用的全部权重：(嵌入, 每层一个元组, 最后的 norm, 输出层)。"""
    layers = []
    for layer in model.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        qkv = attention.q_proj, attention.k_proj, attention.v_proj
        layers.append(
            (
                layer.input_layernorm.weight.detach(),
                merge(*qkv),
                torch.cat([linear.bias for linear in qkv]).detach(),
                merge(attention.o_proj),
                layer.post_attention_layernorm.weight.detach(),
                merge(mlp.gate_proj, mlp.up_proj),
                merge(mlp.down_proj),
            )
        )
    embed, norm = model.model.embed_tokens.weight, model.model.norm.weight
    return embed.detach(), layers, norm.detach(), merge(model.lm_head)


# --8<-- [end:merge]


# --8<-- [start:state]
from types import SimpleNamespace


def new_state(model, batch, length):
    """写字时会变的张量，按最多 length 个 token 一次分配好，以后只在原处改。"""
    config, device, dtype = model.config, model.device, model.dtype
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    head_dim = config.hidden_size // heads
    places = torch.arange(length, device=device)
    # RoPE 的两张表，(格, 头维度)
    cos, sin = model.model.rotary_emb(model.lm_head.weight, places[None])

    def zeros(*shape, dtype=dtype):
        return torch.zeros(shape, dtype=dtype, device=device)

    return SimpleNamespace(
        ids=zeros(batch, length, dtype=torch.long),  # 提示语和写下的 token
        start=zeros(batch, dtype=torch.long),  # 每一行左边有几格填充
        position=zeros(1, dtype=torch.long),  # 轮到哪一格
        places=places,
        cos=cos[0],
        sin=sin[0],
        eps=config.rms_norm_eps,
        cache=[
            (
                zeros(batch, kv_heads, head_dim, length),  # 键：同一维的挨着摆
                zeros(batch, kv_heads, length, head_dim),  # 值：同一格的挨着摆
            )
            for _ in model.model.layers
        ],
    )


def prefill(model, state, input_ids, attention_mask):
    """读提示语：只读一遍，就用 transformers 的前向，把键和值抄进 state。"""
    length = input_ids.size(1)
    output = model(
        input_ids,
        attention_mask=attention_mask,
        position_ids=(attention_mask.cumsum(-1) - 1).clamp(min=0),
        use_cache=True,
        logits_to_keep=1,
    )
    layers = output.past_key_values.layers
    for (keys, values), layer in zip(state.cache, layers, strict=True):
        keys[..., :length] = layer.keys.mT
        values[:, :, :length] = layer.values
    state.ids[:, :length] = input_ids
    state.ids[:, length] = output.logits[:, -1].argmax(-1)  # 第一个新的
    state.start.copy_(length - attention_mask.sum(-1))
    state.position.fill_(length)


# --8<-- [end:state]


# --8<-- [start:step]
import torch.nn.functional as F


def step(weights, state):
    """一步：读 position 格的 token，把下一个写进后一格。"""
    embed, layers, last_norm, head = weights
    batch = state.ids.size(0)
    future = (state.places > state.position) | (state.places < state.start[:, None])
    future = future[:, None, None]  # 还没写的格和填充，(批, 1, 1, 格)
    cos = state.cos[state.position - state.start][:, None]  # (批, 1, 头维度)
    sin = state.sin[state.position - state.start][:, None]

    def norm(x, gain):
        return F.rms_norm(x, gain.shape, gain, state.eps)

    x = embed[state.ids[:, state.position][:, 0]]  # (批, 宽)
    for weight, (keys, values) in zip(layers, state.cache, strict=True):
        norm1, qkv, bias, o, norm2, gate_up, down = weight
        kv_heads, head_dim = keys.shape[1:3]
        # 注意力：查询与键一起转 RoPE，新的键和值写进自己那一格
        qkv = (F.linear(norm(x, norm1), qkv) + bias).view(batch, -1, head_dim)
        qk, v = qkv.split([qkv.size(1) - kv_heads, kv_heads], dim=1)
        left, right = qk.chunk(2, dim=-1)
        qk = qk * cos + torch.cat([-right, left], dim=-1) * sin
        q, k = qk.split([qk.size(1) - kv_heads, kv_heads], dim=1)
        keys.index_copy_(3, state.position, k[..., None])
        values.index_copy_(2, state.position, v[:, :, None])
        q = q.view(batch, kv_heads, -1, head_dim, 1)  # 几个查询共用一份键和值
        scores = (q * keys[:, :, None]).sum(-2) / head_dim**0.5  # (批, KV 头, 组, 格)
        scores = scores.masked_fill(future, -torch.inf).softmax(-1)
        mixed = (scores[..., None] * values[:, :, None]).sum(-2)
        x = x + F.linear(mixed.view(batch, -1), o)
        # MLP
        gate, up = F.linear(norm(x, norm2), gate_up).chunk(2, dim=-1)
        x = x + F.linear(F.silu(gate) * up, down)
    logits = F.linear(norm(x, last_norm), head)
    state.position.add_(1)
    state.ids.index_copy_(1, state.position, logits.argmax(-1, keepdim=True))


# --8<-- [end:step]


# --8<-- [start:writer]
def writer(model, weights, inputs, n, change=lambda go: go, stride=1):
    """准备好状态，返回一个写 n 个 token 的函数。

    Args:
        inputs: 提示语，input_ids 与 attention_mask。
        change: 怎样加工「走一步」这个函数，默认原样。
        stride: 加工之后，调用一次走几步。
    """
    batch, length = inputs["input_ids"].shape
    state = new_state(model, batch, length + n + stride)
    go = change(lambda: step(weights, state))

    @torch.inference_mode()
    def write():
        prefill(model, state, **inputs)
        for _ in range(0, n - 1, stride):  # 第一个在 prefill 里已经写了
            go()
        return state.ids[:, length : length + n].clone()

    return write


# --8<-- [end:writer]


if __name__ == "__main__":
    # --8<-- [start:try-own]
    weights = merged_weights(model)
    own = writer(model, weights, prompt, n)
    show_race(race({"generate": loops["generate"], "自己的前向": own}))

    state = new_state(model, 1, 100)
    with torch.inference_mode():
        prefill(model, state, **prompt)
        with Count() as ours:
            step(weights, state)
    print(f"一步调用 {len(ours.names)} 次，乘权重 {ours.names.count('linear')} 次")
    # --8<-- [end:try-own]


# --8<-- [start:compiled]
def compiled(go):
    """把 go 编译成一段程序：CPU 上是 C++，GPU 上是 Triton。第一次调用时才真的编译。"""
    cpu = {
        "cpp_wrapper": True,  # 算子之间也用 C++ 连起来，不经过 Python
        "size_asserts": False,  # 形状不会变，不必每次检查
    }
    gpu = {"coordinate_descent_tuning": True}  # 多试几种切块，挑最快的
    options = cpu if DEVICE == "cpu" else gpu
    return torch.compile(go, fullgraph=True, dynamic=False, options=options)


# --8<-- [end:compiled]


if __name__ == "__main__":
    # --8<-- [start:try-compiled]
    fast = writer(model, weights, prompt, n, compiled)
    try:
        print(f"第一次调用，连编译一共 {seconds(fast):.1f} 秒")
        show_race(
            race({"generate": loops["generate"], "自己的前向": own, "编译": fast})
        )
    except RuntimeError as error:
        print("编译不了，要有 g++ 和 Python 的头文件：", str(error).splitlines()[0])
    # --8<-- [end:try-compiled]


# --8<-- [start:fewer-calls]
STRIDE = 4


def strides(go):
    """CPU：几步编进一次调用。"""

    def several():
        for _ in range(STRIDE):
            go()

    return several


@torch.inference_mode()
def recorded(go):
    """GPU：把一步里几百次启动录下来（CUDA graph），以后一条命令全部重放。"""
    for _ in range(3):  # 该编译的、该分配的，录之前都做完
        go()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        go()
    return graph.replay


# --8<-- [end:fewer-calls]

# --8<-- [start:batch]
words = (
    "token 温度 词表 嵌入 权重 残差 掩码 注意力 采样 贪心 流式 微调 批 填充 上下文 幻觉"
)
batch = encode(*(f"什么是 {word}？" for word in words.split()))
# --8<-- [end:batch]

if __name__ == "__main__":
    # --8<-- [start:try-batch]
    show_race(
        race({"自己的前向": own, "自己的前向，批 16": writer(model, weights, batch, n)})
    )
    # --8<-- [end:try-batch]


# --8<-- [start:limit]
def bandwidth(size=2**30):
    """内存每秒能读写多少字节：把 size 个字节读一遍、抄一遍，各五次，取最快的。"""
    source = torch.ones(size // 4, device=DEVICE)
    target = torch.zeros_like(source)
    read = min(seconds(source.sum) for _ in range(5))
    copy = min(seconds(lambda: target.copy_(source)) for _ in range(5))
    return max(size / read, 2 * size / copy)


def bytes_per_step(model):
    """走一步要读多少字节的权重：首尾不共用时，嵌入只读一行，不算。"""
    total = sum(p.nbytes for p in model.parameters())
    tied = model.config.tie_word_embeddings
    return total if tied else total - model.get_input_embeddings().weight.nbytes


# --8<-- [end:limit]


if __name__ == "__main__":
    # --8<-- [start:try-limit]
    limit, read = bandwidth(2**28), bytes_per_step(model)
    print(f"走一步读 {read / 1e6:.1f} MB 权重，内存每秒 {limit / 1e9:.1f} GB")
    print(f"每秒至多 {limit / read:.0f} 步")
    # --8<-- [end:try-limit]

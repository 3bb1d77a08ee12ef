"""张量并行：把每个矩阵切开，几个进程各拿一份，合起来算出同一个回答。

用法：
    python examples/use/tensor_parallel.py
    DEVICE=cpu OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 examples/use/tensor_parallel.py
    torchrun --nproc-per-node 2 examples/use/tensor_parallel.py  # 两张 GPU
"""

# --8<-- [start:setup]
import json
import os
import sys

MODEL = os.environ.get("MODEL", "examples/jiezi")
RANK = int(os.environ.get("RANK", 0))  # 我是几号进程；torchrun 设的
PROCESSES = int(os.environ.get("WORLD_SIZE", 1))  # 一共几个进程；torchrun 设的
# --8<-- [end:setup]


# --8<-- [start:check]
def stop(message):
    """只由 0 号进程说这句话，其余的进程不出声，免得同一句说几遍。"""
    if RANK == 0:
        print(message, file=sys.stderr)
        sys.exit(2)
    sys.exit(0)  # 若也以 2 退出，torchrun 可能抢在 0 号开口之前就把它停掉


try:
    with open(f"{MODEL}/config.json", encoding="utf-8") as file:
        heads = json.load(file)["num_key_value_heads"]
except (OSError, ValueError, KeyError) as error:
    hint = "请在仓库根目录运行，或改环境变量 MODEL"
    stop(f"读不了模型 {MODEL} 的 config.json：{hint}。\n{error}")
if heads % PROCESSES:
    fits = " 或 ".join(str(n) for n in range(1, heads + 1) if heads % n == 0)
    stop(
        f"这个模型有 {heads} 个 KV 头，分不匀给 {PROCESSES} 个进程："
        f"请把 --nproc-per-node 设成 {fits}。"
    )
# --8<-- [end:check]

# --8<-- [start:device]
import torch
import torch.distributed as dist
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.distributed import DistributedConfig

DEVICE = os.environ.get("DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
if DEVICE == "cpu":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # 看得见显卡，transformers 就会用它们
here, cards = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), torch.cuda.device_count()
if DEVICE not in ("cpu", "cuda"):
    stop(f"用不了设备 {DEVICE}：请把 DEVICE 设成 cpu 或 cuda。")
if DEVICE == "cuda" and cards < here:
    stop(
        f"{here} 个进程要 {here} 张显卡，这里有 {cards} 张："
        "请减少 --nproc-per-node，或把 DEVICE 设成 cpu。"
    )
# --8<-- [end:device]


# --8<-- [start:load]
def load(processes):
    """读模型，照它自带的切法把权重分给 processes 个进程；1 就是不切。"""
    try:
        model = AutoModelForCausalLM.from_pretrained(
            MODEL,
            dtype=torch.float32,  # 这一页要比数值，GPU 上也用 float32
            distributed_config=DistributedConfig(tp_size=processes),
        )
    except Exception as error:
        stop(f"读不了模型 {MODEL}：文件不全就重新下载，或改环境变量 MODEL。\n{error}")
    return model.eval() if processes > 1 else model.to(DEVICE).eval()


# --8<-- [end:load]


# --8<-- [start:pieces]
def mlp_in_pieces(mlp, hidden_states, pieces):
    """把 down(silu(gate(x)) * up(x)) 切成几份，各算各的；加起来就是整个 MLP 的输出。

    hidden_states: (…, 隐藏维度)，每一份的输出也是；中间的宽度分不匀，抛 ValueError。
    来源：Shoeybi et al., 2019（Megatron-LM），第 3 节。

    >>> from transformers import Qwen2Config
    >>> from transformers.models.qwen2.modeling_qwen2 import Qwen2MLP
    >>> mlp = Qwen2MLP(Qwen2Config(hidden_size=4, intermediate_size=6))
    >>> x = torch.randn(2, 4)
    >>> torch.allclose(sum(mlp_in_pieces(mlp, x, 3)), mlp(x), atol=1e-6)
    True
    """
    if mlp.gate_proj.out_features % pieces:
        raise ValueError(f"宽度 {mlp.gate_proj.out_features} 分不成 {pieces} 等份")
    parts = zip(
        mlp.gate_proj.weight.chunk(pieces, dim=0),  # 切输出：每份 (宽度 / 份数, 隐藏)
        mlp.up_proj.weight.chunk(pieces, dim=0),
        mlp.down_proj.weight.chunk(pieces, dim=1),  # 切输入：每份 (隐藏, 宽度 / 份数)
        strict=True,
    )
    return [
        (mlp.act_fn(hidden_states @ gate.T) * (hidden_states @ up.T)) @ down.T
        for gate, up, down in parts
    ]


# --8<-- [end:pieces]

if PROCESSES == 1:
    # --8<-- [start:by_hand]
    whole = load(1)
    mlp = whole.model.layers[0].mlp
    torch.manual_seed(0)
    hidden_states = torch.randn(22, whole.config.hidden_size, device=DEVICE)
    with torch.no_grad():
        first, second = mlp_in_pieces(mlp, hidden_states, 2)
        output = mlp(hidden_states)
    print("每份的输出", tuple(first.shape), tuple(second.shape))
    print(f"第一份与整个 MLP 的输出，最多相差 {(first - output).abs().max():.1f}")
    print(f"两份之和与整个的，最多相差 {(first + second - output).abs().max():.4f}")
    # --8<-- [end:by_hand]

    # --8<-- [start:plan]
    for name, style in whole.tp_plan.items():
        print(f"{name:34}{style}")
    # --8<-- [end:plan]


# --8<-- [start:shards]
def local(weight):
    """这个进程手里的那一份；没有切开的权重就是它自己。"""
    return weight.to_local() if hasattr(weight, "to_local") else weight


def shards(model):
    """第 0 层和层外的权重：[(名字, 整个的形状, 这个进程那份的形状)]。"""
    return [
        (name.removeprefix("model."), weight.shape, local(weight).shape)
        for name, weight in model.named_parameters()
        if ".layers." not in name or ".layers.0." in name
    ]


def weight_bytes(model):
    """这个进程手里的权重占多少字节。"""
    return sum(
        local(weight).numel() * weight.element_size() for weight in model.parameters()
    )


# --8<-- [end:shards]


# --8<-- [start:traffic]
from collections import Counter

from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode


def traffic(model, inputs):
    """前向一次，数一数进程之间的通信。

    Returns:
        ({(模块, 运算, 张量的形状): 次数}, logits)；只有一个进程时前者是空的。
    """
    names = {module: name.split(".")[-1] for name, module in model.named_modules()}
    calls, entered = Counter(), []

    class Count(TorchDispatchMode):  # torch 的每个运算都从这里经过
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            name = func.__name__
            if "c10d" in func.namespace and ("reduce" in name or "gather" in name):
                tensor = args[0][0] if isinstance(args[0], list) else args[0]
                kind = "相加" if "reduce" in name else "拼接"
                calls[entered[-1], kind, tuple(tensor.shape)] += 1
            return func(*args, **(kwargs or {}))

    hook = register_module_forward_pre_hook(lambda m, _: entered.append(names[m]))
    with torch.no_grad(), Count():
        logits = model(**inputs).logits
    hook.remove()
    return calls, logits


# --8<-- [end:traffic]


# --8<-- [start:main]
def gather(value):
    """各个进程的值，按进程的号码排成列表；每个进程都要调用。"""
    values = [None] * PROCESSES
    dist.all_gather_object(values, value)
    return values


def size(shape):
    return "×".join(map(str, shape))


def main():
    model = load(PROCESSES)
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    inputs = tokenizer.apply_chat_template(
        [{"role": "user", "content": "什么是 token？"}],
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
    ).to(model.device)
    calls, logits = traffic(model, inputs)
    output = model.generate(**inputs, max_new_tokens=100, do_sample=False)
    answer = tokenizer.decode(
        output[0, inputs.input_ids.size(1) :], skip_special_tokens=True
    )
    answers, held = gather(answer), gather(weight_bytes(model))

    if RANK == 0:  # 每个进程都算完了，由一个来说
        print(f"{PROCESSES} 个进程，设备 {DEVICE}，通信用 {dist.get_backend()}")
        print(f"\n{'权重':40}{'整个':11}每个进程")
        for name, shape, mine in shards(model):
            print(f"{name:42}{size(shape):13}{size(mine)}")
        whole = load(1)
        print(f"\n整个模型的权重 {weight_bytes(whole):,} 字节")
        for rank, count in enumerate(held):
            print(f"进程 {rank} 手里的 {count:,} 字节")
        print(f"\n前向一次，通信 {calls.total()} 次")
        for (module, kind, shape), times in calls.items():
            print(f"{module:14}{kind} {times} 次，每次 {size(shape)}")
        gap = (logits - traffic(whole, inputs)[1]).abs().max()
        print(f"\nlogits 与一个进程算的，最多相差 {gap:.4f}")
        for rank, answer in enumerate(answers):
            print(f"进程 {rank}：{answer}")
    dist.destroy_process_group()


if __name__ == "__main__" and PROCESSES == 1:
    print("这里只有一个进程，没有切。要真的切成两份，用 torchrun 起两个进程：")
    print("torchrun --nproc-per-node 2 examples/use/tensor_parallel.py")
elif __name__ == "__main__":
    main()
# --8<-- [end:main]

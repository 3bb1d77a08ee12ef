"""一步：损失、梯度、更新，从一个什么也没学过的模型开始。

用法：
    python examples/train/step.py
"""

# --8<-- [start:setup]
import os

import torch
from transformers import AutoConfig, AutoTokenizer, Qwen2ForCausalLM

MODEL = os.environ.get("MODEL", "examples/jiezi")
DEVICE = os.environ.get("DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
torch.manual_seed(0)
try:
    tokenizer = AutoTokenizer.from_pretrained(MODEL, local_files_only=True)
    config = AutoConfig.from_pretrained(MODEL, local_files_only=True)
    model = Qwen2ForCausalLM(config).float().to(DEVICE)  # 只有结构，权重是随机数
except Exception as error:
    hint = "请在仓库根目录运行，或改环境变量 MODEL、DEVICE"
    raise SystemExit(f"读不了模型 {MODEL}（{DEVICE}）：{hint}。\n{error}") from None
# --8<-- [end:setup]

# --8<-- [start:batch]
IGNORE = -100  # 不计损失的位置
talks = [
    ("草是什么颜色？", "草是绿色的。"),
    ("雪是什么颜色？", "雪是白色的。"),
    ("猫怎么叫？", "猫会喵喵叫。"),
    ("狗怎么叫？", "狗会汪汪叫。"),
    ("一加二等于几？", "等于三。"),
    ("二加三等于几？", "等于五。"),
    ("一周有几天？", "一周有七天。"),
    ("一年有几个月？", "一年有十二个月。"),
]


def encode_prompt(question):
    """问题套上聊天模板，变成编号的列表，写到轮到助手回答的地方。

    >>> tokenizer.decode(encode_prompt("你好")).count("<|im_start|>")
    3
    """
    return tokenizer.apply_chat_template(
        [{"role": "user", "content": question}],
        add_generation_prompt=True,
        return_dict=True,
    ).input_ids


def make_batch(talks):
    """几段问答变成一批：input_ids 与 labels，形状都是 (批, 序列)，短的在右边补齐。

    labels 里只有回答和它的结束符是编号，别处都是 IGNORE；一段也没有，抛 ValueError。

    >>> [t.size(0) for t in make_batch([("你好", "你好。"), ("再见", "再见。")])]
    [2, 2]
    """
    if not talks:
        raise ValueError("至少要有一段问答。")
    rows = []
    for question, answer in talks:
        reply = tokenizer(answer + tokenizer.eos_token).input_ids
        rows.append((encode_prompt(question), reply))
    length = max(len(prompt + reply) for prompt, reply in rows)
    input_ids = torch.full((len(rows), length), tokenizer.pad_token_id)
    labels = torch.full((len(rows), length), IGNORE)
    for n, (prompt, reply) in enumerate(rows):
        input_ids[n, : len(prompt + reply)] = torch.tensor(prompt + reply)
        labels[n, len(prompt) : len(prompt + reply)] = torch.tensor(reply)
    return input_ids.to(DEVICE), labels.to(DEVICE)


input_ids, labels = make_batch(talks)
counted = labels != IGNORE
print(tuple(input_ids.shape), "计损失的位置有", int(counted.sum()), "个")
print(f"第一句里是：{tokenizer.decode(labels[0][counted[0]])}")
# --8<-- [end:batch]

# --8<-- [start:loss]
import math

import torch.nn.functional as F


def cross_entropy(logits, target):
    """平均交叉熵，单位 nats；logits: (位置, 词表)，target: (位置,)，是正确的编号。

    >>> round(cross_entropy(torch.zeros(3, 4096), torch.tensor([1, 2, 3])).item(), 3)
    8.318
    """
    log_probs = logits.log_softmax(-1)  # 概率的对数
    return -log_probs.gather(1, target[:, None]).mean()


with torch.no_grad():
    logits = model(input_ids).logits[:, :-1]  # (批, 序列-1, 词表)
target = labels[:, 1:]  # 每个位置预测的是后面一个 token
logits, target = logits[target != IGNORE], target[target != IGNORE]
print(f"手写的          {cross_entropy(logits, target):.4f}")
print(f"F.cross_entropy {F.cross_entropy(logits, target):.4f}")
print(f"ln {config.vocab_size}         {math.log(config.vocab_size):.4f}")
# --8<-- [end:loss]

# --8<-- [start:gradient]
import copy


def compute_loss(model, input_ids, labels):
    """一批的损失：前向，再在计损失的位置上求平均交叉熵，单位 nats。

    >>> compute_loss(model, input_ids, labels).shape
    torch.Size([])
    """
    logits, target = model(input_ids, use_cache=False).logits[:, :-1], labels[:, 1:]
    return cross_entropy(logits[target != IGNORE], target[target != IGNORE])


double = copy.deepcopy(model).double()  # 要减去两个相近的数，位数得多
compute_loss(double, input_ids, labels).backward()

weight = double.model.layers[0].mlp.down_proj.weight
row, column = divmod(int(weight.grad.abs().argmax()), weight.size(1))
h = 1e-3
with torch.no_grad():
    weight[row, column] += h
    above = compute_loss(double, input_ids, labels)
    weight[row, column] -= 2 * h
    below = compute_loss(double, input_ids, labels)
    weight[row, column] += h
print(f"参数加 {h}，损失 {above:.6f}；减 {h}，损失 {below:.6f}")
print(f"有限差分 {(above - below) / (2 * h):.4f}")
print(f".grad    {weight.grad[row, column]:.4f}")
# --8<-- [end:gradient]

# --8<-- [start:descend]
descended = copy.deepcopy(double)
with torch.no_grad():
    for p, q in zip(descended.parameters(), double.parameters(), strict=True):
        p -= 0.01 * q.grad
    print(f"走之前 {compute_loss(double, input_ids, labels):.4f}")
    print(f"走之后 {compute_loss(descended, input_ids, labels):.4f}")
# --8<-- [end:descend]


# --8<-- [start:adamw]
@torch.no_grad()
def adamw(params, moments, step, lr, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.1):
    """AdamW 的第 step 步（从 1 数起），就地改 params；moments 里每个参数一对 (m, v)。

    来源：Loshchilov & Hutter, 2019, 算法 2；衰减与 torch.optim.AdamW 一样乘上 lr。

    >>> p = torch.tensor([1.0]); p.grad = torch.tensor([5.0])
    >>> adamw([p], new_moments([p]), 1, lr=0.1, weight_decay=0.0); round(p.item(), 4)
    0.9
    """
    beta1, beta2 = betas
    for p, (m, v) in zip(params, moments, strict=True):
        m.mul_(beta1).add_((1 - beta1) * p.grad)  # 一阶矩
        v.mul_(beta2).add_((1 - beta2) * p.grad**2)  # 二阶矩
        m_hat = m / (1 - beta1**step)  # 偏差修正
        v_hat = v / (1 - beta2**step)
        p -= lr * weight_decay * p  # 权重衰减，与梯度无关
        p -= lr * m_hat / (v_hat.sqrt() + eps)


def new_moments(params):
    """每个参数一对 (一阶矩, 二阶矩)，形状与参数相同，从 0 开始。

    >>> new_moments([torch.ones(2)])
    [(tensor([0., 0.]), tensor([0., 0.]))]
    """
    return [(torch.zeros_like(p), torch.zeros_like(p)) for p in params]


# --8<-- [end:adamw]

# --8<-- [start:compare]
ours, theirs = copy.deepcopy(double), copy.deepcopy(double)
optimizer = torch.optim.AdamW(
    theirs.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.1
)
params = list(ours.parameters())
moments = new_moments(params)
for step in range(1, 6):
    theirs.zero_grad()
    compute_loss(theirs, input_ids, labels).backward()
    for p, q in zip(params, theirs.parameters(), strict=True):
        p.grad = q.grad.clone()  # 同样的梯度，只比更新
    adamw(params, moments, step, lr=1e-3)
    optimizer.step()


def furthest(a, b):
    """两个模型的参数最多相差多少。

    >>> furthest(model, model)
    0.0
    """
    pairs = zip(a.parameters(), b.parameters(), strict=True)
    return max((p - q).abs().max().item() for p, q in pairs)


print(f"走五步，参数最多改了 {furthest(ours, double):.6f}")
print(f"两种写法最多相差     {furthest(ours, theirs):.12f}")
# --8<-- [end:compare]


# --8<-- [start:muon]
def newton_schulz(update, steps=5):
    """把一个矩阵 (行, 列) 正交化：奇异向量不变，不太小的奇异值推到 1 附近；形状不变。

    来源：Jordan et al., 2024；系数与 torch.optim.Muon 的相同。

    >>> newton_schulz(torch.ones(2, 3)).shape
    torch.Size([2, 3])
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = update / update.norm().clamp(min=1e-7)  # 奇异值都不超过 1
    for _ in range(steps):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x


gradient = weight.grad  # 刚才验算过的那个矩阵的梯度
ranks = [1, 2, 5, 17, 65, 129]  # 从大到小数，第几个奇异值
u, s, vh = torch.linalg.svd(gradient, full_matrices=False)
before = s / gradient.norm()
after = (u.mT @ newton_schulz(gradient) @ vh.mT).diagonal()  # 同样的方向上
for rank in ranks:
    print(f"方向 {rank:3}  之前 {before[rank - 1]:.4f}  之后 {after[rank - 1]:.2f}")
# --8<-- [end:muon]

# --8<-- [start:clip]
model.zero_grad()
compute_loss(model, input_ids, labels).backward()
grads = [p.grad for p in model.parameters()]


def total_norm(grads):
    """全部梯度当成一个长向量的长度。

    >>> total_norm([torch.tensor([3.0]), torch.tensor([[4.0]])]).item()
    5.0
    """
    return sum((g**2).sum() for g in grads).sqrt()


norm = total_norm(grads)
torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
print(f"裁剪之前 {norm:.3f}，之后 {total_norm(grads):.3f}")
# --8<-- [end:clip]

# --8<-- [start:schedule]
LEARNING_RATE = 2e-3


def learning_rate(step, total, peak=LEARNING_RATE):
    """第 step 步（从 0 数起）的学习率：前 5 % 线性升到 peak，然后按余弦降到 0。

    >>> [round(learning_rate(s, 100), 5) for s in (0, 4, 52, 99)]
    [0.0004, 0.002, 0.001, 0.0]
    """
    warm_up = max(1, total // 20)
    if step < warm_up:
        return peak * (step + 1) / warm_up
    progress = (step - warm_up) / (total - warm_up)
    return peak * 0.5 * (1 + math.cos(math.pi * progress))


total = 80
rates = [learning_rate(step, total) for step in range(total)]
print("每隔十步", *(f"{rate:.5f}" for rate in rates[::10]))
# --8<-- [end:schedule]

# --8<-- [start:train]
params = list(model.parameters())
moments, losses, norms = new_moments(params), [], []
for step in range(total):
    loss = compute_loss(model, input_ids, labels)  # 前向，损失
    model.zero_grad()
    loss.backward()  # 梯度
    norms.append(torch.nn.utils.clip_grad_norm_(params, 1.0).item())  # 裁剪之前的
    adamw(params, moments, step + 1, learning_rate(step, total))  # 更新
    losses.append(loss.item())
    if step % 20 == 0:
        print(f"第 {step:2} 步 损失 {loss:.2f}")
losses.append(compute_loss(model, input_ids, labels).item())
print(f"第 {total} 步 损失 {losses[-1]:.2f}")
worst = max(range(total), key=lambda step: norms[step])
print(
    f"第 {worst:2} 步 损失 {losses[worst]:.2f}，梯度的总范数 {norms[worst]:.1f}，最大"
)
print(f"它前一步 损失 {losses[worst - 1]:.2f}，梯度的总范数 {norms[worst - 1]:.1f}")
# --8<-- [end:train]


# --8<-- [start:ask]
def ask(question):
    """贪心地回答一个问题，返回文字。

    >>> isinstance(ask("你好"), str)
    True
    """
    prompt = torch.tensor([encode_prompt(question)], device=DEVICE)
    output = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        max_new_tokens=20,
    )
    return tokenizer.decode(output[0, prompt.size(1) :], skip_special_tokens=True)


model.eval()
answers = [ask(question) for question, _ in talks]
for (question, answer), generated in list(zip(talks, answers, strict=True))[:3]:
    print(f"{question}　生成的：{generated}　训练的：{answer}")
same = sum(a == b for a, (_, b) in zip(answers, talks, strict=True))
print(f"{len(talks)} 句里，一字不差的有 {same} 句")
# --8<-- [end:ask]

# --8<-- [start:unseen]
unseen = [("二加二等于几？", "等于四。"), ("血是什么颜色？", "血是红色的。")]
for question, answer in unseen:
    with torch.no_grad():
        loss = compute_loss(model, *make_batch([(question, answer)]))
    print(f"{question}　生成的：{ask(question)}　「{answer}」的损失 {loss:.1f}")
# --8<-- [end:unseen]

"""从零训练芥子：一个 Qwen2ForCausalLM，只读 `corpus/` 里的语料。

用法：
    python examples/train/train.py --out runs/jiezi          # 完整训练，两个核上约一小时
    python examples/train/train.py --out runs/jiezi          # 被打断之后：同一条命令，从检查点接着训练
    python examples/train/train.py --out runs/smoke --smoke  # 一分钟以内走完全部步骤

检查点是 `<out>/checkpoint.safetensors`，每隔一会儿整个换新，任何时刻被杀掉都不会留下半个文件。
"""

import hashlib
import json
import os
import platform
import random
import re
import sys
import time
from pathlib import Path

import context
import corpus
import torch
import torch.nn.functional as F
import transformers
from context import SYSTEM
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizer import save, train_tokenizer
from tqdm import tqdm
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM

SEED = 2026
EPOCHS = 8
BATCH = 32
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.1
DROPOUT = 0.1
SAVE_EVERY = 60  # 秒
IGNORE = -100  # 不计损失的位置
PREFIXES = (
    "请问",
    "那",
    "那么",
    "嗯，",
    "我想问，",
    "想问下",
    "老师，",
    "芥子，",
    "你好，",
    "问一下：",
    "话说",
    "所以",
)
SUFFIXES = (
    "？",
    "?",
    "。",
    "呢",
    "呢？",
    "啊",
    "呀",
    "吗",
    "，谢谢",
    "？谢谢",
    "！",
    "~",
    "，请说",
    "，简单说",
    "，能讲讲吗",
)
CLAUSE_ENDS = (
    "",
    "",
    "",
    "，这是什么",
    "，叫什么",
    "的是什么",
    "，说的是什么",
    "是怎么回事",
    "，用的是什么",
    "？",
)
OTHER_SYSTEMS = (
    "你是一个乐于助人的助手。",
    "你是芥子，一个教学用的小模型。",
    "请用中文回答。",
    "",
)


def build_model(vocab_size):
    """芥子的结构：Qwen2，4 层，6 个查询头、2 个 KV 头，头维度 32。"""
    config = Qwen2Config(
        vocab_size=vocab_size,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        rope_theta=10000.0,
        tie_word_embeddings=True,
        bos_token_id=vocab_size - 3,
        eos_token_id=vocab_size - 1,
        pad_token_id=vocab_size - 3,
        use_sliding_window=False,
    )
    return Qwen2ForCausalLM(config)


def generation_defaults(vocab_size):
    """与 Qwen2-0.5B-Instruct 相同的生成默认值：抽样是开着的，结束符有两个。"""
    return GenerationConfig(
        do_sample=True,
        temperature=0.7,
        top_p=0.8,
        top_k=20,
        repetition_penalty=1.1,
        bos_token_id=vocab_size - 3,
        eos_token_id=[vocab_size - 1, vocab_size - 3],
        pad_token_id=vocab_size - 3,
    )


def vary(question, rng):
    """把一个问题随手改一改：加前后缀、换大小写、丢字、错字、换位、去空格。"""
    if rng.random() < 0.3:
        question = question.rstrip("？?。")
    if rng.random() < 0.15:
        question = rng.choice(PREFIXES) + question
    if rng.random() < 0.15:
        question = question.rstrip("？?。") + rng.choice(SUFFIXES)
    if rng.random() < 0.15:
        question = rng.choice((question.lower(), question.upper(), question.title()))
    if rng.random() < 0.2:
        question = question.replace(" ", "")
    chars = list(question)
    if len(chars) > 5 and rng.random() < 0.3:
        i = rng.randrange(len(chars) - 1)
        kind = rng.randrange(3)
        if kind == 0:
            del chars[i]
        elif kind == 1:
            chars[i] = rng.choice(
                "的了一是在有这个我不人们来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实"
            )
        else:
            chars[i], chars[i + 1] = chars[i + 1], chars[i]
    return "".join(chars)


class Encoder:
    """把对话变成 input_ids 与 labels；问题的切法在训练时随机变化（同 BPE-dropout 的用意）。"""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.cache = {}

    def encode(self, text, special=False):
        """内容里写着的 <|im_end|> 是普通文字；只有模板自己的记号（special=True）才是特殊 token。"""
        if (text, special) not in self.cache:
            self.cache[text, special] = self.tokenizer(
                text, split_special_tokens=not special
            ).input_ids
        return self.cache[text, special]

    def encode_split(self, text, rng):
        """随机在字与字之间切开，再分段编码：同一句话有许多种 token 序列。"""
        draw = rng.random()
        if draw < 0.3:
            return self.encode(
                text, special=draw < 0.15
            )  # 使用时，提问里的记号多半没有堵上
        p = 1.0 if draw > 0.8 else rng.random() * 0.8
        ids, start = [], 0
        for i in range(1, len(text) + 1):
            wide = i == len(text) or ord(text[i - 1]) > 0x2E80 or ord(text[i]) > 0x2E80
            if i == len(text) or rng.random() < (p if wide else p * 0.1):
                ids += self.encode(text[start:i])
                start = i
        return ids

    def dialogue(self, turns, rng=None, system=SYSTEM):
        """一段对话的 (input_ids, labels)；只有回答和它的结束符计损失。rng 为 None 时不变化。"""
        ids = (
            self.encode(f"<|im_start|>system\n{system}<|im_end|>\n", special=True)
            if system
            else []
        )
        ids, labels = list(ids), [IGNORE] * len(ids)
        for question, answer in turns:
            asked = self.encode_split(question, rng) if rng else self.encode(question)
            head = self.encode("<|im_start|>user\n", special=True) + asked
            head += self.encode("<|im_end|>\n<|im_start|>assistant\n", special=True)
            body = self.encode(answer) + self.encode("<|im_end|>", special=True)
            ids += head + body + self.encode("\n")
            labels += [IGNORE] * len(head) + body + [IGNORE]
        return ids, labels

    def sentence(self, text):
        """一句普通文本，每个 token 都计损失。"""
        ids = self.encode(text) + self.encode("<|endoftext|>", special=True)
        return ids, list(ids)


def concept_talks(rng):
    """概念、没学过的问题、「早点」：[(系统提示词, [(问, 答), …])]，每种问法至少一次，答的写法随机取。"""
    entries, nouns = corpus.entries(), corpus.lines("nouns")
    written, derived = corpus.lines("frames"), corpus.frames()
    part, zaodian_frames = context.phrases(), corpus.lines("zaodian-frames")

    def framed(name):
        frame = rng.choice(written if rng.random() < 0.3 else derived)
        return vary(frame.replace("{}", name), rng)

    asked = [(vary(q, rng), e) for e in entries for q in e.questions]
    for e in entries:
        asked += [(framed(alias), e) for alias in e.aliases for _ in range(3)]
        described = corpus.clauses(e)
        for clause in rng.sample(described, min(len(described), 4)):
            asked.append((vary(clause + rng.choice(CLAUSE_ENDS), rng), e))
    talks = []
    for question, e in asked:
        system, reply, draw = default_system(rng), rng.choice(e.replies), rng.random()
        if e.aliases and draw < 0.06:
            system, reply = rng.choice(part["一句话"]["系统"]), rng.choice(e.answers)
        elif e.english and draw < 0.12:
            system = rng.choice(part["写出英文名"]["系统"])
            reply = context.with_english(e, reply)
        talks.append((system, [(question, reply)]))
    declined = [vary(q, rng) for q in corpus.lines("decline")]
    declined += [framed(noun) for noun in nouns for _ in range(2)]
    for question in declined:
        talks.append((default_system(rng), [(question, rng.choice(corpus.DECLINES))]))
    zaodian = corpus.zaodian_for_training()
    for sentence, answer in rng.sample(zaodian, len(zaodian) // 3):
        question = rng.choice(zaodian_frames).replace("{}", sentence)
        talks.append((SYSTEM, [(question, answer)]))
    return talks


def follow_up_talks(rng):
    """追问：一个概念之后，接着问它的英文、章节、再说一遍、另一个概念，或写好的追问。"""
    entries, talks = corpus.entries(), []
    for e in entries:
        for n in range(4):
            turns = [(vary(rng.choice(e.questions), rng), rng.choice(e.replies))]
            if e.follow_ups and n < 2:
                turns += [(vary(rng.choice(q), rng), a) for q, a in e.follow_ups]
            elif e.aliases:
                turns.append(context.follow_up(rng, e, entries))
                if rng.random() < 0.3:
                    turns.append(context.follow_up(rng, e, entries))
            talks.append((default_system(rng), turns))
    return talks


def context_talks(rng, count):
    """名字与跟念：名字和短句都是新造的。"""
    entries = [e for e in corpus.entries() if e.aliases]
    systems = context.phrases()["系统里的名字"]["系统"]

    def concept():
        e = rng.choice(entries)
        return vary(rng.choice(e.questions), rng), rng.choice(e.replies)

    talks = []
    for _ in range(count):
        draw, turns = rng.random(), []
        system = default_system(rng)
        if draw < 0.3:  # 系统给了名字；也许先聊一句
            system, *asked = context.ask_name(rng, rng.choice(systems))
            turns = [concept()] * (rng.random() < 0.15) + [tuple(asked)]
        elif draw < 0.65:  # 说了名字，马上问，或隔一两句再问；系统也许另有名字
            name = context.new_name(rng)
            if rng.random() < 0.25:
                system, *asked = context.ask_name(rng, rng.choice(systems))
                turns += [tuple(asked)] * (rng.random() < 0.5)
            turns.append(context.tell_name(rng, name))
            turns += [concept() for _ in range(rng.choice((0, 0, 1, 1, 2)))]
            turns.append(context.recall(rng, name))
        elif draw < 0.72:  # 没有说过
            if rng.random() < 0.3:
                system, *_ = context.ask_name(rng, rng.choice(systems))
            turns = [concept()] * (rng.random() < 0.5) + [context.recall(rng)]
        else:
            turns = [concept()] * (rng.random() < 0.1) + [context.repeat(rng)]
        talks.append((system, turns))
    return talks


def repeated_tokens(rng, vocab_size):
    """一串随机的 token 写两遍，只有第二遍计损失：学会抄，不看抄的是什么。"""
    once = [rng.randrange(vocab_size - 3) for _ in range(rng.randint(5, 24))]
    return once + once, [IGNORE] * (len(once) + 1) + once[1:]


def default_system(rng):
    return SYSTEM if rng.random() < 0.88 else rng.choice(OTHER_SYSTEMS)


def epoch_samples(encoder, epoch, seed=SEED):
    """一轮的全部样本，次序与变化只由 (seed, epoch) 决定，所以中断后能原样重来。"""
    rng = random.Random(f"{seed}-{epoch}")
    talks = concept_talks(rng)
    for i in rng.sample(range(len(talks)), len(talks) // 16):  # 换话题的多轮
        system, turns = talks[i]
        talks.append((system, rng.choice(talks[: len(talks) // 2])[1] + turns))
    talks += follow_up_talks(rng)
    samples = [encoder.dialogue(turns, rng, system) for system, turns in talks]
    # 要抄的片段不随机切开，上文里和回答里才是同样的 token
    copied = context_talks(rng, len(talks) // 3)
    samples += [encoder.dialogue(turns, None, system) for system, turns in copied]
    size = len(encoder.tokenizer)
    samples += [repeated_tokens(rng, size) for _ in range(len(talks) // 25)]
    samples += [encoder.sentence(s) for s, _ in corpus.zaodian_for_training()]
    rng.shuffle(samples)
    return samples


def epoch_batches(samples, seed, epoch, batch=BATCH):
    """长度相近的样本放进同一批，少补空位；批的次序打乱。"""
    rng = random.Random(f"{seed}-{epoch}-batches")
    order = sorted(
        range(len(samples)), key=lambda i: len(samples[i][0]) + rng.random() * 8
    )
    batches = [order[i : i + batch] for i in range(0, len(order), batch)]
    rng.shuffle(batches)
    for members in batches:
        chosen = [samples[i] for i in members]
        length = max(len(ids) for ids, _ in chosen)
        # 右边补 0：因果掩码让前面的位置看不到它们，所以不需要 attention_mask
        input_ids = torch.tensor([ids + [0] * (length - len(ids)) for ids, _ in chosen])
        labels = torch.tensor(
            [lab + [IGNORE] * (length - len(lab)) for _, lab in chosen]
        )
        yield input_ids, labels


def add_dropout(model, p=DROPOUT):
    """训练时给嵌入和每个子层的输出加 dropout；用的是钩子，存下来的模型仍是原样的 Qwen2。"""

    def hook(module, args, output):
        if isinstance(output, tuple):
            return (F.dropout(output[0], p, model.training), *output[1:])
        return F.dropout(output, p, model.training)

    sublayers = [model.model.embed_tokens] + [
        s for layer in model.model.layers for s in (layer.self_attn, layer.mlp)
    ]
    return [s.register_forward_hook(hook) for s in sublayers]


def compute_loss(model, input_ids, labels):
    """下一个 token 的平均交叉熵，单位 nats；只在计损失的位置上算 logits。"""
    hidden_states = model.model(input_ids=input_ids, use_cache=False).last_hidden_state[
        :, :-1
    ]  # (批, 序列-1, 隐藏)
    target = labels[:, 1:]
    chosen = target != IGNORE
    return F.cross_entropy(model.lm_head(hidden_states[chosen]), target[chosen])


def build_optimizers(model):
    """层里的矩阵用 Muon，嵌入表与一维的参数用 AdamW；同一个学习率。

    Muon 把一个矩阵的更新正交化，各个方向走得一样远；match_rms_adamw 让它的步子与 AdamW 的一样大。
    来源：Jordan et al., 2024；Liu et al., arXiv 2502.16982。
    """
    matrices, tables, vectors = [], [], []
    for name, p in model.named_parameters():
        kind = vectors if p.dim() == 1 else tables if "embed" in name else matrices
        kind.append(p)
    groups = [
        {"params": tables, "weight_decay": WEIGHT_DECAY},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return [
        torch.optim.Muon(
            matrices,
            lr=LEARNING_RATE,
            weight_decay=WEIGHT_DECAY,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.98), fused=True),
    ]


def learning_rate(step, total, peak=LEARNING_RATE):
    """前 5 % 步线性升到 peak，然后按余弦降到 0。

    >>> [round(learning_rate(s, 100), 5) for s in (0, 4, 52, 99)]
    [0.0004, 0.002, 0.001, 0.0]
    """
    warm_up = max(1, total // 20)
    if step < warm_up:
        return peak * (step + 1) / warm_up
    return (
        peak
        * 0.5
        * (
            1
            + torch.cos(
                torch.tensor((step - warm_up) / (total - warm_up) * torch.pi)
            ).item()
        )
    )


def save_checkpoint(path, model, optimizers, state):
    """把参数、优化器、随机数状态写进一个 safetensors；先写临时文件再改名，随时可以被杀掉。"""
    tensors = {f"model.{name}": p for name, p in model.named_parameters()}
    for k, optimizer in enumerate(optimizers):
        for i, slot in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{k}.{i}.{key}": v for key, v in slot.items()}
    tensors["rng"] = torch.get_rng_state()
    temporary = path.with_suffix(".tmp")
    save_file(
        {k: v.detach().contiguous() for k, v in tensors.items()},
        temporary,
        {"state": json.dumps(state)},
    )
    os.replace(temporary, path)


def load_checkpoint(path, model, optimizers):
    """读回 save_checkpoint 写的文件，返回当时的 state。"""
    slots = [{} for _ in optimizers]
    with safe_open(path, "pt") as file, torch.no_grad():
        for name in file.keys():
            if name.startswith("model."):
                model.get_parameter(name.removeprefix("model.")).copy_(
                    file.get_tensor(name)
                )
            elif name.startswith("optimizer."):
                _, k, i, key = name.split(".")
                slots[int(k)].setdefault(int(i), {})[key] = file.get_tensor(name)
        torch.set_rng_state(file.get_tensor("rng"))
        state = json.loads(file.metadata()["state"])
    for optimizer, slot in zip(optimizers, slots, strict=True):
        optimizer.load_state_dict(optimizer.state_dict() | {"state": slot})
    return state


def loss_curve(losses, path):
    """把损失曲线画成 SVG。losses 是 [(step, loss), …]。"""
    width, height, left, bottom = 340, 220, 30, 34
    last, top = losses[-1][0], max(loss for _, loss in losses)

    def place(step, loss):
        x = left + step / max(last, 1) * (width - left - 12)
        return f"{x:.1f},{12 + (1 - loss / top) * (height - bottom - 12):.1f}"

    # 颜色写在元素上，取所在页面的变量；单独打开时用后备的颜色
    ink, accent = "fill:var(--muted,#777)", "fill:none;stroke:var(--accent,#9a6b00)"
    marks = "".join(
        f'<text x="{left - 6}" y="{float(place(0, v).split(",")[1]) + 4}" '
        f'text-anchor="end" style="{ink}">{v:g}</text>'
        for v in range(0, int(top) + 1, 2)
    )
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'class="narrow" role="img" aria-labelledby="loss-title" font-size="14">'
        f'<title id="loss-title">训练损失，从 {losses[0][1]:.2f} 到 '
        f"{losses[-1][1]:.2f} nats/token</title>"
        f'<path d="M{left} {height - bottom}H{width - 12}" '
        f'style="fill:none;stroke:var(--line,#888)"/>{marks}'
        f'<path d="M{" L".join(place(*point) for point in losses)}" '
        f'style="{accent};stroke-width:1.5"/>'
        f'<text x="{left}" y="{height - 10}" style="{ink}">0</text>'
        f'<text x="{width - 12}" y="{height - 10}" text-anchor="end" '
        f'style="{ink}">第 {last:,} 步</text></svg>\n',
        encoding="utf-8",
    )


def record(out, state, seconds):
    """把这次训练写成 `<out>/training.json`：用什么训练、多久、得到的权重的 sha256。"""
    weights = (out / "model.safetensors").read_bytes()
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__.partition("+")[0],
        "transformers": transformers.__version__,
    }
    facts = state["settings"] | {
        "steps": state["step"],
        "tokens": state["tokens"],
        "loss": round(state["average"], 4),
        "seconds": round(seconds),
        "threads": torch.get_num_threads(),
        "date": time.strftime("%Y-%m-%d"),
        "versions": versions,
        "sha256": hashlib.sha256(weights).hexdigest(),
        "losses": state["losses"],
    }
    text = json.dumps(facts, ensure_ascii=False, indent=1)
    # 一对数一行：文件短些
    text = re.sub(r"\[\s+(\d+),\s+([\d.]+)\s+\]", r"[\1, \2]", text)
    (out / "training.json").write_text(text + "\n", encoding="utf-8")


def train(
    out, epochs=EPOCHS, seed=SEED, smoke=False, vocab_size=4096, save_every=SAVE_EVERY
):
    """训练并写出一个模型文件夹；`out` 里有检查点时从那里接着来。

    Args:
        out: 文件夹；训练中放检查点，训练完放 config.json、model.safetensors（bfloat16）、分词器、loss.svg 与 training.json。
        smoke: 只用一小部分样本，验证流程而不是质量。

    Returns:
        最后的平均损失，nats/token。
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / "checkpoint.safetensors"
    tokenizer = train_tokenizer(vocab_size)
    encoder = Encoder(tokenizer)
    torch.manual_seed(seed)
    model = build_model(len(tokenizer))
    optimizers = build_optimizers(model)
    add_dropout(model)
    settings = {
        "epochs": epochs,
        "seed": seed,
        "smoke": smoke,
        "vocab_size": vocab_size,
        "corpus": corpus.digest(),
    }
    state = {
        "epoch": 0,
        "batch": 0,
        "step": 0,
        "average": None,
        "losses": [],
        "tokens": 0,
        "seconds": 0.0,
        "settings": settings,
    }
    if checkpoint.exists():
        state = load_checkpoint(checkpoint, model, optimizers)
        if state["settings"] != settings:
            sys.exit(
                f"{checkpoint} 是用别的设置或别的语料训练的：换一个 --out，或先删掉它。"
            )
        print(f"从检查点接着训练：第 {state['step']} 步")

    def batches_of(epoch):
        samples = epoch_samples(encoder, epoch, seed)
        return list(epoch_batches(samples[:256] if smoke else samples, seed, epoch))

    total = len(batches_of(0)) * epochs  # 各轮批数相差无几；学习率在此之后保持末值
    model.train()
    begun = saved = time.monotonic()
    before, tokens, losses = state["seconds"], 0, state["losses"]  # tokens：这一程的
    with tqdm(total=total, initial=state["step"], unit="步", mininterval=1) as bar:
        for epoch in range(state["epoch"], epochs):
            first = state["batch"] if epoch == state["epoch"] else 0
            for index, (input_ids, labels) in enumerate(batches_of(epoch)):
                if index < first:
                    continue
                rate = learning_rate(min(state["step"], total - 1), total)
                for group in [g for o in optimizers for g in o.param_groups]:
                    group["lr"] = rate
                loss = compute_loss(model, input_ids, labels)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                for optimizer in optimizers:
                    optimizer.step()
                    optimizer.zero_grad()
                state["step"] += 1
                tokens += input_ids.numel()
                state["tokens"] += input_ids.numel()
                average = state["average"]  # 最近约 50 步的滑动平均
                average = (
                    loss.item()
                    if average is None
                    else 0.98 * average + 0.02 * loss.item()
                )
                seconds = time.monotonic() - begun
                state |= {
                    "epoch": epoch,
                    "batch": index + 1,
                    "average": average,
                    "seconds": before + seconds,
                }
                if state["step"] % 20 == 1:
                    losses.append((state["step"], round(average, 4)))
                bar.update()
                bar.set_postfix_str(
                    f"损失 {average:.3f}，{tokens / seconds:.0f} token/s"
                )
                if time.monotonic() - saved > save_every:
                    save_checkpoint(checkpoint, model, optimizers, state)
                    saved = time.monotonic()
    model.eval()
    model.generation_config = generation_defaults(len(tokenizer))
    model.to(torch.bfloat16).save_pretrained(out)
    save(tokenizer, out)
    loss_curve(losses, out / "loss.svg")
    record(out, state, before + time.monotonic() - begun)
    checkpoint.unlink(missing_ok=True)
    print(
        f"{model.num_parameters():,} 个参数，{state['step']} 步，{state['seconds'] / 60:.1f} 分钟",
        end="，",
    )
    print(f"末尾损失 {state['average']:.3f}，写到 {out}")
    return state["average"]


def main():
    parser = corpus.Parser("从零训练芥子；被打断之后用同一条命令接着训练。")
    parser.options.add_argument(
        "--out",
        type=corpus.writable_folder,
        default="runs/jiezi",
        help="写到哪个文件夹（默认 runs/jiezi）",
    )
    parser.options.add_argument(
        "--epochs", type=int, default=EPOCHS, help=f"把语料读几轮（默认 {EPOCHS}）"
    )
    parser.options.add_argument(
        "--smoke",
        action="store_true",
        help="只用 256 个样本、两轮，一分钟以内走完全部步骤",
    )
    args = parser.parse_args()
    if args.epochs < 1:
        parser.error("--epochs 至少是 1")
    train(args.out, 2 if args.smoke else args.epochs, smoke=args.smoke)


if __name__ == "__main__":
    main()

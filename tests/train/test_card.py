"""模型卡、训练的记录、语料、权重说的是同一次训练。"""

import hashlib
import json
import re

import corpus
import evaluate
import pytest
import train
from safetensors import safe_open


def test_shape_table_matches_the_model(pytestconfig):
    folder = pytestconfig.rootpath / "examples/jiezi"
    card = (folder / "README.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| (\S[^|]*?) \| ([^|]+?) \| [^|]+ \|$", card, re.M))
    config = json.loads((folder / "config.json").read_text("utf-8"))
    with safe_open(folder / "model.safetensors", "pt") as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys()]
    count = sum(shape[0] * (shape[1] if len(shape) > 1 else 1) for shape in shapes)
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    assert rows["参数"] == f"{count:,}"
    assert rows["层数"] == str(config["num_hidden_layers"])
    assert rows["宽度（hidden_size）"] == str(config["hidden_size"])
    assert rows["查询头 / KV 头 / 头维度"] == (
        f"{heads} / {kv_heads} / {config['hidden_size'] // heads}"
    )
    assert rows["MLP 宽度"] == str(config["intermediate_size"])
    assert rows["词表（含特殊 token）"] == f"{config['vocab_size']:,}"
    assert rows["上下文"] == f"{config['max_position_embeddings']:,}"
    home = (pytestconfig.rootpath / "docs/index.md").read_text("utf-8")
    assert f"| 参数 | {count // 10_000} 万 |" in home


def test_card_corpus_and_weights_belong_together(pytestconfig):
    """权重是卡上那次训练写出的，读的是仓库里的语料；卡上的表由记录填成。"""
    folder = pytestconfig.rootpath / "examples/jiezi"
    if not (folder / "training.json").exists():
        pytest.skip("权重还是第一版，没有 training.json：换上第二版才有得比")
    facts = json.loads((folder / "training.json").read_text("utf-8"))
    weights = (folder / "model.safetensors").read_bytes()
    assert facts["sha256"] == hashlib.sha256(weights).hexdigest()
    assert facts["corpus"] == corpus.digest()
    assert (facts["epochs"], facts["seed"]) == (train.EPOCHS, train.SEED)
    assert not facts["smoke"] and facts["seconds"] <= 75 * 60
    card = (folder / "README.md").read_text("utf-8")
    assert evaluate.fill(card, "训练记录", evaluate.training_table(facts)) == card
    assert f"{len(corpus.entries())} 块" in card

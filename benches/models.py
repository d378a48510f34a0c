"""Writes the models of the benchmarks: real shapes, random weights, in bf16 as
models are published. Each side then keeps them in what it computes with.

`models.py SCRATCH`; each is written once. The tokenizer is the base model's:
only its number of tokens matters here.
"""

import json
import pathlib
import shutil
import sys

import torch
import transformers

transformers.logging.disable_progress_bar()

BASE = pathlib.Path(__file__).parent.parent / "assets/base"
COMMON = {"model_type": "qwen2", "rms_norm_eps": 1e-6, "tie_word_embeddings": True, "hidden_act": "silu"}
SHAPES = {
    "0.5M": json.loads((BASE / "config.json").read_text()),
    "30M": COMMON | {
        "vocab_size": 8192, "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8,
        "num_attention_heads": 8, "num_key_value_heads": 2, "rope_theta": 10_000.0,
        "max_position_embeddings": 2048,
    },
    # Qwen2.5-0.5B's config.json.
    "0.5B": COMMON | {
        "vocab_size": 151_936, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
        "num_attention_heads": 14, "num_key_value_heads": 2, "rope_theta": 1_000_000.0,
        "max_position_embeddings": 32_768,
    },
}


def write(scratch, name):
    """The folder of a model."""
    folder = scratch / name
    text = json.dumps(SHAPES[name] | {"dtype": "bfloat16"}, indent=2)
    # Written last: what is there is whole, and of this shape and type.
    card = folder / "config.json"
    if not (card.exists() and card.read_text() == text):
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(1)
        config = transformers.Qwen2Config(**SHAPES[name])
        model = transformers.Qwen2ForCausalLM(config).bfloat16()
        model.save_pretrained(folder, max_shard_size="100GB")
        shutil.copy(BASE / "tokenizer.json", folder)
        card.write_text(text)
    return folder


if __name__ == "__main__":
    for each in SHAPES:
        write(pathlib.Path(sys.argv[1]), each)

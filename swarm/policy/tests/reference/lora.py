"""Writes the folder `lora`: an adapter as PEFT writes it, and what it computes.

    pip install torch transformers peft
    python lora.py

With a folder as its argument it reads an adapter from there instead, checks
that it computes the same as the one that PEFT wrote, and writes nothing:
that is how files of ours are shown to PEFT.
"""

import json
import pathlib
import sys

import peft
import torch
import transformers

from models import SIZES, fill, rounded

HERE = pathlib.Path(__file__).parent
TOKENS = (torch.arange(2 * 9) * 11 % 29).reshape(2, 9)


def base():
    config = transformers.Qwen2Config(**SIZES | dict(tie_word_embeddings=True), attn_implementation="eager")
    model = transformers.Qwen2ForCausalLM(config).float().eval()
    fill(model)
    return model


def log_probs(model):
    logits = model(input_ids=TOKENS).logits[:, :-1].reshape(16, 29)
    return torch.log_softmax(logits, -1).gather(1, TOKENS[:, 1:].reshape(16, 1)).squeeze(1)


def write():
    settings = peft.LoraConfig(
        r=4, lora_alpha=6, target_modules=["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"], task_type="CAUSAL_LM"
    )
    model = peft.get_peft_model(base(), settings)
    pairs = [(name, weight) for name, weight in sorted(model.named_parameters()) if "lora_" in name]
    for number, (_, weight) in enumerate(pairs):
        index = torch.arange(weight.numel(), dtype=torch.int64)
        wave = ((index * 7919 + number * 104729) % 2001 - 1000).double() / 1000
        weight.data = (0.5 * wave).float().reshape(weight.shape)
    found = log_probs(model)
    (-found.mean()).backward()
    short = lambda name: name.removeprefix("base_model.model.").replace(".default", "")
    model.peft_config["default"].base_model_name_or_path = "tiny"
    model.save_pretrained(HERE / "lora")
    (HERE / "lora" / "README.md").unlink(missing_ok=True)
    expected = dict(
        made_by=f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}",
        config=SIZES | dict(model_type="qwen2", tie_word_embeddings=True), tokens=TOKENS.tolist(),
        log_probs=found.tolist(), gradient_norms={short(name): weight.grad.norm().item() for name, weight in pairs},
    )
    (HERE / "lora" / "expected.json").write_text(json.dumps(rounded(expected), indent=1) + "\n")


def check(folder):
    expected = torch.tensor(json.loads((HERE / "lora" / "expected.json").read_text())["log_probs"])
    found = log_probs(peft.PeftModel.from_pretrained(base(), folder))
    apart = (found - expected).abs().max().item()
    print(f"peft {peft.__version__} loads {folder}; its log-probabilities are {apart:.1e} from those recorded")
    assert apart < 1e-5


if __name__ == "__main__":
    check(sys.argv[1]) if len(sys.argv) > 1 else write()

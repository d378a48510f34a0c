"""Writes models.json: what PyTorch and transformers compute for tiny models.

    pip install torch transformers
    python models.py

The weights are a formula of whole numbers, so that both sides have the same.
"""

import json
import pathlib

import torch
import transformers

SIZES = dict(
    vocab_size=29, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-6, rope_theta=10000.0,
    max_position_embeddings=256, hidden_act="silu",
)
# With heads of 8 their wavelengths are 6, 63, 628 and 6283 positions: short,
# between, long and long for these numbers.
LLAMA3 = dict(
    rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=128,
)
CASES = [
    dict(model_type="qwen2", tie_word_embeddings=True),
    dict(model_type="qwen2", tie_word_embeddings=False),
    # Heads wider than the hidden size over their number, as Qwen3 has them.
    dict(model_type="qwen3", tie_word_embeddings=True, head_dim=8),
    dict(model_type="llama", tie_word_embeddings=False, head_dim=8, rope_scaling=LLAMA3),
    # SmolLM2: a Llama with tied embeddings and no scaling.
    dict(model_type="llama", tie_word_embeddings=True),
]


def fill(model):
    for number, (name, weight) in enumerate(sorted(model.named_parameters())):
        index = torch.arange(weight.numel(), dtype=torch.int64)
        wave = ((index * 7919 + number * 104729) % 2001 - 1000).double() / 1000
        values = 1 + 0.3 * wave if name.endswith("norm.weight") else 0.3 * wave
        weight.data = values.float().reshape(weight.shape)


def case(choices):
    config = dict(SIZES, **choices)
    settings = {key: value for key, value in config.items() if key not in ("model_type", "rope_theta", "rope_scaling")}
    rope = dict({"rope_type": "default"}, **config.get("rope_scaling", {}), rope_theta=config["rope_theta"])
    made = transformers.AutoConfig.for_model(
        config["model_type"], **settings, rope_parameters=rope, attn_implementation="eager"
    )
    model = transformers.AutoModelForCausalLM.from_config(made).float().eval()
    assert made.rope_parameters["rope_theta"] == SIZES["rope_theta"]
    fill(model)
    tokens = (torch.arange(2 * 9) * 11 % 29).reshape(2, 9)
    logits = model(input_ids=tokens).logits[:, :-1].reshape(16, 29)
    all_log_probs = torch.log_softmax(logits, -1)
    log_probs = all_log_probs.gather(1, tokens[:, 1:].reshape(16, 1)).squeeze(1)
    (-log_probs.mean()).backward()
    return dict(
        config=config,
        tokens=tokens.tolist(),
        logits=logits[::5].tolist(),  # of every fifth row
        log_probs=log_probs.tolist(),
        entropies=(-(all_log_probs.exp() * all_log_probs).sum(1)).tolist(),
        # Norm of the gradient of the mean negative log-probability.
        gradient_norms={name: weight.grad.norm().item() for name, weight in sorted(model.named_parameters())},
        # One whole gradient, to see direction and not size alone.
        gradient=model.model.layers[0].self_attn.k_proj.weight.grad.flatten().tolist(),
    )


def rounded(value):
    if isinstance(value, float):
        return float(f"{value:.8g}")
    if isinstance(value, list):
        return [rounded(item) for item in value]
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return value


if __name__ == "__main__":
    cases = [rounded(case(choices)) for choices in CASES]
    made_by = f"torch {torch.__version__}, transformers {transformers.__version__}"
    text = ",\n".join(json.dumps(item) for item in cases)
    path = pathlib.Path(__file__).with_name("models.json")
    path.write_text(f'{{"made_by": "{made_by}", "cases": [\n{text}\n]}}\n')

"""Writes grpo.json: two GRPO updates of a tiny model, as TRL makes them.

    pip install torch transformers trl peft
    python grpo.py

The loss is `GRPOTrainer._compute_loss` itself, on a batch of our own; the
weights before the first update are the old policy and the reference of both.
"""

import json
import pathlib
import tempfile

import datasets
import tokenizers
import torch
import transformers
import trl

from models import SIZES, fill, rounded

PROMPTS = [[3, 11, 7], [5, 2]]
COMPLETIONS = [
    [[4, 9, 28], [1, 1, 13, 20, 6], [17]],
    [[8, 8, 2, 19], [25, 14], [10, 0, 23, 12, 21, 16]],
]
REWARDS = [[1.0, 0.0, 0.1], [0.0, 1.0, 1.0]]
RATE, WEIGHT_DECAY = 0.02, 0.1


def made_model():
    config = transformers.Qwen2Config(**SIZES | dict(tie_word_embeddings=True), attn_implementation="eager")
    model = transformers.Qwen2ForCausalLM(config).float()
    fill(model)
    return model


def trainer(model, level):
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({f"t{i}": i for i in range(29)}, unk_token="t0"))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="t0", eos_token="t1")
    config = trl.GRPOConfig(
        output_dir=tempfile.mkdtemp(), report_to="none", use_cpu=True, bf16=False, num_generations=3,
        per_device_train_batch_size=6, epsilon=0.2, epsilon_high=0.28, delta=4.0,
        importance_sampling_level=level, loss_type={"token": "bnpo", "sequence": "grpo"}[level],
        gradient_checkpointing=False, use_bias_correction_kl=False,
    )
    made = trl.GRPOTrainer(
        model=model, reward_funcs=lambda completions, **_: [0.0] * len(completions), args=config,
        train_dataset=datasets.Dataset.from_dict({"prompt": ["t1"] * 6}), processing_class=tokenizer,
    )
    # Only now, or it would look for a reference model by the model's name.
    made.beta = 0.04
    return made


def padded(rows, left):
    width = max(map(len, rows))
    ids, mask = [], []
    for row in rows:
        gap = width - len(row)
        ids.append([0] * gap + row if left else row + [0] * gap)
        mask.append([0] * gap + [1] * len(row) if left else [1] * len(row) + [0] * gap)
    return torch.tensor(ids), torch.tensor(mask)


def case(level):
    model = made_model()
    grpo = trainer(model, level)
    model = grpo.model
    prompts = [prompt for prompt, group in zip(PROMPTS, COMPLETIONS) for _ in group]
    prompt_ids, prompt_mask = padded(prompts, True)
    completion_ids, completion_mask = padded([c for group in COMPLETIONS for c in group], False)
    rewards = torch.tensor(REWARDS)
    advantages = (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)
    ids = torch.cat([prompt_ids, completion_ids], 1)
    mask = torch.cat([prompt_mask, completion_mask], 1)
    with torch.no_grad():
        start, _ = grpo._get_per_token_logps_and_entropies(model, ids, mask, completion_ids.size(1))[:2]
    batch = dict(
        prompt_ids=prompt_ids, prompt_mask=prompt_mask, completion_ids=completion_ids,
        completion_mask=completion_mask, advantages=advantages.flatten(), old_per_token_logps=start,
        ref_per_token_logps=start, num_items_in_batch=completion_mask.sum(),
    )
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    plain = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [dict(params=decayed, weight_decay=WEIGHT_DECAY), dict(params=plain, weight_decay=0.0)], lr=RATE
    )
    model.train()
    grpo.current_gradient_accumulation_steps = 1
    losses, norms = [], []
    for _ in range(2):
        optimizer.zero_grad()
        loss = grpo._compute_loss(model, batch)
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item())
        losses.append(loss.item())
        optimizer.step()
    return dict(
        level=level, losses=losses, grad_norms=norms, start=[
            value for row, keep in zip(start.tolist(), completion_mask.tolist()) for value, k in zip(row, keep) if k
        ],
        # Sums and norms of the weights afterwards, and one whole.
        weights={n: [w.sum().item(), w.norm().item()] for n, w in sorted(model.named_parameters())},
        norm=model.model.layers[1].mlp.up_proj.weight.flatten()[:64].tolist(),
    )


if __name__ == "__main__":
    cases = [rounded(case(level)) for level in ("token", "sequence")]
    head = dict(
        made_by=f"torch {torch.__version__}, transformers {transformers.__version__}, trl {trl.__version__}",
        config=SIZES | dict(model_type="qwen2", tie_word_embeddings=True), prompts=PROMPTS, completions=COMPLETIONS,
        rewards=REWARDS, learning_rate=RATE, weight_decay=WEIGHT_DECAY,
    )
    path = pathlib.Path(__file__).with_name("grpo.json")
    path.write_text(json.dumps(head | dict(cases=cases), indent=1) + "\n")

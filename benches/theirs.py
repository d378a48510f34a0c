"""Their side of the benchmarks: PyTorch, transformers, PEFT and TRL, the same requests.

`theirs.py FOLDER DTYPE THREADS`; answers a JSON object a line, as ours.rs does.
"""

import json
import os
import resource
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
# What libraries print is not an answer.
answers, sys.stdout = sys.stdout, sys.stderr

import torch
import transformers

folder, dtype, threads = sys.argv[1], getattr(torch, sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(threads)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def times():
    return time.process_time(), time.perf_counter()


def took(tokens, start):
    cpu, wall = times()
    return {"tokens": tokens, "cpu": cpu - start[0], "wall": wall - start[1]}


def batch_of(asked):
    """Rows of `tokens` tokens and one more, all but the first predicted."""
    rows, columns = torch.arange(asked["batch"])[:, None], torch.arange(asked["tokens"] + 1)
    return (rows * 31 + columns).mul(7919).remainder(300)


@torch.inference_mode()
def decode(asked):
    """Steps with a cache; their prompt is not timed, ours is."""
    batch, tokens, all_cpu, all_wall = asked["batch"], asked["tokens"], 0, 0
    prompt = torch.arange(12).repeat(batch, 1)
    for _ in range(asked.get("times", 1)):
        out = model(prompt, use_cache=True, logits_to_keep=1)
        cache, logits = out.past_key_values, out.logits[:, -1]
        cpu, wall = times()
        for _ in range(tokens):
            log_probs = torch.log_softmax(logits.float(), -1)
            drawn = torch.multinomial(log_probs.exp(), 1)
            log_probs.gather(1, drawn)
            out = model(drawn, past_key_values=cache, use_cache=True)
            cache, logits = out.past_key_values, out.logits[:, -1]
        end_cpu, end_wall = times()
        all_cpu, all_wall = all_cpu + end_cpu - cpu, all_wall + end_wall - wall
    return {"tokens": batch * tokens * asked.get("times", 1), "cpu": all_cpu, "wall": all_wall}


@torch.inference_mode()
def prefill(asked):
    prompt = torch.arange(asked["tokens"]).remainder(300).unsqueeze(0)
    start = times()
    model(prompt, use_cache=True, logits_to_keep=1)
    return took(prompt.numel(), start)


@torch.inference_mode()
def log_probs(asked):
    tokens = batch_of(asked)
    start = times()
    logits = model(tokens[:, :-1]).logits.float()
    torch.log_softmax(logits, -1).gather(2, tokens[:, 1:, None])
    return took(tokens[:, 1:].numel(), start)


learner = optimizer = None


def train(asked):
    """One update on the next-token loss of a batch, of all weights or of an adapter."""
    global learner, optimizer
    if learner is None:
        learner = model.train()
        if asked["method"] == "lora":
            import peft

            maps = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
            settings = peft.LoraConfig(r=16, lora_alpha=32, target_modules=maps, task_type="CAUSAL_LM")
            learner = peft.get_peft_model(model, settings)
        trained = [weight for weight in learner.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-6)
    tokens = batch_of(asked)
    start = times()
    logits = learner(tokens[:, :-1], use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())
    del logits
    loss.backward()
    torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return took(tokens[:, 1:].numel(), start)


def grpo(asked):
    """A whole step of TRL's GRPOTrainer; tokens are those of the completions."""
    import datasets
    import trl

    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=f"{folder}/tokenizer.json", eos_token="<|im_end|>", pad_token="<|im_end|>",
        padding_side="left", chat_template=CHATML)
    marks, counts = [], []

    def reward(completion_ids, **_):
        counts.append(sum(map(len, completion_ids)))
        return [sum(token % 2 for token in tokens) / len(tokens) for tokens in completion_ids]

    class Clock(transformers.TrainerCallback):
        def on_step_begin(self, *_, **__):
            marks.append(times())

        def on_step_end(self, *_, **__):
            marks.append(times())

    prompts = [[{"role": "user", "content": "x" * (40 + group)}] for group in range(asked["groups"])]
    with tempfile.TemporaryDirectory() as scratch:
        settings = trl.GRPOConfig(
            output_dir=scratch, use_cpu=True, bf16=False, gradient_checkpointing=False, report_to=[],
            save_strategy="no", logging_strategy="no", disable_tqdm=True, seed=1, shuffle_dataset=False,
            dataloader_pin_memory=False, max_steps=2, learning_rate=1e-6,
            num_generations=asked["batch"], per_device_train_batch_size=asked["groups"] * asked["batch"],
            max_completion_length=asked["tokens"], temperature=1.0, beta=0.0, num_iterations=1)
        trainer = trl.GRPOTrainer(
            model=model, reward_funcs=reward, args=settings, processing_class=tokenizer,
            train_dataset=datasets.Dataset.from_list([{"prompt": prompt} for prompt in prompts]),
            callbacks=[Clock()])
        trainer.train()
    # The second of two steps: the first warms up.
    (cpu, wall), (end_cpu, end_wall) = marks[-2:]
    return {"tokens": counts[-1], "cpu": end_cpu - cpu, "wall": end_wall - wall}


works = {"decode": decode, "prefill": prefill, "log-probs": log_probs, "train": train, "grpo": grpo}
for line in sys.stdin:
    asked = json.loads(line)
    try:
        answer = works[asked["work"]](asked)
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    answer["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1.024e-3
    print(json.dumps(answer), file=answers, flush=True)

"""Their side of the benchmarks: PyTorch and transformers, the same requests.

`theirs.py FOLDER DTYPE THREADS`; answers a JSON object a line, as ours.rs does.
"""

import json
import resource
import sys
import time

import torch
import transformers

folder, dtype, threads = sys.argv[1], getattr(torch, sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(threads)
transformers.logging.set_verbosity_error()
model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


def decode(asked):
    """Steps with a cache; their prompt is not timed, ours is."""
    batch, tokens = asked["batch"], asked["tokens"]
    prompt = torch.arange(12).repeat(batch, 1)
    out = model(prompt, use_cache=True, logits_to_keep=1)
    cache, logits = out.past_key_values, out.logits[:, -1]
    start = times()
    for _ in range(tokens):
        log_probs = torch.log_softmax(logits.float(), -1)
        drawn = torch.multinomial(log_probs.exp(), 1)
        log_probs.gather(1, drawn)
        out = model(drawn, past_key_values=cache, use_cache=True)
        cache, logits = out.past_key_values, out.logits[:, -1]
    return batch * tokens, start


def prefill(asked):
    prompt = torch.arange(asked["tokens"]).remainder(300).unsqueeze(0)
    start = times()
    model(prompt, use_cache=True, logits_to_keep=1)
    return prompt.numel(), start


def log_probs(asked):
    batch, length = asked["batch"], asked["tokens"]
    tokens = torch.arange(batch * length).mul(7919).remainder(300).view(batch, length)
    start = times()
    logits = model(tokens[:, :-1]).logits.float()
    torch.log_softmax(logits, -1).gather(2, tokens[:, 1:, None])
    return tokens.numel(), start


def times():
    return time.process_time(), time.perf_counter()


works = {"decode": decode, "prefill": prefill, "log-probs": log_probs, "peak": lambda _: (0, times())}
for line in sys.stdin:
    asked = json.loads(line)
    with torch.inference_mode():
        tokens, (cpu, wall) = works[asked["work"]](asked)
    now = times()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    answer = {"tokens": tokens, "cpu": now[0] - cpu, "wall": now[1] - wall, "peak_mb": peak}
    print(json.dumps(answer), flush=True)

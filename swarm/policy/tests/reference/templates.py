"""Writes templates.json: published chat templates, and what Jinja2 makes of them.

    pip install jinja2 trl
    python templates.py

The templates are the ones TRL carries (Apache-2.0). The environment is the one
transformers compiles templates in, less its clock: prompts must not change with
the day.
"""

import json
import pathlib

import jinja2.ext
import jinja2.sandbox
import trl

FOLDER = pathlib.Path(trl.__file__).with_name("chat_templates")
NAMES = ["llama3", "llama3_1", "llama3_2", "qwen2_5", "qwen3", "qwen3_instruct_2507"]
TOKENS = dict(bos_token="<|begin_of_text|>", eos_token="<|im_end|>")
TALKS = [
    [("user", "What is 2 + 2?")],
    [("system", " Be brief. "), ("user", "  add 47+85\ncheck 132\n")],
    [("user", "é"), ("assistant", "<answer>4</answer>"), ("user", "again")],
]


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def render(source, talk, opens):
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols]
    )
    environment.globals["raise_exception"] = raise_exception
    messages = [dict(role=role, content=content) for role, content in talk]
    return environment.from_string(source).render(
        messages=messages, add_generation_prompt=opens, **TOKENS
    )


cases = []
for name in NAMES:
    source = (FOLDER / f"{name}.jinja").read_text()
    rendered = [render(source, talk, opens) for talk in TALKS for opens in (False, True)]
    cases.append(dict(name=name, source=source, rendered=rendered))
made_by = f"jinja2 {jinja2.__version__}, trl {trl.__version__}"
path = pathlib.Path(__file__).with_name("templates.json")
text = json.dumps(dict(made_by=made_by, tokens=TOKENS, talks=TALKS, cases=cases), ensure_ascii=False, indent=1)
path.write_text(text + "\n")

"""Exports what reasoning-gym 0.1.25 asks and pays, to be compared in `tests/parity.rs`.

    python -m venv /tmp/venv-rg
    /tmp/venv-rg/bin/pip install reasoning-gym==0.1.25 blake3
    PYTHONHASHSEED=0 /tmp/venv-rg/bin/python tasks/parity/export.py [TASK...]
    /tmp/venv-rg/bin/python tasks/parity/export.py --data

One JSON file a task in `tasks/tests/parity/`: some items in full with the scores
of several answers each, and the first three bytes of the BLAKE3 hash of many
more (question, answer, facts), so that a long run costs six characters an item.
Steps 1 to 3 are upstream's options for the three levels of the library.
`--data` writes the word lists and the text that upstream draws from.
"""

import contextlib
import io
import json
import random
import sys
from pathlib import Path

import reasoning_gym
from blake3 import blake3

HERE = Path(__file__).resolve().parent
GOLDEN = HERE.parent / "tests" / "parity"
DATA = HERE.parent / "src" / "library" / "data"
VERSION = "0.1.25"

# Seeds are arbitrary; indexes go on from 0. Hashed items: at the default
# configuration, and at each level's.
SEED = 20_251_125
HASHED = (2_000, 300)
FULL = (8, 2)


def span(name, low, high):
    return {f"min_{name}": low, f"max_{name}": high}


def rows(matrix):
    return "\n".join(" ".join(str(cell) for cell in row) for row in matrix)


def listed(numbers):
    return ", ".join(str(number) for number in numbers)


def steps(*options):
    return [{}, *options]


# name: options of steps 0 to 3, and the facts that a scorer needs.
TASKS = {
    "arc_1d": (
        steps(span("size", 8, 10), span("size", 10, 20), span("size", 20, 30)),
        lambda m: {"task_name": m["task_name"], "size": m["size"]},
    ),
    "basic_arithmetic": (
        steps(
            span("terms", 2, 3) | span("digits", 1, 1),
            span("terms", 2, 4) | span("digits", 1, 2),
            span("terms", 3, 6) | span("digits", 1, 3),
        ),
        lambda m: {"expression": m["expression"]},
    ),
    "base_conversion": (
        steps(
            span("base", 2, 10) | span("value", 1, 100),
            span("base", 2, 16) | span("value", 1, 1_000),
            span("base", 2, 36) | span("value", 1, 100_000),
        ),
        lambda m: {key: m[key] for key in ("decimal_value", "source_base", "target_base")},
    ),
    "bf": (
        steps({"difficulty": 1}, {"difficulty": 2}, {"difficulty": 3}),
        lambda m: {"bf_program": m["bf_program"]},
    ),
    "binary_matrix": (
        steps(span("n", 3, 4), span("n", 4, 5), span("n", 6, 8)),
        lambda m: {"matrix": rows(m["matrix"])},
    ),
    "calendar_arithmetic": (
        steps(
            {"tasks": ["weekday_of_date", "is_leap_year"], "offset_upper_bound": 30},
            {
                "tasks": [
                    "weekday_of_date",
                    "is_leap_year",
                    "weekday_offset",
                    "weekday_of_date_from_first_date",
                ],
                "offset_upper_bound": 100,
            },
            {
                "tasks": [
                    "weekday_offset",
                    "weekday_of_date_from_first_date",
                    "recurring_event_day",
                    "count_days",
                    "count_business_days",
                ],
                "offset_upper_bound": 365,
            },
        ),
        lambda m: {"kind": m["task"]},
    ),
    "decimal_arithmetic": (
        steps(
            span("num_decimal_places", 1, 1) | span("terms", 2, 2),
            span("num_decimal_places", 2, 2) | span("terms", 2, 3),
            span("num_decimal_places", 3, 3) | span("terms", 3, 5),
        ),
        lambda m: {},
    ),
    "fraction_simplification": (
        steps(
            span("value", 1, 20) | span("factor", 2, 10),
            span("value", 1, 100) | span("factor", 2, 20),
            span("value", 1, 1_000) | span("factor", 2, 100),
        ),
        lambda m: {key: m[key] for key in ("numerator", "denominator")},
    ),
    "propositional_logic": (
        steps(
            span("vars", 2, 2) | span("statements", 2, 3) | span("complexity", 1, 3),
            span("vars", 3, 3) | span("statements", 2, 4) | span("complexity", 2, 3),
            span("vars", 4, 4) | span("statements", 3, 5) | span("complexity", 2, 3),
        ),
        lambda m: {"premises": "\n".join(m["premises"]), "variables": len(m["variables"])},
    ),
    "chain_sum": (
        steps(
            span("terms", 2, 3) | span("digits", 1, 2),
            span("terms", 3, 5) | span("digits", 2, 3),
            span("terms", 5, 8) | span("digits", 3, 5),
        ),
        lambda m: {"expression": m["expression"]},
    ),
    "products": (
        steps(
            span("terms", 2, 2) | span("digits", 1, 2),
            span("terms", 2, 2) | span("digits", 2, 3),
            span("terms", 2, 3) | span("digits", 3, 4),
        ),
        lambda m: {"expression": m["expression"]},
    ),
    "gcd": (
        steps(
            span("numbers", 2, 2) | span("value", 1, 100),
            span("numbers", 2, 2) | span("value", 1, 1_000),
            span("numbers", 2, 4) | span("value", 1, 10_000),
        ),
        lambda m: {"numbers": listed(m["numbers"])},
    ),
    "lcm": (
        steps(
            span("numbers", 2, 2) | span("value", 1, 20),
            span("numbers", 2, 2) | span("value", 1, 100),
            span("numbers", 2, 3) | span("value", 1, 200),
        ),
        lambda m: {"numbers": listed(m["numbers"])},
    ),
    "prime_factorization": (
        steps(span("value", 2, 500), span("value", 500, 5_000), span("value", 5_000, 100_000)),
        lambda m: {"number": m["number"]},
    ),
    "count_primes": (
        steps({"max_n": 50}, {"max_n": 200}, {"max_n": 1_000}),
        lambda m: {"start": m["start"], "end": m["end"]},
    ),
    "count_bits": (
        steps({"max_n": 1_000}, {"max_n": 100_000}, {"max_n": 2**31 - 1}),
        lambda m: {"number": m["number"]},
    ),
    "bitwise_arithmetic": (
        steps({"difficulty": 1}, {"difficulty": 2}, {"difficulty": 3}),
        lambda m: {"problem": m["problem"]},
    ),
    "leg_counting": (
        steps(
            span("animals", 1, 2) | span("instances", 1, 5),
            span("animals", 2, 4) | span("instances", 1, 10),
            span("animals", 4, 8) | span("instances", 1, 20),
        ),
        lambda m: {
            "animals": ", ".join(
                f"{count} {animal}{'s' if count > 1 else ''}"
                for animal, count in m["animals"].items()
            )
        },
    ),
    "gsm_symbolic": (
        # Upstream has one difficulty; our levels go by the length of its solutions.
        steps(),
        lambda m: {},
    ),
    "number_sorting": (
        steps(
            span("numbers", 3, 5) | span("decimals", 0, 0),
            span("numbers", 4, 8) | span("decimals", 0, 1),
            span("numbers", 8, 14) | span("decimals", 0, 2),
        ),
        lambda m: {"direction": m["direction"]},
    ),
    "number_filtering": (
        steps(
            span("numbers", 3, 5) | span("decimals", 0, 0),
            span("numbers", 4, 8) | span("decimals", 0, 2),
            span("numbers", 8, 14) | span("decimals", 0, 4),
        ),
        lambda m: {"filter_value": m["filter_value"]},
    ),
    "spell_backward": (
        steps(span("word_len", 3, 4), span("word_len", 5, 7), span("word_len", 8, 10)),
        lambda m: {"word": m["word"]},
    ),
    "letter_counting": (
        steps(span("words", 3, 5), span("words", 5, 9), span("words", 10, 20)),
        lambda m: {"target_letter": m["target_letter"]},
    ),
    "caesar_cipher": (
        steps(
            span("words", 3, 8) | span("rotation", 1, 3),
            span("words", 3, 10) | span("rotation", 1, 13),
            span("words", 5, 20) | span("rotation", 1, 25),
        ),
        lambda m: {"rotation": m["rotation"]},
    ),
    "word_sorting": (
        steps(span("words", 3, 4), span("words", 4, 7), span("words", 8, 12)),
        lambda m: {"direction": m["direction"]},
    ),
    "word_sequence_reversal": (
        steps(span("words", 3, 4), span("words", 5, 8), span("words", 9, 14)),
        lambda m: {"num_words": m["num_words"]},
    ),
    "binary_alternation": (
        steps(span("n", 6, 10), span("n", 10, 16), span("n", 16, 30)),
        lambda m: {"string": m["string"]},
    ),
    "string_insertion": (
        steps(
            span("string_length", 5, 8), span("string_length", 8, 14), span("string_length", 14, 24)
        ),
        lambda m: {"string": m["string"]},
    ),
    "string_splitting": (
        steps(
            span("initial_machines", 0, 6),
            span("initial_machines", 0, 9),
            span("initial_machines", 0, 20),
        ),
        lambda m: {"initial_machines": " ".join(map(str, m["initial_machines"]))},
    ),
    "rotate_matrix": (
        steps(
            span("n", 2, 3) | span("rotations", 1, 1),
            span("n", 3, 5) | span("rotations", 1, 3),
            span("n", 5, 8) | span("rotations", 1, 7),
        ),
        lambda m: {"num_rotations": m["num_rotations"]},
    ),
    "spiral_matrix": (
        steps(span("n", 2, 3), span("n", 3, 5), span("n", 5, 8)),
        lambda m: {"n": m["n"]},
    ),
    "largest_island": (
        steps(
            *(
                span("rows", *sides)
                | span("cols", *sides)
                | span("num_islands", *islands)
                | span("island_size", *sizes)
                for sides, islands, sizes in (
                    ((4, 5), (1, 3), (1, 5)),
                    ((5, 7), (1, 4), (1, 8)),
                    ((7, 10), (2, 6), (2, 12)),
                )
            )
        ),
        lambda m: {"grid": rows(m["grid"])},
    ),
    "rotten_oranges": (
        steps(span("n", 3, 4), span("n", 5, 6), span("n", 7, 10)),
        lambda m: {"matrix": rows(m["matrix"])},
    ),
    "shortest_path": (
        steps(
            span("rows", 3, 4) | span("cols", 3, 4),
            span("rows", 5, 6) | span("cols", 5, 6),
            span("rows", 6, 9) | span("cols", 6, 9),
        ),
        lambda m: {"grid": rows(m["matrix"])},
    ),
    "game_of_life": (
        steps(
            {"grid_size_x": 4, "grid_size_y": 4, "filled_cells": 6},
            {"grid_size_x": 6, "grid_size_y": 6, "filled_cells": 12},
            {"grid_size_x": 8, "grid_size_y": 8, "filled_cells": 24, "simulation_steps": 2},
        ),
        lambda m: {"simulation_steps": m["simulation_steps"]},
    ),
    "mini_sudoku": (
        steps(span("empty", 3, 6), span("empty", 6, 9), span("empty", 9, 12)),
        lambda m: {"puzzle": rows(m["puzzle"]).replace("0", "_")},
    ),
    "knights_knaves": (
        steps(
            {"n_people": 2, "depth_constraint": 2, "width_constraint": 2},
            {"n_people": 3, "depth_constraint": 2, "width_constraint": 2},
            {"n_people": 4, "depth_constraint": 3, "width_constraint": 3},
        ),
        lambda m: {"names": ", ".join(m["names"])},
    ),
    "countdown": (
        steps(
            span("numbers", 3, 3) | span("value", 1, 20) | span("target", 10, 100),
            span("numbers", 4, 4) | span("value", 1, 50) | span("target", 10, 500),
            span("numbers", 4, 6) | span("value", 1, 100) | span("target", 100, 999),
        ),
        lambda m: {"numbers": listed(m["numbers"]), "target": m["target"]},
    ),
}

# Upstream's answer to countdown is SymPy's way to write it; ours is another
# expression of the same value, so answers are left out of the comparison.
WITHOUT_ANSWERS = {"countdown"}
# Items that upstream takes seconds for, or for ever.
FEWER = {"game_of_life": (300, 100), "countdown": (300, 100), "bf": (2_000, 40), "knights_knaves": (1_000, 100)}


def endless(item_step, dataset, index):
    """Whether a program of bf runs for ever: upstream has no limit."""
    rng = random.Random(dataset.seed + index)
    difficulty = dataset.config.difficulty
    if difficulty == 1:
        return False
    x, y = (rng.randint(1, 4), rng.randint(1, 5)) if difficulty == 2 else (rng.randint(1, 7), rng.randint(1, 9))
    target = x * y * rng.randint(1, 9) + rng.randint(1, 9) + (0 if difficulty == 2 else 50)
    limit = target - rng.randint(1, 40) if difficulty == 3 else -1
    acc, seen = 0, set()
    while acc < target % 256:
        if acc in seen:
            return True
        seen.add(acc)
        acc = (acc + x) % 256
        if acc > limit % 256 or difficulty == 2:
            acc = (acc + y) % 256
    return False


def fetch(name, step, dataset, index):
    """An item, or nothing where upstream fails on it."""
    if name == "bf" and endless(step, dataset, index):
        return None
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return dataset[index]
    except Exception:
        return None


def record(name, item):
    answer = item["answer"]
    if answer is None:
        answer = item["metadata"]["example_answer"]
    facts = {key: str(value) for key, value in TASKS[name][1](item["metadata"]).items()}
    return item["question"], answer, facts


def digest(name, item):
    if item is None:
        return "------"
    question, answer, facts = record(name, item)
    if name in WITHOUT_ANSWERS:
        answer = ""
    parts = [question, answer] + [f"{key}={facts[key]}" for key in sorted(facts)]
    return blake3("\0".join(parts).encode()).hexdigest()[:6]


def candidates(name, item, other):
    """Answers of many kinds, right ones among them."""
    question, answer, _ = record(name, item)
    listing = str(answer.split())
    nested = str([row.split() for row in answer.split("\n")])
    found = [
        answer,
        f" {answer}\n",
        answer + " ",
        f"The answer is {answer}.",
        answer + ".0",
        "+" + answer,
        "0" + answer,
        answer[:-1],
        answer[1:],
        answer[::-1],
        answer.lower(),
        answer.upper(),
        answer + answer,
        record(name, other)[1],
        listing,
        nested,
        listing.replace("'", ""),
        nested.replace("'", ""),
        answer.replace(" ", ""),
        answer.replace(" ", ", "),
        "7",
        "-1",
        "0",
        "Monday",
        "tuesday",
        "Yes",
        "no",
        "3/4",
        "1/2/3",
        "$\\frac{1}{2}$",
        "\\dfrac { 3 } { 4 }",
        "P",
        "(P \u2228 Q)",
        "P \u2228 \u00acP",
        "P\u2227",
        "Z",
        "2 \u00d7 3",
        "right down",
        "infeasible",
        "['1.0', '2.0']",
        "[[0,1],[1,0]]",
        "1 + 2 * 3",
        answer.replace(" knave", " knight"),
        answer.replace(", and", " and").replace(".", ""),
        answer.replace(" is a ", " "),
        "nothing",
        "[",
        "0x1f",
        "1e3",
        "1_000",
        "1,000",
    ]
    metadata = item["metadata"]
    found += [str(premise) for premise in metadata.get("premises", [])]
    found += [" + ".join(map(str, metadata["numbers"]))] if name == "countdown" else []
    # SymPy evaluates code and reads what no expression reader should.
    if name == "countdown":
        found = [text for text in found if set(text) <= set("0123456789+-*/() ") and "**" not in text]
    return list(dict.fromkeys(text for text in found if text))


def score(dataset, answer, item):
    try:
        return int(dataset.score_answer(answer, item) * 1e6 + 0.5)
    except Exception:
        return 0


def export(name):
    options, _ = TASKS[name]
    hashed, full = FEWER.get(name, HASHED), FULL
    runs, items = [], []
    for step, kwargs in enumerate(options):
        dataset = reasoning_gym.create_dataset(name, seed=SEED, size=5_000, **kwargs)
        count = hashed[min(step, 1)]
        fetched = [fetch(name, step, dataset, index) for index in range(count)]
        runs.append({"step": step, "hashes": "".join(digest(name, item) for item in fetched)})
        known = [(index, item) for index, item in enumerate(fetched) if item is not None]
        for place in range(full[min(step, 1)]):
            index, item = known[place]
            question, answer, facts = record(name, item)
            scores = [
                [text, score(dataset, text, item)]
                for text in candidates(name, item, known[place + 1][1])
            ]
            if step:
                scores = scores[:12]
            items.append(
                {
                    "step": step,
                    "index": index,
                    "question": question,
                    "answer": answer,
                    "facts": facts,
                    "scores": scores,
                }
            )
    GOLDEN.mkdir(exist_ok=True)
    golden = {"version": VERSION, "seed": SEED, "answers": name not in WITHOUT_ANSWERS}
    golden |= {"runs": runs, "items": items}
    path = GOLDEN / f"{name}.json"
    path.write_text(json.dumps(golden, ensure_ascii=False, indent=None, separators=(",", ":")) + "\n")
    print(name, path.stat().st_size)


def templates():
    """gsm_symbolic's word problems as expressions in brackets, one template a line."""
    import ast
    import inspect

    from reasoning_gym.arithmetic.gsm_symbolic import generators_00_49, generators_50_99
    from reasoning_gym.arithmetic.gsm_symbolic.gsm_symbolic import tasks_ok

    binary = {
        ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/",
        ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**",
    }
    compare = {
        ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=",
        ast.Gt: ">", ast.GtE: ">=", ast.NotIn: "not-in",
    }

    def form(*parts):
        return "(" + " ".join(parts) + ")"

    def block(statements):
        # Neither imports nor documentation do anything.
        skipped = lambda one: isinstance(one, ast.ImportFrom) or (
            isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant)
        )
        return form(*(statement(one) for one in statements if not skipped(one)))

    def target(node):
        if isinstance(node, ast.Name):
            return node.id
        return form(*(target(one) for one in node.elts))

    def expression(node):
        match node:
            case ast.Constant(value=None):
                return "none"
            case ast.Constant(value=bool() as value):
                return "true" if value else "false"
            case ast.Constant(value=str() as value):
                return json.dumps(value, ensure_ascii=False)
            case ast.Constant(value=value):
                return repr(value)
            case ast.Name(id=name):
                return name
            case ast.BinOp():
                return form(binary[type(node.op)], expression(node.left), expression(node.right))
            case ast.UnaryOp(op=ast.Not()):
                return form("not", expression(node.operand))
            case ast.UnaryOp(op=ast.USub()):
                return form("neg", expression(node.operand))
            case ast.BoolOp():
                name = "and" if isinstance(node.op, ast.And) else "or"
                return form(name, *map(expression, node.values))
            case ast.IfExp():
                return form("if", *map(expression, (node.test, node.body, node.orelse)))
            case ast.Compare():
                parts = [expression(node.left)]
                for operator, right in zip(node.ops, node.comparators):
                    parts += [compare[type(operator)], expression(right)]
                return form("compare", *parts)
            case ast.JoinedStr():
                return form("text", *map(expression, node.values))
            case ast.FormattedValue(format_spec=None):
                return expression(node.value)
            case ast.FormattedValue():
                spec = node.format_spec.values[0].value
                return form("format", expression(node.value), json.dumps(spec))
            case ast.List() | ast.Tuple():
                return form("list", *map(expression, node.elts))
            case ast.Dict():
                pairs = zip(node.keys, node.values)
                return form("dict", *(expression(one) for pair in pairs for one in pair))
            case ast.Subscript():
                return form("at", expression(node.value), expression(node.slice))
            case ast.ListComp(generators=[one]):
                condition = expression(one.ifs[0]) if one.ifs else "true"
                parts = target(one.target), expression(one.iter), condition, expression(node.elt)
                return form("collect", *parts)
            case ast.Call(func=ast.Attribute(value=ast.Name(id="rng" | "math" as owner), attr=name)):
                name = f"draw-{name}" if owner == "rng" else name
                return form(name, *map(expression, node.args))
            case ast.Call(func=ast.Attribute(value=value, attr=name)):
                return form(f".{name}", expression(value), *map(expression, node.args))
            case ast.Attribute(value=value, attr=name):
                return form(f".{name}", expression(value))
            case ast.Call(func=ast.Name(id=name)):
                return form(name, *map(expression, node.args))
        raise ValueError(ast.unparse(node))

    def statement(node):
        match node:
            case ast.Assign(targets=[one]):
                return form("=", target(one), expression(node.value))
            case ast.AugAssign(target=ast.Name(id=name)):
                value = form(binary[type(node.op)], name, expression(node.value))
                return form("=", name, value)
            case ast.While():
                return form("while", expression(node.test), block(node.body))
            case ast.For():
                return form("for", target(node.target), expression(node.iter), block(node.body))
            case ast.If():
                return form("when", expression(node.test), block(node.body), block(node.orelse))
            case ast.Break():
                return form("break")
            case ast.Raise():
                return form("raise")
            case ast.Expr():
                return form("do", expression(node.value))
            case ast.Return(value=ast.Dict()):
                # Of the results only these are asked for.
                pairs = zip(node.value.keys, node.value.values)
                kept = {key.value: value for key, value in pairs}
                kept = [
                    (key, kept[key]) for key in ("question", "answer", "answer_cot") if key in kept
                ]
                if len(kept) < 3:
                    return form("return", "result")
                pairs = (expression(value) for _, value in kept)
                return form("return", form("list", *pairs))
            case ast.Return():
                return form("return", expression(node.value))
            case ast.FunctionDef():
                parameters = form(*(one.arg for one in node.args.args))
                return form("def", node.name, parameters, block(node.body))
        raise ValueError(ast.unparse(node))

    lines = []
    for module in (generators_00_49, generators_50_99):
        for node in ast.parse(inspect.getsource(module)).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("generate_"):
                number = int(node.name.removeprefix("generate_"))
                if number in tasks_ok:
                    problem = getattr(module, node.name)(random.Random(0))
                    steps = problem["metadata"]["answer_cot"].split("\n####")[0].split("\n")
                    count = sum(1 for step in steps if step.strip())
                    lines.append((number, f"{number} {count} {block(node.body)}"))
    (DATA / "gsm_symbolic.txt").write_text("\n".join(line for _, line in sorted(lines)) + "\n")


def data():
    from reasoning_gym.data import read_data_file
    from reasoning_gym.data.wordle_words import wordle_words

    DATA.mkdir(exist_ok=True)
    (DATA / "wordle_words.txt").write_text("\n".join(wordle_words) + "\n")
    (DATA / "in_the_year_2889.txt").write_text(read_data_file("in_the_year_2889.txt"))
    lines, line, last = [], "", ""
    for word in read_data_file("words3to10.txt").splitlines():
        word = word.strip()
        if not word.isalnum():
            continue
        shared = 0
        while shared < min(len(last), len(word), 9) and last[shared] == word[shared]:
            shared += 1
        part, last = f"{shared}{word[shared:]}", word
        if len(line) + len(part) > 100:
            lines.append(line)
            line = ""
        line += part
    (DATA / "words3to10.txt").write_text("\n".join([*lines, line]) + "\n")
    templates()


if __name__ == "__main__":
    if sys.argv[1:] == ["--data"]:
        data()
    else:
        for name in sys.argv[1:] or TASKS:
            export(name)

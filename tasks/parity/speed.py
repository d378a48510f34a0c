"""Items and scores a CPU-second of reasoning-gym, for what `examples/speed.rs` measures.

Prints JSON; with `--against native.json` a table of how many times faster the
native tasks are instead.
"""

import contextlib
import io
import json
import sys
import time

import reasoning_gym

from export import TASKS

SPENT = 0.2


def rate(work):
    with contextlib.redirect_stdout(io.StringIO()):
        work(0)
        start, done, batch = time.process_time(), 0, 1
        while True:
            for index in range(done, done + batch):
                work(index)
            done += batch
            spent = time.process_time() - start
            if spent > SPENT:
                return round(done / spent)
            batch = min(batch * 2, 1_000)


def measure(name):
    dataset = reasoning_gym.create_dataset(name, seed=0, size=500)
    known = [0]

    def make(index):
        try:
            dataset[index % 400]
        except Exception:
            known[0] += 1

    with contextlib.redirect_stdout(io.StringIO()):
        items = []
        for index in range(50):
            with contextlib.suppress(Exception):
                items.append(dataset[index])
    answers = [item["answer"] or item["metadata"]["example_answer"] for item in items]

    def score(index):
        place = index % len(items)
        answer = (answers[place], answers[(place + 1) % len(items)], "7")[index % 3]
        with contextlib.suppress(Exception):
            dataset.score_answer(answer, items[place])

    return {"items": rate(make), "scores": rate(score)}


def main():
    figures = {name: measure(name) for name in TASKS}
    if sys.argv[1:2] != ["--against"]:
        print(json.dumps(figures))
        return
    with open(sys.argv[2]) as file:
        native = json.load(file)
    print(f"{'task':24} {'items/s':>10} {'native':>10} {'times':>6} {'scores/s':>10} {'native':>11} {'times':>6}")
    times = {"items": [], "scores": []}
    for name, ours in figures.items():
        row = f"{name:24}"
        for key, width in (("items", 10), ("scores", 11)):
            ratio = native[name][key] / max(ours[key], 1)
            times[key].append(ratio)
            row += f" {ours[key]:10,} {native[name][key]:{width},.0f} {ratio:6.0f}"
        print(row)
    for key, ratios in times.items():
        ratios.sort()
        print(f"{key}: least {ratios[0]:.1f}, median {ratios[len(ratios) // 2]:.0f} times as many")


if __name__ == "__main__":
    main()

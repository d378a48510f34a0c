"""Items and scores a CPU-second of reasoning-gym, for what `examples/task_speed.rs` measures.

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
    # upstream's rate, and how many times as fast: the same items, ours, scores
    print(f"{'task':24} {'items/s':>9} {'same':>6} {'ours':>6} {'scores/s':>10} {'scores':>6}")
    times = {"same": [], "ours": [], "scores": []}
    for name, python in figures.items():
        same = native[name]["items"] / max(python["items"], 1)
        ours = native[name]["ours"] / max(python["items"], 1)
        scores = native[name]["scores"] / max(python["scores"], 1)
        for key, ratio in (("same", same), ("ours", ours), ("scores", scores)):
            times[key].append(ratio)
        print(
            f"{name:24} {python['items']:9,} {same:6.1f} {ours:6.1f}"
            f" {python['scores']:10,} {scores:6.1f}"
        )
    for key, ratios in times.items():
        ratios.sort()
        print(f"{key}: least {ratios[0]:.1f}, median {ratios[len(ratios) // 2]:.1f} times as many")


if __name__ == "__main__":
    main()

"""A reasoning-gym task for `murmur task play 'python:python3 this_file TASK'`.

For experiments on one machine: pip install reasoning-gym. What it says cannot
be recomputed by peers, so it never leaves this machine.

Scores are upstream's. Of many tasks these pay an answer that only contains the
right one by its share of the text, so that `murmur task test` finds a list of
guesses paid. `this_file TASK --exact` pays what upstream pays in full, and for
the rest nothing.
"""
import json
import sys

import reasoning_gym

name, exact = sys.argv[1], "--exact" in sys.argv[2:]
for line in sys.stdin:
    request = json.loads(line)
    try:
        if request["call"] == "generate":
            data = reasoning_gym.create_dataset(name, size=1, seed=request["seed"] % 2**31)
            entry = data[0]
            reply = {"question": entry["question"], "answer": str(entry["answer"]),
                     "hidden": request["seed"] % 2**31}
        else:
            data = reasoning_gym.create_dataset(name, size=1, seed=request["hidden"])
            correct = float(data.score_answer(request["answered"], data[0]))
            reply = {"correct": float(correct >= 1) if exact else correct}
    except Exception as error:  # what went wrong is for the host to show
        reply = {"error": repr(error)}
    print(json.dumps(reply), flush=True)

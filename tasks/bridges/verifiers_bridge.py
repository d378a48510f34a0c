"""A verifiers environment for `murmur task play 'python:python3 this_file NAME'`.

For experiments on one machine: pip install 'verifiers<0.2'. NAME is a module with
`load_environment()`, installed or in this folder. Its items are the rows of its
data set, and what it pays is the rubric's reward, as a share of the most that its
weights allow. One turn: no tools, and no reward that asks a model. What it says
cannot be recomputed by peers, so it never leaves this machine.
"""
import asyncio
import json
import os
import sys

sys.path.insert(0, os.getcwd())
import verifiers as vf  # noqa: E402

# Lines of the standard output are answers, whatever the environment prints.
answers, sys.stdout = sys.stdout, sys.stderr
environment = vf.load_environment(sys.argv[1])
if isinstance(environment, vf.MultiTurnEnv) and not isinstance(environment, vf.SingleTurnEnv):
    sys.exit(f"{sys.argv[1]} takes more than one turn, and a bridge takes one")
rows = environment.get_dataset()


def most(rubric):
    """The reward of a completion that earns every function's full weight."""
    parts = sum(most(part) for part in getattr(rubric, "rubrics", []))
    return parts + sum(weight for weight in rubric.weights if weight > 0)


def question(row):
    """The messages of the prompt, one under the other."""
    return "\n\n".join(message["content"] for message in row["prompt"])


def reward(row, text):
    reply = [vf.AssistantMessage(content=text)]
    state = vf.State(input=dict(row), completion=reply, trajectory=[], metrics={}, reward=0.0)
    asyncio.run(environment.rubric.score_rollout(state))
    return min(1.0, max(0.0, state["reward"] / (most(environment.rubric) or 1.0)))


for line in sys.stdin:
    request = json.loads(line)
    try:
        if request["call"] == "generate":
            at = request["seed"] % len(rows)
            reply = {"question": question(rows[at]), "answer": str(rows[at]["answer"]), "hidden": at}
        else:
            # A parser of tags reads the whole completion, any other what stands in them.
            tagged = isinstance(environment.parser, vf.XMLParser)
            text = request["completion" if tagged else "answered"]
            reply = {"correct": reward(rows[request["hidden"]], text)}
    except Exception as error:  # what went wrong is for the host to show
        reply = {"error": repr(error)}
    print(json.dumps(reply), file=answers, flush=True)

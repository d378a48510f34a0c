"""Side by side: our engine and PyTorch with transformers, PEFT and TRL, on one machine.

`run.py [--quick] [--publish]`, with the Python of setup.sh. Prints a table as
it goes, writes results.json and results.md to the scratch folder; `--publish`
puts them into RESULTS.md and results.json here. `--quick` repeats less: about
a quarter of an hour on two quiet cores.

Each side is a process that loads a model once and answers requests. Requests
alternate between the sides, and each keeps its best of the repeats, so that
what else the machine does falls on all alike; training, which fills memory, is
done by one side after the other. A row that fails says why, and the rest goes on.
"""

import argparse
import collections
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import queue
import subprocess
import sys
import tempfile
import threading
import time

import models

HERE = pathlib.Path(__file__).parent
SIDES = {"ours": None, "torch f32": "float32", "torch bf16": "bfloat16"}
# Ours again with no factor rounded to bf16, where the program would round.
EXACT = "ours, f32 factors"
ROUNDED = ("prefill", "log-probs", "train")
SECONDS = 300  # for one answer, the reading of the model included

# What is measured: the bar is against torch f32. Sizes take a second or two.
Row = collections.namedtuple("Row", "model work sizes bar", defaults=[None])
ROWS = [
    *(Row("0.5M", "decode", {"batch": b, "tokens": 64, "times": 20}, 3.0) for b in (1, 8, 32)),
    Row("0.5M", "grpo", {"groups": 4, "batch": 8, "tokens": 48}, 3.0),
    *(Row("30M", "decode", {"batch": b, "tokens": 32}, 2.0) for b in (1, 8, 32)),
    Row("30M", "grpo", {"groups": 2, "batch": 8, "tokens": 48}, 3.0),
    *(Row("0.5B", "decode", {"batch": b, "tokens": n}, 2.0) for b, n in ((1, 12), (8, 6), (32, 4))),
    Row("0.5B", "prefill", {"tokens": 256}, 1.5),
    Row("0.5B", "log-probs", {"batch": 2, "tokens": 128}, 1.5),
    *(Row("0.5B", "train", {"method": method, "batch": 2, "tokens": 128}, 1.5)
      for method in ("full", "lora")),
]
# The most memory that an update may take, in MB; ours is told so, as by --memory.
MEMORY = [Row("0.5B", "train", {"method": method, "batch": 4, "tokens": 128}, bar)
          for method, bar in (("full", 7500), ("lora", 2500))]


class Failed(Exception):
    """A side that did not do what it was asked."""


class Side:
    """A process that answers requests for work."""

    def __init__(self, dtype, folder, threads, binary):
        # Settings meant for other programs would slow torch down.
        env = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
        env["RAYON_NUM_THREADS"] = env["OMP_NUM_THREADS"] = str(threads)
        command = [binary, folder] if dtype is None else [
            sys.executable, HERE / "theirs.py", folder, dtype, str(threads)]
        self.errors = tempfile.TemporaryFile(mode="w+")
        self.process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=self.errors, text=True)
        self.lines = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def ask(self, work, sizes):
        try:
            self.process.stdin.write(json.dumps({"work": work} | sizes) + "\n")
            self.process.stdin.flush()
            line = self.lines.get(timeout=SECONDS)
        except queue.Empty:
            self.close()
            raise Failed(f"no answer in {SECONDS} s") from None
        except BrokenPipeError:
            line = None
        if line is None:
            self.close()
            self.errors.seek(0)
            last = self.errors.read().strip().splitlines()[-1:] or [f"exit {self.process.returncode}"]
            raise Failed(last[0])
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    def close(self):
        self.process.kill()
        self.process.wait()


class Bench:
    """All sides of one model, each started when it is first asked."""

    def __init__(self, folder, threads, asked):
        self.folder, self.threads = folder, threads
        self.repeats, self.binary = 1 if asked.quick else asked.repeats, asked.binary
        self.running = {}

    def ask(self, side, work, sizes):
        process = "ours" if side == EXACT else side
        if side == EXACT:
            sizes = sizes | {"precision": "f32"}
        if process not in self.running:
            self.running[process] = Side(SIDES[process], self.folder, self.threads, self.binary)
        try:
            return self.running[process].ask(work, sizes)
        except Failed:
            self.close(process)
            raise

    def close(self, *sides):
        for side in sides or list(self.running):
            if side in self.running:
                self.running.pop(side).close()

    def measure(self, row):
        """A result for each side: its best of the repeats, or why there is none."""
        alone = row.work == "train"
        exact = row.work in ROUNDED and "memory" not in row.sizes
        sides = [*SIDES, *([EXACT] if exact else [])]
        found = {side: [] for side in sides}
        if alone:
            self.close()
            turns = [(side, turn) for side in sides for turn in range(self.repeats + 1)]
        else:
            turns = [(side, turn) for turn in range(self.repeats + 1) for side in sides]
        for side, turn in turns:
            if isinstance(found[side], str):
                continue
            try:
                answer = self.ask(side, row.work, row.sizes)
            except Failed as why:
                found[side] = str(why)
            else:
                if turn > 0:  # the first warms up
                    found[side].append(answer)
            if alone and (turn == self.repeats or isinstance(found[side], str)):
                self.close()
        return {side: best(answers) for side, answers in found.items()}


def best(answers):
    if isinstance(answers, str):
        return {"failed": answers}
    rate = {unit: max(one["tokens"] / max(one[unit], 1e-3) for one in answers) for unit in ("cpu", "wall")}
    kept = ("peak_mb", "planned_mb", "plan")
    return rate | {key: answers[-1][key] for key in kept if key in answers[-1]}


def name(row):
    sizes = row["sizes"]
    shape = "x".join(str(sizes[key]) for key in ("groups", "batch", "tokens") if key in sizes)
    if row["work"] == "decode":
        shape = f"b{sizes['batch']}"
    words = {"grpo": "GRPO step"}.get(row["work"], row["work"])
    return " ".join([words, *([sizes["method"]] if "method" in sizes else []), shape])


def ratio(row, over, unit="cpu", ours="ours"):
    sides = [row["sides"].get(side, {}).get(unit) for side in (ours, *over)]
    rates = [rate for rate in sides[1:] if rate]
    return sides[0] / max(rates) if sides[0] and rates else None


def shown(value, form="{:.2f}"):
    return "–" if value is None else form.format(value)


HEAD = """\
| model | work | threads | ours | torch f32 | torch bf16 | ours / f32 | by the clock | bar | ours / best | f32 factors / f32 |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"""


def line(row):
    cells = []
    for side in SIDES:
        found = row["sides"][side]
        cells.append("failed" if "failed" in found else f"{found['cpu']:.4g}")
    over = ratio(row, ["torch f32"])
    missed = "" if over is None or over >= row["bar"] else " missed"
    return (f"| {row['model']} | {name(row)} | {row['threads']} | {' | '.join(cells)} | {shown(over)} "
            f"| {shown(ratio(row, ['torch f32'], 'wall'))} | {row['bar']}{missed} "
            f"| {shown(ratio(row, ['torch f32', 'torch bf16']))} "
            f"| {shown(ratio(row, ['torch f32'], ours=EXACT))} |")


MEMORY_HEAD = """\
| model | work | threads | ours, MB | planned | bar | torch f32 | torch bf16 |
| --- | --- | --- | --- | --- | --- | --- | --- |"""


def memory_line(row):
    peaks = [row["sides"][side].get("peak_mb") for side in SIDES]
    missed = "" if peaks[0] and peaks[0] <= row["bar"] else " missed"
    planned = row["sides"]["ours"].get("planned_mb")
    ours, f32, bf16 = (shown(peak, "{:.0f}") for peak in peaks)
    return (f"| {row['model']} | {name(row)} | {row['threads']} | {ours} | {shown(planned, '{:.0f}')} "
            f"| {row['bar']}{missed} | {f32} | {bf16} |")


LIMIT_HEAD = """\
| model | work | threads | reached | the machine's limit | share |
| --- | --- | --- | --- | --- | --- |"""


def limit_lines(row, limits, weights):
    """How far ours is from what the machine can do while it computes."""
    if row["work"] == "grpo" or not weights or not limits:
        return
    parameters, batch = weights["parameters"], row["sizes"].get("batch", 1)
    for side in ("ours", EXACT):
        rate = row["sides"].get(side, {}).get("cpu")
        if not rate:
            continue
        rate *= row["threads"]
        label = name(row) + (", f32 factors" if side == EXACT else "")
        head = f"| {row['model']} | {label} | {row['threads']} |"
        if row["work"] == "decode":
            reached = rate / batch * weights["bytes"] / 1e9
            yield f"{head} {reached:.1f} GB/s | {limits['read']:.1f} GB/s read | {reached / limits['read']:.0%} |"
        if row["work"] == "decode" and batch == 1:
            continue
        # Multiply-adds of a token: forward, and as many back for inputs and for weights.
        passes = {"train": 2 if row["sizes"].get("method") == "lora" else 3}.get(row["work"], 1)
        used = parameters - (weights["embedding"] if row["work"] == "prefill" else 0)
        reached = rate * 2 * passes * used / 1e9
        rounds = side == "ours" and row["work"] in ROUNDED and limits["bf16"]
        kind = "bf16" if rounds else "f32"
        yield f"{head} {reached:.0f} GFLOP/s | {limits[kind]:.0f} GFLOP/s {kind} | {reached / limits[kind]:.0%} |"


def report(results):
    """The results as Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    rows, memory = results["rows"], results["memory"]
    failed = [f"- {row['model']} {name(row)}, {row['threads']} threads, {side}: {found['failed']}"
              for row in rows + memory for side, found in row["sides"].items() if "failed" in found]
    judged = [ratio(row, ["torch f32"]) for row in rows]
    met = sum(over is not None and over >= row["bar"] for over, row in zip(judged, rows))
    limits = [text for row in rows
              for text in limit_lines(row, results["limits"].get(str(row["threads"])), results["weights"].get(row["model"]))]
    return "\n".join([
        f"{results['date']}, {results['cpu']}, {results['cores']} cores, load before and after "
        f"{results['load'][0]:.1f} and {results['load'][1]:.1f}, commit {results['commit']}; {versions}; best of "
        f"{results['repeats']} after a warm-up, in {results['minutes']:.0f} minutes.", "",
        f"Tokens per CPU-second, {met} of {len(rows)} bars met:", "", HEAD, *map(line, rows), "",
        "The most memory a process has held over two updates, the reading of the weights included:", "",
        MEMORY_HEAD, *map(memory_line, memory), "",
        "The distance of ours to the machine's limits, by CPU-seconds:", "", LIMIT_HEAD, *limits,
        *(["", "Failed:", "", *failed] if failed else []), ""])


BEGIN, END = "<!-- begin: written by run.py --publish -->", "<!-- end -->"


def publish(results):
    page = HERE / "RESULTS.md"
    text = page.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n{report(results)}{END}{after}")
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n")


def said(command):
    try:
        return subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "?"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=list(models.SHAPES), default=list(models.SHAPES))
    parser.add_argument("--work", nargs="+", choices=["decode", "prefill", "log-probs", "train", "grpo", "memory"],
                        default=["decode", "prefill", "log-probs", "train", "grpo", "memory"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one repeat after a warm-up")
    parser.add_argument("--publish", action="store_true", help="replace the tables of RESULTS.md")
    parser.add_argument("--scratch", type=pathlib.Path,
                        default=pathlib.Path.home() / ".cache/murmuration-benches")
    asked = parser.parse_args()
    asked.binary = HERE.parent / "target/release/examples/ours"
    if not asked.binary.exists():
        sys.exit(f"{asked.binary} is not there: run benches/setup.sh")
    began = time.monotonic()
    folders = {model: models.write(asked.scratch, model) for model in asked.models}
    cpu = next((l.split(": ")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "?")
    results = {
        "date": datetime.date.today().isoformat(), "cpu": cpu, "cores": os.cpu_count(),
        "python": platform.python_version(), "commit": said(["git", "describe", "--always", "--dirty"]),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "transformers", "trl", "peft")},
        "load": [os.getloadavg()[0]], "repeats": 1 if asked.quick else asked.repeats,
        "limits": {}, "weights": {}, "rows": [], "memory": [],
    }

    def progress(text):
        print(f"[{(time.monotonic() - began) / 60:5.1f} min] {text}", file=sys.stderr, flush=True)

    def attempt(what, bench, side, work):
        try:
            return bench.ask(side, work, {})
        except Failed as why:
            progress(f"{what}: {why}")
            return None

    def measure(bench, row):
        try:
            sides = bench.measure(row)
        except Exception as why:
            bench.close()
            sides = {side: {"failed": f"{type(why).__name__}: {why}"} for side in SIDES}
        found = row._asdict() | {"threads": bench.threads, "sides": sides}
        for side, result in found["sides"].items():
            if "failed" in result:
                progress(f"{side}: {result['failed']}")
        return found

    print(HEAD)
    for threads in asked.threads:
        progress(f"{threads} threads: the machine's limits")
        machine = Bench("limits", threads, asked)
        results["limits"][str(threads)] = attempt("limits", machine, "ours", "limits")
        machine.close()
        for model in asked.models:
            bench = Bench(folders[model], threads, asked)
            if model not in results["weights"]:
                results["weights"][model] = attempt("weights", bench, "ours", "weights")
            for row in ROWS:
                if row.model == model and row.work in asked.work:
                    progress(f"{model} {name(row._asdict())}, {threads} threads")
                    results["rows"].append(measure(bench, row))
                    print(line(results["rows"][-1]), flush=True)
            bench.close()
    for row in MEMORY if "memory" in asked.work else []:
        if row.model in asked.models:
            progress(f"{row.model} {name(row._asdict())}: memory")
            bench = Bench(folders[row.model], max(asked.threads), asked)
            bench.repeats = 1
            sizes = row.sizes | {"memory": row.bar * 1_000_000}
            results["memory"].append(measure(bench, row._replace(sizes=sizes)))
            print(memory_line(results["memory"][-1]), flush=True)
    results["load"].append(os.getloadavg()[0])
    results["minutes"] = (time.monotonic() - began) / 60
    (asked.scratch / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (asked.scratch / "results.md").write_text(report(results))
    print("\n" + report(results))
    if asked.publish:
        publish(results)


if __name__ == "__main__":
    main()

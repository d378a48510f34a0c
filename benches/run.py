"""Side by side: our engine and PyTorch with transformers, on one machine.

`run.py [--models 0.5M 30M 0.5B] [--threads 1 2] [--repeats 3]`, with the
Python of setup.sh; writes results.json and a table to the scratch folder.

Each side is a process that loads a model once and answers requests. Requests
alternate between the sides, and each keeps its best of the repeats, so that
what else the machine does falls on all alike. Tokens are counted per
CPU-second; on a quiet machine and one thread these are seconds.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys

import models

HERE = pathlib.Path(__file__).parent
# (work, its sizes): decode steps are chosen to take about a second or less.
WORK = {
    "0.5M": [("decode", {"batch": b, "tokens": 64}) for b in (1, 8, 32)],
    "30M": [("decode", {"batch": b, "tokens": 32}) for b in (1, 8, 32)],
    "0.5B": [
        *(("decode", {"batch": b, "tokens": n}) for b, n in ((1, 12), (8, 6), (32, 4))),
        ("prefill", {"tokens": 256}),
        ("log-probs", {"batch": 2, "tokens": 128}),
    ],
}
BARS = {("decode", "0.5M"): 3.0, ("decode", "30M"): 2.0, ("decode", "0.5B"): 2.0}
SIDES = {"ours": None, "torch f32": "float32", "torch bf16": "bfloat16"}


class Side:
    """A process that answers requests for work."""

    def __init__(self, dtype, folder, threads, binary):
        # Settings meant for other programs would slow torch down.
        env = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
        env["RAYON_NUM_THREADS"] = env["OMP_NUM_THREADS"] = str(threads)
        command = [binary, folder] if dtype is None else [
            sys.executable, HERE / "theirs.py", folder, dtype, str(threads)]
        self.process = subprocess.Popen(
            command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, work, sizes):
        self.process.stdin.write(json.dumps({"work": work} | sizes) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline() or sys.exit("a side has died"))

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def measure(name, threads, repeats, scratch, binary):
    """One row for each work: each side's best of the repeats."""
    sides = {side: Side(dtype, scratch / name, threads, binary) for side, dtype in SIDES.items()}
    rows = []
    for work, sizes in WORK[name]:
        best = {}
        for repeat in range(repeats + 1):
            for side, process in sides.items():
                answer = process.ask(work, sizes)
                rates = {unit: answer["tokens"] / answer[unit] for unit in ("cpu", "wall")}
                if repeat > 0:  # the first warms up
                    best.setdefault(side, []).append(rates)
        row = {"model": name, "work": work, **sizes, "threads": threads, "bar": BARS.get((work, name), 1.5)}
        for side, rates in best.items():
            row[side] = {unit: max(rate[unit] for rate in rates) for unit in ("cpu", "wall")}
        rows.append(row)
        print(line(row), flush=True)
    peaks = {side: process.ask("peak", {})["peak_mb"] for side, process in sides.items()}
    print(f"peak memory, {name}: " + ", ".join(f"{side} {peak:.0f} MB" for side, peak in peaks.items()))
    for process in sides.values():
        process.close()
    return rows, peaks


HEAD = """\
| model | work | threads | ours | torch f32 | torch bf16 | ours / f32 | bar | ours / best |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |"""


def line(row, unit="cpu"):
    ours, f32, bf16 = (row[side][unit] for side in SIDES)
    what = row["work"] + (f" b{row['batch']}" if "batch" in row else "")
    ratio = ours / f32
    verdict = "" if ratio >= row["bar"] else " missed"
    return (f"| {row['model']} | {what} | {row['threads']} | {ours:.4g} | {f32:.4g} | {bf16:.4g} "
            f"| {ratio:.2f} | {row['bar']}{verdict} | {ours / max(f32, bf16):.2f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=WORK, default=list(WORK))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--scratch", type=pathlib.Path,
                        default=pathlib.Path.home() / ".cache/murmuration-benches")
    asked = parser.parse_args()
    models.write(asked.scratch)
    binary = HERE.parent / "target/release/examples/ours"
    print(HEAD)
    rows, peaks = [], {}
    for threads in asked.threads:
        for name in asked.models:
            more, peak = measure(name, threads, asked.repeats, asked.scratch, binary)
            rows += more
            peaks[f"{name}, {threads} threads"] = peak
    cpu = next((l.split(": ")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "?")
    versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers")}
    results = {
        "date": datetime.date.today().isoformat(), "cpu": cpu, "python": platform.python_version(),
        "load": os.getloadavg(), "versions": versions, "rows": rows, "peak_mb": peaks,
    }
    (asked.scratch / "results.json").write_text(json.dumps(results, indent=2))
    print(f"{asked.scratch / 'results.json'}: {results['date']}, {cpu}, {versions}, load {results['load']}")


if __name__ == "__main__":
    main()

#!/usr/bin/env bash
# A Python for the benchmarks, outside the repository, and our side of them.
set -euo pipefail
venv=${1:-$HOME/.cache/murmuration-benches/venv}
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet torch transformers safetensors
cd "$(dirname "$0")/.."
cargo build --release -p policy --example ours
echo "now: $venv/bin/python benches/run.py"

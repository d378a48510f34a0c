#!/usr/bin/env bash
# A Python for the benchmarks, outside the repository, and our side of them.
set -euo pipefail
venv=${1:-$HOME/.cache/murmuration-benches/venv}
cd "$(dirname "$0")/.."
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet -r benches/requirements.txt
cargo build --release -p policy --example ours
echo "now: $venv/bin/python benches/run.py"

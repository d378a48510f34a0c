#!/usr/bin/env bash
# Slither's word on the contracts. Every finding must be answered in ANALYSIS.md, and every
# answer there must be to a finding; anything else fails. Takes slither and forge from the
# path, or from PyPI and the npm registry.
set -euo pipefail
cd "$(dirname "$0")"
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
if ! cmp -s package-lock.json node_modules/.installed-from; then
  npm ci --ignore-scripts --no-audit --no-fund --silent
  cp package-lock.json node_modules/.installed-from
fi
if ! command -v forge >/dev/null; then
  npm install --silent --no-fund --no-audit --prefix "$tools" @foundry-rs/forge@1.7.1
  export PATH="$tools/node_modules/.bin:$PATH"
fi
if ! command -v slither >/dev/null; then
  python3 -m venv "$tools/venv"
  "$tools/venv/bin/pip" install --quiet slither-analyzer==0.11.6
  export PATH="$tools/venv/bin:$PATH"
fi
# Its exit code counts findings; what it found is what matters.
slither . --filter-paths 'node_modules|test/' --json "$tools/found.json" >"$tools/log" 2>&1 || true
python3 - "$tools/found.json" <<'PY' || { tail -n 20 "$tools/log"; exit 1; }
import json, re, sys

found = json.load(open(sys.argv[1]))
if not found["success"]:
    sys.exit(f"slither did not run: {found['error']}")
places = set()
for finding in found["results"].get("detectors", []):
    first = finding["elements"][0]
    parent = first.get("type_specific_fields", {}).get("parent", {})
    while first["type"] == "node" and parent:
        first, parent = parent, parent.get("type_specific_fields", {}).get("parent", {})
    owner = parent.get("name", "") if parent.get("type") == "contract" else ""
    places.add((finding["check"], ".".join(filter(None, [owner, first["name"]]))))
answered = set()
for line in open("ANALYSIS.md"):
    row = re.match(r"\| ([a-z-]+) \| (.+?) \| ", line)
    if row and row[1] not in ("finding", "---"):
        answered |= {(row[1], place.strip(" `")) for place in row[2].split(",")}
for check, place in sorted(places - answered):
    print(f"not answered in ANALYSIS.md: {check} in {place}")
for check, place in sorted(answered - places):
    print(f"answered in ANALYSIS.md, and not found any more: {check} in {place}")
if places != answered:
    sys.exit(1)
print(f"slither: {len(places)} findings, each answered in ANALYSIS.md")
PY

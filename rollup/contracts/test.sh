#!/usr/bin/env bash
# Foundry's unit, fuzz and invariant tests of the contracts, with the compiler that
# check.sh pins. Takes forge from the path, or from the npm registry.
set -euo pipefail
cd "$(dirname "$0")"
if ! cmp -s package-lock.json node_modules/.installed-from; then
  npm ci --ignore-scripts --no-audit --no-fund --silent
  cp package-lock.json node_modules/.installed-from
fi
if ! command -v forge >/dev/null; then
  tools=$(mktemp -d)
  trap 'rm -rf "$tools"' EXIT
  npm install --silent --no-fund --no-audit --prefix "$tools" @foundry-rs/forge@1.7.1
  export PATH="$tools/node_modules/.bin:$PATH"
fi
forge test "$@"

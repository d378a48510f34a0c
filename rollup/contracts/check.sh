#!/usr/bin/env bash
# Recompiles the contracts with the pinned compiler and compares the result,
# byte for byte, with artifacts/. With --write, replaces artifacts/ instead.
# Needs Node and, the first time, the npm registry.
set -euo pipefail
cd "$(dirname "$0")"
# npm leaves this file behind when an installation is complete.
if ! cmp -s package-lock.json node_modules/.installed-from; then
  npm ci --ignore-scripts --no-audit --no-fund --silent
  cp package-lock.json node_modules/.installed-from
fi
exec node compile.mjs "$@"

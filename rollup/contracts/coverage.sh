#!/usr/bin/env bash
# How much of the contracts Foundry's tests run, written to COVERAGE.md. The tests in Rust
# run them too, and are not counted. (The compiler's optimiser is off here, but for what
# keeps it from running out of stack: gas means nothing.)
set -euo pipefail
cd "$(dirname "$0")"

report=$(forge coverage --ir-minimum --report summary --no-match-coverage '(test|node_modules)' 2>/dev/null)
{
  echo "# Coverage of the contracts by Foundry's tests"
  echo
  echo "Made by \`rollup/contracts/coverage.sh\`. The tests in Rust (\`rollup/src/contract_tests\`), which"
  echo "run the same contracts on revm, are not counted; with the optimiser off, the compiler tells"
  echo "assembly that it has moved from lines that are not run, so \`Scores.sol\` shows too little."
  echo
  grep -E '^\| (File|src|Total)' <<<"$report" | sed '1a | --- | --- | --- | --- | --- |'
} >COVERAGE.md
cat COVERAGE.md

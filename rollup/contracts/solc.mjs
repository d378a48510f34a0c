#!/usr/bin/env node
// The pinned solc-js behind the two flags that forge needs of a solc binary.
import { createRequire } from "node:module";
import { readFileSync, writeSync } from "node:fs";

const solc = createRequire(import.meta.url)("solc");
// Synchronously: a pipe must have taken everything before the process ends.
function write(text) {
  const bytes = Buffer.from(text);
  for (let sent = 0; sent < bytes.length; ) {
    try {
      sent += writeSync(1, bytes, sent);
    } catch (error) {
      if (error.code !== "EAGAIN") throw error;
    }
  }
}
if (process.argv.includes("--version")) {
  write(`solc, the solidity compiler commandline interface\nVersion: ${solc.version()}\n`);
} else if (process.argv.includes("--standard-json")) {
  write(solc.compile(readFileSync(0, "utf8")));
} else {
  console.error(`solc.mjs knows --version and --standard-json, not ${process.argv.slice(2).join(" ")}`);
  process.exit(1);
}

// Compiles src/ with the solc-js pinned in package-lock.json and compares the
// result with artifacts/; with --write, replaces it. Run through check.sh.
import { createRequire } from "node:module";
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const solc = createRequire(import.meta.url)("solc");
// Whose artifacts are kept, and where each is.
const contracts = {
  PeerRegistry: "src/PeerRegistry.sol",
  SwarmRegistry: "src/SwarmRegistry.sol",
  ReputationLedger: "src/ReputationLedger.sol",
  ContributionShares: "src/ContributionShares.sol",
  RevenueVault: "src/RevenueVault.sol",
  SwarmGovernor: "src/SwarmGovernor.sol",
  TimelockController: "@openzeppelin/contracts/governance/TimelockController.sol",
  AgentMirror: "src/AgentMirror.sol",
};
// Others' contracts that ours are tried on; kept beside, for the tests in Rust.
const reference = {
  IdentityRegistryUpgradeable: "test/vendor/erc-8004/IdentityRegistryUpgradeable.sol",
  ReputationRegistryUpgradeable: "test/vendor/erc-8004/ReputationRegistryUpgradeable.sol",
  FirstVersion: "test/FirstVersion.sol",
  ERC1967Proxy: "@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol",
};
const wanted = ["abi", "userdoc", "evm.bytecode.object", "evm.deployedBytecode.object", "evm.deployedBytecode.immutableReferences"];

// The input names every source with its text, so that the artifact can be
// reproduced from artifacts/input.json and the compiler alone.
const sources = {};
function add(name) {
  if (sources[name]) return;
  const path = name.startsWith("@") ? join(here, "node_modules", name) : join(here, name);
  const content = readFileSync(path, "utf8");
  sources[name] = { content };
  for (const [, imported] of content.matchAll(/^\s*import[^"']*["']([^"']+)["']/gm)) {
    add(imported.startsWith(".") ? join(dirname(name), imported) : imported);
  }
}
readdirSync(join(here, "src")).sort().forEach((file) => add(join("src", file)));
Object.values(reference).forEach(add);

const input = {
  language: "Solidity",
  sources: Object.fromEntries(Object.keys(sources).sort().map((name) => [name, sources[name]])),
  settings: {
    evmVersion: "cancun",
    metadata: { appendCBOR: false, bytecodeHash: "none" },
    optimizer: { enabled: true, runs: 1000 },
    outputSelection: Object.fromEntries(
      Object.entries({ ...contracts, ...reference }).map(([name, path]) => [path, { [name]: wanted }]),
    ),
    viaIR: true,
  },
};
const output = JSON.parse(solc.compile(JSON.stringify(input)));
let failed = false;
for (const problem of output.errors ?? []) {
  // A warning is something to fix too, unless it is about somebody else's source.
  if (problem.severity !== "error" && /^(@|test\/vendor\/)/.test(problem.sourceLocation?.file)) continue;
  console.error(problem.formattedMessage);
  failed = true;
}
if (failed) process.exit(1);

const files = { "input.json": JSON.stringify(input, null, 1) + "\n" };
for (const [name, path] of Object.entries(contracts)) {
  const { abi, evm, userdoc } = output.contracts[path][name];
  const size = evm.deployedBytecode.object.length / 2;
  console.error(`${name}: ${size} bytes on chain (limit 24576)`);
  files[`${name}.json`] =
    JSON.stringify(
      {
        contract: name,
        compiler: solc.version(),
        abi,
        // What to do about each error, in the words of the source.
        advice: Object.fromEntries(
          Object.entries(userdoc.errors ?? {}).map(([error, [{ notice }]]) => [error.split("(")[0], notice]),
        ),
        bytecode: "0x" + evm.bytecode.object,
        deployedBytecode: "0x" + evm.deployedBytecode.object,
        immutables: Object.values(evm.deployedBytecode.immutableReferences ?? {}).flat(),
      },
      null,
      1,
    ) + "\n";
}

const bytecodes = Object.entries(reference).map(([name, path]) => [name, "0x" + output.contracts[path][name].evm.bytecode.object]);
files["reference.json"] = JSON.stringify(Object.fromEntries(bytecodes), null, 1) + "\n";

const folder = join(here, "artifacts");
if (process.argv.includes("--write")) {
  mkdirSync(folder, { recursive: true });
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  console.error("artifacts written");
} else {
  const stale = Object.entries(files)
    .filter(([name, text]) => !existsSync(join(folder, name)) || readFileSync(join(folder, name), "utf8") !== text)
    .map(([name]) => name);
  if (stale.length > 0) {
    console.error(`artifacts/ does not follow from src/: ${stale.join(", ")}. Run rollup/contracts/check.sh --write and commit.`);
    process.exit(1);
  }
  console.error("artifacts follow from the sources");
}

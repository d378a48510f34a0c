// The chain, read by its JSON-RPC: a swarm's events from its first block on, folded into
// what the pages show. The same in a browser and in a test.

import { bytesOf } from "./abi.js";

const RANGE = 2000;
const PAGE = 200;
const STATUS = { settled: "settled", voided: "voided", open: "open" };

/** JSON-RPC over HTTP; an answer that is an error becomes one. */
export class Rpc {
  constructor(url) {
    this.url = url;
    this.next = 1;
  }

  async ask(method, params) {
    let response;
    try {
      response = await fetch(this.url, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ jsonrpc: "2.0", id: this.next++, method, params }),
      });
    } catch (error) {
      throw new Error(`the chain does not answer at ${this.url}, or does not let this page ask (CORS): ${error.message}`);
    }
    const text = await response.text();
    let answer;
    try {
      answer = JSON.parse(text);
    } catch {
      throw new Error(`${this.url} answered ${response.status} and no JSON`);
    }
    if (answer.error) {
      const error = new Error(`${method}: ${answer.error.message}`);
      error.declined = true;
      throw error;
    }
    return answer.result;
  }
}

const hex = (number) => "0x" + number.toString(16);

/** One swarm on one ledger. */
export class Swarm {
  constructor(rpc, abi, { ledger, swarm, fromBlock = 0 }) {
    Object.assign(this, { rpc, abi, ledger, id: swarm, from: fromBlock });
    this.rounds = new Map();
    this.history = new Map();
    this.joined = new Map();
    this.settled = [];
    this.members = [];
    this.height = -1;
  }

  async call(to, name, ...values) {
    const data = this.abi.call(name, ...values);
    return this.abi.answer(name, await this.rpc.ask("eth_call", [{ to, data }, "latest"]));
  }

  /** What does not change: chain, registry, the block to read from. */
  async open() {
    this.chainId = Number(await this.rpc.ask("eth_chainId", []));
    this.registry = await this.call(this.ledger, "registry");
    this.swarms = await this.call(this.ledger, "swarms");
    if (!this.id) this.id = await this.only();
    const info = await this.call(this.swarms, "getSwarm", this.id);
    this.manifest = info.manifest;
    this.from = Math.max(this.from, await this.firstBlockAt(info.createdAt));
  }

  /** The only swarm of this ledger. */
  async only() {
    const height = Number(await this.rpc.ask("eth_blockNumber", []));
    const created = await this.logs(this.swarms, [this.abi.topic("SwarmCreated")], this.from, height);
    const ids = [...new Set(created.map((event) => event.swarm))];
    if (ids.length === 1) return ids[0];
    throw new Error(ids.length ? `this ledger knows ${ids.length} swarms: choose one with ?swarm=, of ${ids.slice(0, 5).join(", ")}` : "this ledger knows no swarm");
  }

  /** The first block made at a time or later, by the headers' clocks. */
  async firstBlockAt(time) {
    let [low, high] = [0, Number(await this.rpc.ask("eth_blockNumber", []))];
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      const header = await this.rpc.ask("eth_getBlockByNumber", [hex(middle), false]);
      // Nodes may have dropped their oldest blocks.
      if (header && Number(header.timestamp) >= Number(time)) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  async logs(address, topics, from, to) {
    const found = [];
    let range = RANGE;
    while (from <= to) {
      const until = Math.min(to, from + range - 1);
      try {
        const filter = { address, topics, fromBlock: hex(from), toBlock: hex(until) };
        const logs = await this.rpc.ask("eth_getLogs", [filter]);
        for (const log of logs) {
          const event = this.abi.log(log);
          if (event) found.push({ ...event, tx: log.transactionHash, block: Number(log.blockNumber) });
        }
        from = until + 1;
      } catch (error) {
        // Too much for this node: ask for less.
        if (!error.declined || range === 1) throw error;
        range = Math.max(1, Math.floor(range / 2));
      }
    }
    return found;
  }

  /** Reads what is new; true if anything was. */
  async refresh() {
    const height = Number(await this.rpc.ask("eth_blockNumber", []));
    if (height === this.height) return false;
    if (height < this.height) this.forget();
    const events = await this.logs(this.ledger, [null, this.id], Math.max(this.from, this.height + 1), height);
    for (const event of events) this.take(event);
    this.height = height;
    if (events.length || !this.members.length) await this.readMembers();
    return events.length > 0 || !this.members.length;
  }

  /** The chain went back: what was read may never have happened. */
  forget() {
    for (const kept of [this.rounds, this.history, this.joined]) kept.clear();
    this.settled = [];
    this.height = -1;
  }

  round(number) {
    const key = Number(number);
    if (!this.rounds.has(key)) this.rounds.set(key, { number: key, status: STATUS.open, committee: [], scores: [], missed: new Map(), weighed: new Map() });
    return this.rounds.get(key);
  }

  take(event) {
    if (event.name === "PeerJoined") this.joined.set(event.peer, event.block);
    if (event.round === undefined) return;
    const round = this.round(event.round);
    if (event.name === "RoundOpened") {
      Object.assign(round, { beacon: event.beacon, committee: event.committee, openedTx: event.tx, openedBlock: event.block });
    } else if (event.name === "PeerScored") {
      const score = event.judges > 0 ? event.score : null;
      const row = { peer: event.peer, score, judges: event.judges, reputation: event.reputation, uncertainty: event.uncertainty };
      round.scores.push(row);
      if (!this.history.has(event.peer)) this.history.set(event.peer, []);
      this.history.get(event.peer).push({ ...row, round: round.number, tx: event.tx, block: event.block });
    } else if (event.name === "RoundSettled") {
      Object.assign(round, { status: STATUS.settled, included: event.included, relayer: event.relayer, witnesses: event.witnesses, root: event.root, tx: event.tx, block: event.block });
      this.settled.push(round.number);
    } else if (event.name === "RoundVoided" && round.status === STATUS.open) {
      Object.assign(round, { status: STATUS.voided, relayer: event.relayer, tx: event.tx, block: event.block });
    } else if (event.name === "WitnessMissed") {
      round.missed.set(event.witness, event.missed);
    } else if (event.name === "WitnessWeighed") {
      round.weighed.set(event.witness, event);
    }
  }

  async readMembers() {
    const members = [];
    for (;;) {
      const page = await this.call(this.ledger, "standings", this.id, members.length, PAGE);
      const records = page.length ? await this.call(this.registry, "peers", page.map((one) => one.peer)) : [];
      page.forEach((standing, index) => members.push({ ...standing, ...describe(records[index]) }));
      if (page.length < PAGE) break;
    }
    members.sort((one, other) => other.reputation - one.reputation || (one.peer < other.peer ? -1 : 1));
    members.forEach((member, index) => (member.rank = index + 1));
    this.members = members;
    await Promise.all(members.map((member) => this.checkKey(member)));
  }

  /** Whether the iroh key signed that it stands for the address; null where the browser can't tell. */
  async checkKey(member) {
    if (!member.node) return;
    const parts = [new TextEncoder().encode("murmuration/registration/1"), bytesOf(this.chainId.toString(16).padStart(64, "0")), bytesOf(this.registry), bytesOf(member.peer)];
    const message = new Uint8Array(parts.flatMap((part) => [...part]));
    try {
      const key = await crypto.subtle.importKey("raw", bytesOf(member.node), "Ed25519", false, ["verify"]);
      member.bound = await crypto.subtle.verify("Ed25519", key, bytesOf(member.signature), message);
    } catch {
      member.bound = null;
    }
  }

  /** How sure it is that a block stays. */
  async finality(block) {
    for (const tag of ["finalized", "safe"]) {
      const header = await this.rpc.ask("eth_getBlockByNumber", [tag, false]).catch(() => null);
      if (header && Number(header.number) >= block) return tag;
    }
    return "sequenced";
  }

  member(address) {
    return this.members.find((member) => member.peer === address);
  }

  /** The cards that settled a round, from the transaction's own bytes; null where it was no plain call. */
  async cards(round) {
    const sent = await this.rpc.ask("eth_getTransactionByHash", [round.tx]);
    if (!sent || sent.to?.toLowerCase() !== this.ledger.toLowerCase()) return null;
    const call = this.abi.arguments("settle", sent.input);
    // Four bytes a score.
    const scores = (packed) => Array.from({ length: (packed.length - 2) / 8 }, (_, at) => parseInt(packed.substr(2 + 8 * at, 8), 16));
    return call && { peers: call.peers, cards: call.cards.map((card) => ({ witness: card.witness, scores: scores(card.scores) })) };
  }
}

function describe(record) {
  if (!record || /^0x0+$/.test(record.node)) return { label: "" };
  return { label: record.name, node: record.node, signature: record.nodeSignatureR + record.nodeSignatureS.slice(2), registeredAt: Number(record.registeredAt) };
}

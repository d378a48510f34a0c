// The pages: which one the address names, what is on it, and the search that finds it.

import { Interface } from "./abi.js";
import { Rpc, Swarm } from "./chain.js";
import { chart, fill, h, meter, percent, share, short, spark, theirs } from "./dom.js";

const POLL_MS = 5000;
const UNSCORED = 0xffffffff;
const main = document.getElementById("main");
const status = document.getElementById("status");
let swarm, config, words;

// ------------------------------------------------------------------- small parts

const name = (address) => {
  const label = swarm.member(address)?.label;
  return label ? theirs(label) : short(address);
};
const peerLink = (address) => h("a", { href: `#/peer/${address}` }, name(address));
const roundLink = (number) => h("a", { href: `#/round/${number}` }, number);
const pairsOf = (kind, pairs) => h("dl", { class: kind }, pairs.filter(Boolean).map(([term, value]) => [h("dt", null, term), h("dd", null, value)]));
/** Short values, beside their names on any screen. */
const facts = (...pairs) => pairsOf(null, pairs);
/** Long ones: on a phone below their names. */
const records = (...pairs) => pairsOf("long", pairs);
const section = (title, ...children) => h("section", null, h("h2", null, title), children);
const tile = (value, label) => h("li", null, h("b", null, value), h("span", null, label));

function table(caption, headings, rows) {
  const head = headings.map(([label, kind]) => h("th", { scope: "col", class: kind }, label));
  const body = rows.map((cells) => h("tr", null, cells.map((cell, index) =>
    h(index === 0 ? "th" : "td", { scope: index === 0 ? "row" : null, class: headings[index][1] }, cell))));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", null, h("caption", null, caption), h("thead", null, h("tr", null, head)), h("tbody", null, body)));
}

/** What a word means, where the mouse or a screen reader asks. */
function word(label) {
  const found = words.find((one) => one.name === label);
  return found ? h("a", { href: `#/words/${encodeURIComponent(label)}`, title: `${found.meaning} (${found.unit})` }, label) : label;
}

function tx(hash) {
  if (!hash) return "–";
  return config.explorer ? h("a", { href: `${config.explorer}/tx/${hash}`, rel: "noreferrer" }, short(hash)) : h("code", null, hash);
}

const unsure = (ppm) => `± ${share(ppm)}`;

/** What the server beside this page knows; null where the page came from a plain host. */
async function extra(path) {
  if (!config.served) return null;
  const response = await fetch(path);
  const answer = await response.json().catch(() => ({ error: `the server answered ${response.status}` }));
  return answer;
}

// -------------------------------------------------------------------- the pages

function leaderboard() {
  const newest = swarm.settled.at(-1);
  const settled = swarm.settled.length;
  const rows = swarm.members.map((member) => {
    const history = swarm.history.get(member.peer) ?? [];
    const scores = history.map((row) => row.score);
    return [member.rank, peerLink(member.peer), [share(member.reputation), " ", meter(member.reputation)], unsure(member.uncertainty), member.rounds,
      share(scores.at(-1)), spark(scores.filter((score) => score !== null)), member.active ? "eligible" : "away"];
  });
  return [
    h("h1", null, "Peers by reputation"),
    h("ul", { class: "tiles" },
      tile(swarm.members.length, "peers"), tile(settled, "settled rounds"),
      tile(newest === undefined ? "–" : roundLink(newest), "newest round"),
      tile(config.devnet ? "devnet" : swarm.chainId, config.devnet ? "one machine's own chain" : "chain id")),
    section("Who contributed what", rows.length
      ? table("Highest reputation first", [["#", "number"], ["peer", ""], [word("reputation"), "number"], [word("uncertainty"), "number wide"], [word("rounds"), "number wide"], [word("score"), "number"], ["newest scores", "wide"], [word("witness"), "wide"]], rows)
      : h("p", { class: "dim" }, "Nobody has joined this swarm yet.")),
  ];
}

function peerPage(wanted) {
  const member = swarm.members.find((one) => one.peer === wanted.toLowerCase() || one.node === wanted.toLowerCase());
  if (!member) return missing(`No member has the address ${wanted}.`);
  const history = swarm.history.get(member.peer) ?? [];
  const scores = history.map((row) => row.score);
  const bound = { true: "it signed for this address, checked in your browser", false: "FALSE: that key never signed for this address", null: "your browser can't check its signature", undefined: "" }[member.bound];
  const why = section("Why", h("p", { class: "dim" }, "Reading the newest round's transcript…"));
  const newest = history.at(-1);
  if (newest) extra(`api/round/${newest.round}.json`).then((judged) => fill(why, whyOf(judged, member.peer, newest.round)));
  return [
    h("h1", null, name(member.peer), " ", h("span", { class: "badge" }, `rank ${member.rank} of ${swarm.members.length}`)),
    h("ul", { class: "tiles" },
      tile(share(member.reputation), word("reputation")), tile(unsure(member.uncertainty), word("uncertainty")),
      tile(share(scores.at(-1)), ["newest ", word("score")]), tile(member.rounds, ["settled ", word("rounds")])),
    section("History", history.length ? [
      chart(history, `Score and reputation of ${history.length} rounds; the table below has the numbers`),
      h("ul", { class: "legend" }, h("li", null, "● score of a round"), h("li", { class: "second" }, "━ reputation"), h("li", null, "▒ how unsure it is")),
    ] : h("p", { class: "dim" }, "No settled round has included this peer.")),
    newest ? why : null,
    section("Who it is", records(
      ["name", member.label ? [theirs(member.label), " (its own choice, not unique)"] : "none"],
      ["address", h("code", null, member.peer)],
      ["iroh id", member.node ? [h("code", null, member.node.slice(2)), h("br"), h("span", { class: member.bound === false ? "bad" : "dim" }, bound)] : "none"],
      ["witness", member.active ? "eligible" : "away: not drawn until it checks in"],
      [word("weight"), `${share(member.weight)} as a witness`],
      [word("missed"), `${member.missed} in a row`],
      member.faults ? ["faults", h("span", { class: "bad" }, `proved to have signed two cards for one round, ${member.faults} times`)] : null,
      swarm.joined.has(member.peer) ? ["joined", `block ${swarm.joined.get(member.peer)}`] : null)),
    history.length ? section("Rounds", table("The newest first", [["round", ""], [word("score"), "number"], [word("judges"), "number"], [word("reputation"), "number"], ["transaction", "wide"]],
      [...history].reverse().slice(0, 200).map((row) => [roundLink(row.round), share(row.score), row.judges, share(row.reputation), short(row.tx)]))) : null,
  ];
}

/** Parts, reason and what was not counted, of one peer in one round. */
function whyOf(answer, address, round) {
  const title = h("h2", null, "Why: round ", roundLink(round));
  if (!answer) return [title, h("p", { class: "dim" }, "This page was opened without a node beside it: reasons follow from the round's transcript, which ", h("code", null, "murmur explore"), " and ", h("code", null, "murmur rep round"), " read.")];
  if (answer.error) return [title, h("p", { class: "dim" }, answer.error)];
  const judged = answer.peers.find((one) => one.address?.toLowerCase() === address);
  if (!judged) return [title, h("p", null, "Nothing of it was included: late for the witnesses, or not sent.")];
  return [title, reasons(judged)];
}

function reasons(judged) {
  const parts = Object.entries(judged.parts).map(([label, ppm]) => [word(label), [percent(ppm), " ", meter(ppm)]]);
  return [
    h("p", null, theirs(judged.why)),
    facts(...parts, [word("right"), percent(judged.right_ppm)], [word("Brier"), judged.brier_ppm === null ? "–" : share(judged.brier_ppm)], [word("useful"), `${judged.useful_groups} of ${judged.groups} groups`]),
    judged.not_counted?.length ? [h("h3", null, "Not counted"), h("ul", { class: "plain" }, judged.not_counted.map((line) => {
      return h("li", null, line.count ? `${line.count} ${line.kind}` : `${line.kind} as a whole`, ", because: ", theirs(line.because));
    }))] : null,
  ];
}

function roundsPage() {
  const all = [...swarm.rounds.values()].sort((one, other) => other.number - one.number);
  return [h("h1", null, "Rounds"), section("Opened on the chain", all.length
    ? table("The newest first", [["round", ""], ["status", ""], ["peers", "number"], ["signed", "number"], ["relayed by", "wide"], ["block", "number wide"]],
      all.slice(0, 500).map((round) => [roundLink(round.number), statusOf(round), round.scores.length || "–",
        round.witnesses ? `${round.witnesses.length} of ${round.committee.length}` : "–", round.relayer ? peerLink(round.relayer) : "–", round.block ?? round.openedBlock ?? "–"]))
    : h("p", { class: "dim" }, "No round has been opened yet."))];
}

const statusOf = (round) => h("span", { class: { settled: "good", voided: "bad" }[round.status] }, { settled: "✓ settled", voided: "✗ voided", open: "… open" }[round.status]);

function roundPage(wanted) {
  const round = swarm.rounds.get(Number(wanted));
  if (!round) return missing(`Round ${wanted} was never opened.`);
  const scores = section("Scores", h("p", { class: "dim" }, "Reading the settling transaction…"));
  const evidence = section("Recomputed", h("p", { class: "dim" }, "Recomputing the round…"));
  const why = section("Why", h("p", { class: "dim" }, "Reading the round's transcript…"));
  if (round.status === "settled") {
    swarm.cards(round).catch(() => null).then((cards) => fill(scores, h("h2", null, "Scores"), scoreTable(round, cards)));
    extra(`api/verify/${round.number}.json`).then((answer) => fill(evidence, h("h2", null, "Recomputed"), checked(answer, round)));
    extra(`api/round/${round.number}.json`).then((answer) => fill(why, whyAll(answer)));
  }
  const finality = h("span", null, round.status === "open" ? "pending" : "…");
  if (round.block !== undefined) swarm.finality(round.block).then((sure) => fill(finality, sure));
  const neighbours = [...swarm.rounds.keys()].sort((one, other) => one - other);
  const at = neighbours.indexOf(round.number);
  const step = (number, label) => number === undefined ? null : h("a", { href: `#/round/${number}` }, label);
  const committee = round.committee.map((witness) => {
    const signed = round.witnesses?.includes(witness);
    const weighed = round.weighed.get(witness);
    return h("li", null, peerLink(witness), weighed ? h("span", { class: "dim" }, ` weighs ${share(weighed.weight)}, off by ${share(weighed.deviation)}`) : null, ": ", signed ? h("span", { class: "good" }, "✓ signed") : round.missed.has(witness) ? h("span", { class: "bad" }, `✗ did not sign, ${round.missed.get(witness)} in a row`) : "has not signed");
  });
  return [
    h("h1", null, `Round ${round.number} `, h("span", { class: "badge" }, statusOf(round))),
    h("p", null, step(neighbours[at - 1], `← round ${neighbours[at - 1]}`), neighbours[at - 1] !== undefined && neighbours[at + 1] !== undefined ? " · " : "", step(neighbours[at + 1], `round ${neighbours[at + 1]} →`)),
    round.status === "settled" ? [scores, h("div", { class: "two" }, evidence, section("Committee", h("ul", { class: "plain" }, committee))), why]
      : section("Committee", h("ul", { class: "plain" }, committee)),
    section("Transaction", records(
      ["beacon", h("code", null, round.beacon ?? "–")],
      ["opened", [`block ${round.openedBlock ?? "–"}, `, tx(round.openedTx)]],
      round.tx ? [round.status, [`block ${round.block}, `, tx(round.tx)]] : null,
      ["finality", finality],
      round.relayer ? ["relayed by", peerLink(round.relayer)] : null,
      round.included ? [word("included"), h("code", null, round.included)] : null,
      round.root ? ["running root", h("code", null, round.root)] : null)),
  ];
}

/** Each peer's settled score, and what each witness signed. */
function scoreTable(round, call) {
  const witnesses = call?.cards.map((card) => card.witness) ?? [];
  const rows = [...round.scores].sort((one, other) => (other.score ?? -1) - (one.score ?? -1)).map((row) => {
    const at = call?.peers.indexOf(row.peer);
    const given = (call?.cards ?? []).map((card) => card.witness === row.peer || card.scores[at] === UNSCORED ? h("span", { class: "dim" }, "own") : share(card.scores[at]));
    return [peerLink(row.peer), [share(row.score), " ", meter(row.score ?? 0)], share(row.reputation), ...given];
  });
  const headings = [["peer", ""], [[word("score"), ", the median"], "number"], [[word("reputation"), " after"], "number"], ...witnesses.map((witness) => [["signed by ", name(witness)], "number wide"])];
  return [table("The settled score is the lower weighted median of what others signed; a peer's own word is not counted", headings, rows),
    call ? null : h("p", { class: "dim" }, "The settling transaction is no plain call of the ledger: what each witness signed is not in it.")];
}

function checked(answer, round) {
  if (!answer) return [h("p", { class: "dim" }, "Without a node beside this page nothing is recomputed here. Anybody with the round's transcript can: "), h("code", null, `murmur rep verify ${round.number} --transcript FILE`)];
  if (answer.error) return [h("p", { class: "problem" }, answer.error)];
  const differences = answer.differences.map((one) => h("li", { class: "bad" }, `${one.line}: claimed ${one.claimed}, recomputed ${one.recomputed}`));
  return [
    differences.length ? [h("p", { class: "bad" }, "✗ This round does not follow from its evidence:"), h("ul", { class: "plain" }, differences)]
      : h("p", { class: "good" }, answer.bodies ? `✓ ${answer.cards} signed cards and ${answer.bodies} batches of completions agree with the ledger` : `✓ ${answer.cards} signed cards agree with the ledger`),
    answer.unchecked.length ? h("ul", { class: "plain dim" }, answer.unchecked.map((one) => h("li", null, "not checked: ", theirs(one)))) : null,
    h("p", { class: "dim" }, "The same on your machine: ", h("code", null, `murmur rep verify ${round.number}`)),
    answer.bodies ? h("p", null, h("a", { href: `api/transcript/${round.number}.bin`, download: `round-${round.number}.transcript` }, "Download the transcript")) : null,
  ];
}

function whyAll(answer) {
  const title = h("h2", null, "Why");
  if (!answer) return [title, h("p", { class: "dim" }, "Reasons follow from the round's transcript, which a plain host does not have.")];
  if (answer.error) return [title, h("p", { class: "dim" }, answer.error)];
  return [title, ...answer.peers.map((judged) => h("details", { open: answer.peers.length <= 6 },
    h("summary", null, judged.address ? peerLink(judged.address.toLowerCase()) : theirs(judged.peer), ` ${share(judged.score_ppm)}`), reasons(judged)))];
}

function swarmPage() {
  const count = (wanted) => [...swarm.rounds.values()].filter((round) => round.status === wanted).length;
  return [h("h1", null, config.name ? ["Swarm ", theirs(config.name)] : "Swarm"),
    section("On the chain", records(
      ["id", h("code", null, swarm.id)], ["manifest", h("code", null, swarm.manifest)],
      ["chain", [`${swarm.chainId} `, config.devnet ? h("span", { class: "badge" }, "devnet: only the machine that runs it vouches for it") : null]],
      ["JSON-RPC", h("code", null, config.shown ?? swarm.rpc.url)], ["ledger", h("code", null, swarm.ledger)], ["peers", h("code", null, swarm.registry)], ["swarms", h("code", null, swarm.swarms)],
      ["read to", `block ${swarm.height}, from block ${swarm.from}`],
      ["rounds", `${swarm.rounds.size} opened, ${count("settled")} settled, ${count("voided")} voided`],
      ["members", swarm.members.length],
      ["running root", h("code", null, swarm.rounds.get(swarm.settled.at(-1))?.root ?? "–")]))];
}

function wordsPage(wanted) {
  const all = words.map((one) => h("section", { id: `word-${one.name}` }, h("h2", null, one.name), h("p", null, one.meaning),
    records(["unit", one.unit], ["raised by", one.raises], ["lowered by", one.lowers], ["remembers", one.memory])));
  if (wanted) setTimeout(() => document.getElementById(`word-${wanted}`)?.scrollIntoView(), 0);
  return [h("h1", null, "What the numbers mean"), all];
}

function searchPage(text) {
  const wanted = text.trim().toLowerCase().replace(/^0x/, "");
  const peers = swarm.members.filter((one) => [one.label.toLowerCase(), one.peer.slice(2), one.node?.slice(2)].some((key) => key?.startsWith(wanted)));
  const rounds = [...swarm.rounds.values()].filter((round) => String(round.number) === wanted || (wanted.length >= 4 && [round.tx, round.openedTx, round.included, round.beacon, round.root].some((key) => key?.slice(2).startsWith(wanted))));
  const found = [...peers.map((one) => `#/peer/${one.peer}`), ...rounds.map((round) => `#/round/${round.number}`)];
  if (found.length === 1) {
    location.replace(found[0]);
    return [];
  }
  return [h("h1", null, "Search: ", theirs(text)), section(`${found.length} found`,
    found.length ? h("ul", { class: "plain" }, peers.map((one) => h("li", null, peerLink(one.peer), " ", short(one.peer))), rounds.map((round) => h("li", null, "round ", roundLink(round.number))))
      : h("p", null, "Nothing begins like this: try a name, an address, an iroh id, a round's number, or a transaction's hash."))];
}

const missing = (text) => [h("h1", null, "Not found"), h("p", null, text, " ", h("a", { href: "#/" }, "All peers"))];

// ------------------------------------------------------------------ what is shown

const PAGES = { "": leaderboard, peer: peerPage, rounds: roundsPage, round: roundPage, swarm: swarmPage, words: wordsPage, search: searchPage };

function show(moved) {
  // Links to a place on the page are the browser's own business.
  if (location.hash && !location.hash.startsWith("#/")) return;
  const [page, ...rest] = location.hash.slice(2).split("/");
  const build = PAGES[page] ?? (() => missing("There is no such page."));
  const focused = document.activeElement?.getAttribute?.("href");
  fill(main, build(decode(rest.join("/"))));
  document.title = `${main.querySelector("h1")?.textContent ?? ""} · Murmuration`;
  for (const link of document.querySelectorAll("nav a")) {
    const current = link.getAttribute("href") === `#/${page}` || (page === "peer" && link.hash === "#/") || (page === "round" && link.hash === "#/rounds");
    current ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  }
  if (moved) {
    window.scrollTo(0, 0);
    main.focus();
  } else if (focused) {
    [...main.querySelectorAll("a")].find((link) => link.getAttribute("href") === focused)?.focus();
  }
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function say(text, problem) {
  status.textContent = text;
  status.className = problem ? "problem" : "";
}

async function poll() {
  try {
    const changed = await swarm.refresh();
    say(`block ${swarm.height} · ${config.devnet ? "devnet" : `chain ${swarm.chainId}`} · ${config.served ? "with this machine's transcripts" : "read from the chain alone"}`);
    if (changed) show(false);
  } catch (error) {
    say(`${error.message}; trying again`, true);
  }
  setTimeout(poll, POLL_MS);
}

async function json(path, optional) {
  const response = await fetch(path).catch(() => null);
  if (response?.ok) return response.json();
  if (optional) return {};
  throw new Error(`${path} is missing beside this page`);
}

async function start() {
  const stored = localStorage.getItem("theme");
  if (stored) document.documentElement.dataset.theme = stored;
  document.getElementById("theme").addEventListener("click", () => {
    const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    document.documentElement.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("theme", document.documentElement.dataset.theme);
  });
  document.getElementById("search").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = new FormData(event.target).get("for").trim();
    if (text) location.hash = `#/search/${encodeURIComponent(text)}`;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/^(INPUT|TEXTAREA)$/.test(document.activeElement?.tagName)) {
      event.preventDefault();
      document.querySelector("#search input").focus();
    }
  });
  const query = new URLSearchParams(location.search);
  const given = await json("config.json", true);
  if (given.served && query.has("rpc")) throw new Error("this page was served for one chain; for another, start murmur explore --rpc URL, or open the page from a plain host (murmur explore --export DIR)");
  config = { ...given, ...Object.fromEntries(["rpc", "ledger", "swarm", "explorer"].filter((key) => query.get(key)).map((key) => [key, query.get(key)])) };
  if (!config.rpc || !/^0x[0-9a-fA-F]{40}$/.test(config.ledger ?? "")) throw new Error("name a chain: add ?rpc=URL&ledger=0x… (and &swarm=0x… where there are several) to this page's address");
  if (config.explorer && !/^https?:\/\//.test(config.explorer)) throw new Error("?explorer= must be an http or https URL");
  words = await json("words.json");
  swarm = new Swarm(new Rpc(config.rpc), new Interface(await json("contracts.json")), { ledger: config.ledger.toLowerCase(), swarm: config.swarm?.toLowerCase(), fromBlock: Number(query.get("from") ?? 0) });
  await swarm.open();
  await swarm.refresh();
  window.addEventListener("hashchange", () => show(true));
  show(false);
  document.documentElement.dataset.ready = "yes";
  await poll();
}

start().catch((error) => {
  main.replaceChildren(h("p", { class: "problem" }, error.message));
  document.documentElement.dataset.ready = "failed";
});

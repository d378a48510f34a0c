// Elements from values. Whatever a peer wrote goes in as text, never as markup: nothing
// here, or anywhere in this page, parses HTML.

const SVG = "http://www.w3.org/2000/svg";

function made(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(9)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

/** An element of HTML. */
export const h = (tag, attributes, ...children) => made(document.createElement(tag), attributes, children);
/** An element of SVG. */
export const s = (tag, attributes, ...children) => made(document.createElementNS(SVG, tag), attributes, children);

/** Puts children in the place of what an element held. */
export function fill(element, ...children) {
  element.replaceChildren();
  return made(element, null, children);
}

/** A peer's own words, kept from reordering or hiding what stands around them. */
export function theirs(text) {
  const harmless = String(text).replace(/[\p{Cc}\p{Cf}\p{Co}\p{Cn}\u2028\u2029]/gu, "\ufffd").slice(0, 200);
  return h("bdi", null, harmless);
}

/** Parts per million as a number of three digits; a dash for none. */
export const share = (ppm) => (ppm === null || ppm === undefined ? "–" : (ppm / 1e6).toFixed(3));
/** Parts per million as per cent. */
export const percent = (ppm) => (ppm === null || ppm === undefined ? "–" : (ppm / 1e4).toFixed(1) + "%");
/** A long hex number, shortened; whole in its title. */
export const short = (hex) => h("code", { title: hex }, hex.slice(0, 8), "…", hex.slice(-4));

/** A filled bar beside a number. */
export function meter(ppm) {
  const width = Math.max(0, Math.min(100, ppm / 1e4));
  return s("svg", { class: "meter", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
    s("rect", { width: 100, height: 8, rx: 2 }), s("rect", { width, height: 8, rx: 2 }));
}

/** The newest scores as a line the size of a word. */
export function spark(scores) {
  const newest = scores.slice(-32);
  if (newest.length < 2) return h("span", { class: "dim" }, "–");
  const point = (ppm, index) => `${((index / (newest.length - 1)) * 100).toFixed(1)},${(19 - (ppm / 1e6) * 18).toFixed(1)}`;
  const label = `scores of the newest ${newest.length} rounds, from ${share(newest[0])} to ${share(newest.at(-1))}`;
  return s("svg", { class: "spark", viewBox: "0 0 100 20", preserveAspectRatio: "none", role: "img", "aria-label": label },
    s("polyline", { class: "spark-line", "vector-effect": "non-scaling-stroke", points: newest.map(point).join(" ") }));
}

/** Score of each round as points, the reputation they make, and the band it is unsure by. */
export function chart(history, label) {
  const [width, height, left, bottom] = [760, 260, 44, 26];
  const rounds = history.map((row) => row.round);
  const [first, last] = [Math.min(...rounds), Math.max(...rounds)];
  const top = Math.max(0.2, ...history.flatMap((row) => [row.score ?? 0, row.reputation])) * 1.1;
  const most = Math.min(1e6, Math.max(200000, top));
  const x = (round) => left + ((round - first) / Math.max(1, last - first)) * (width - left - 12);
  const y = (ppm) => height - bottom - (Math.min(ppm, most) / most) * (height - bottom - 10);
  const at = (round, ppm) => `${x(round).toFixed(1)},${y(ppm).toFixed(1)}`;
  const lines = [0, 0.25, 0.5, 0.75, 1].map((part) => {
    const ppm = part * most;
    return [s("line", { class: "grid", x1: left, x2: width - 12, y1: y(ppm), y2: y(ppm) }),
      s("text", { x: left - 6, y: y(ppm) + 4, "text-anchor": "end" }, (ppm / 1e6).toFixed(2))];
  });
  const ticks = [...new Set([first, Math.round((first + last) / 2), last])];
  const scored = history.filter((row) => row.score !== null);
  const outline = [...history.map((row) => at(row.round, row.reputation + row.uncertainty)),
    ...[...history].reverse().map((row) => at(row.round, Math.max(0, row.reputation - row.uncertainty)))];
  return s("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label },
    lines,
    ticks.map((round) => s("text", { x: x(round), y: height - 8, "text-anchor": round === first ? "start" : round === last ? "end" : "middle" }, round === first ? `round ${round}` : round)),
    s("polygon", { class: "band", points: outline.join(" ") }),
    scored.map((row) => s("circle", { class: "score", cx: x(row.round).toFixed(1), cy: y(row.score).toFixed(1), r: 3.2 }, s("title", null, `round ${row.round}: ${share(row.score)}`))),
    s("polyline", { class: "reputation", points: history.map((row) => at(row.round, row.reputation)).join(" ") }));
}

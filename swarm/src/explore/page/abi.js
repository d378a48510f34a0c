// The contracts' encoding, as far as an explorer reads it: events, calls and answers of
// integers, addresses, words, strings, lists and structs. The types come from
// contracts.json, which is made from the very artifacts that are deployed.

const WORD = 32;

/** A string of hex digits as bytes. */
export function bytesOf(hex) {
  const digits = hex.startsWith("0x") ? hex.slice(2) : hex;
  if (digits.length % 2 || /[^0-9a-fA-F]/.test(digits)) throw new Error("not hex digits");
  return Uint8Array.from({ length: digits.length / 2 }, (_, at) => parseInt(digits.substr(2 * at, 2), 16));
}

/** Bytes as a string of hex digits. */
export function hexOf(bytes) {
  return "0x" + Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function isDynamic(type) {
  if (type.type.endsWith("[]")) return true;
  if (type.type === "tuple") return type.components.some(isDynamic);
  return type.type === "bytes" || type.type === "string";
}

function wordAt(data, at) {
  // A lying chain may send anything: no read goes past the end.
  if (at < 0 || at + WORD > data.length) throw new Error("the data ends too early");
  return data.subarray(at, at + WORD);
}

function numberAt(data, at) {
  const number = BigInt(hexOf(wordAt(data, at)));
  return number <= Number.MAX_SAFE_INTEGER ? Number(number) : number;
}

function lengthAt(data, at) {
  const length = numberAt(data, at);
  if (typeof length !== "number" || length > data.length) throw new Error("a length past the end");
  return length;
}

function size(type) {
  return type.type === "tuple" && !isDynamic(type) ? type.components.reduce((sum, one) => sum + size(one), 0) : WORD;
}

/** Values of these types, laid out from `base` on. */
function decodeAll(types, data, base) {
  let at = base;
  return types.map((type) => {
    const value = isDynamic(type) ? decode(type, data, base + lengthAt(data, at)) : decode(type, data, at);
    at += isDynamic(type) ? WORD : size(type);
    return value;
  });
}

function decode(type, data, at) {
  const kind = type.type;
  if (kind.endsWith("[]")) {
    const count = lengthAt(data, at);
    const one = { ...type, type: kind.slice(0, -2) };
    if (count * WORD > data.length) throw new Error("a list past the end");
    return decodeAll(Array.from({ length: count }, () => one), data, at + WORD);
  }
  if (kind === "tuple") {
    const values = decodeAll(type.components, data, at);
    return Object.fromEntries(type.components.map((one, index) => [one.name, values[index]]));
  }
  if (kind === "bytes" || kind === "string") {
    const length = lengthAt(data, at);
    if (at + WORD + length > data.length) throw new Error("text past the end");
    const bytes = data.subarray(at + WORD, at + WORD + length);
    return kind === "bytes" ? hexOf(bytes) : new TextDecoder().decode(bytes);
  }
  if (kind === "address") return hexOf(wordAt(data, at).subarray(12));
  if (kind === "bool") return numberAt(data, at) !== 0;
  if (kind.startsWith("bytes")) return hexOf(wordAt(data, at).subarray(0, Number(kind.slice(5))));
  if (kind.startsWith("uint")) return numberAt(data, at);
  throw new Error("unknown type " + kind);
}

/** What the contracts can say and be asked, by name. */
export class Interface {
  constructor({ events, functions }) {
    this.byTopic = new Map(events.map((event) => [event.topic, event]));
    this.events = new Map(events.map((event) => [event.name, event]));
    this.functions = new Map(functions.map((one) => [one.name, one]));
  }

  topic(name) {
    return this.events.get(name)?.topic;
  }

  /** A log as `{ name, ...fields }`, or null where it is of no event known here. */
  log({ topics, data }) {
    const event = this.byTopic.get(topics[0]);
    if (!event) return null;
    const plain = event.inputs.filter((input) => !input.indexed);
    const values = decodeAll(plain, bytesOf(data), 0);
    const fields = { name: event.name };
    let topic = 1;
    for (const input of event.inputs) {
      fields[input.name] = input.indexed ? decode(input, bytesOf(topics[topic++]), 0) : values.shift();
    }
    return fields;
  }

  /** The bytes of a call. Arguments are words (as hex), numbers or lists of addresses. */
  call(name, ...values) {
    const word = (value) => (typeof value === "string" ? value.slice(2) : BigInt(value).toString(16)).padStart(64, "0");
    let [head, tail] = ["", ""];
    for (const value of values) {
      if (Array.isArray(value)) {
        head += word(values.length * WORD + tail.length / 2);
        tail += word(value.length) + value.map(word).join("");
      } else {
        head += word(value);
      }
    }
    return this.functions.get(name).selector + head + tail;
  }

  /** What a call came back with: one value, or a list of them. */
  answer(name, data) {
    const values = decodeAll(this.functions.get(name).outputs, bytesOf(data), 0);
    return values.length === 1 ? values[0] : values;
  }

  /** A call's arguments by name, or null where the bytes are another call. */
  arguments(name, data) {
    const call = this.functions.get(name);
    if (!call || !data.startsWith(call.selector)) return null;
    const values = decodeAll(call.inputs, bytesOf(data.slice(10)), 0);
    return Object.fromEntries(call.inputs.map((input, index) => [input.name, values[index]]));
  }
}

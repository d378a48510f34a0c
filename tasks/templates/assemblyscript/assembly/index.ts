// An environment as a module. The host calls `generate` and `score` with
// fields (names and values in turn, each after its length) and reads fields
// back; every call sees fresh memory. Nothing can be imported: all chance
// comes from the seed.

// An item at a level.
function make(draw: Draw, level: i32): string[] {
  const number = level == 1 ? draw.between(8, 63) : draw.between(64, 1023);
  return [
    "question", "binary " + number.toString(),
    "answer", number.toString(2),
    "wrong", (number + 1).toString(2),
    "wrong", (number ^ 2).toString(2),
  ];
}

// What an answer is worth, in parts per million, and why.
function mark(right: string, answered: string): string[] {
  if (answered == right) return ["correct", "1000000"];
  for (let i = 0; i < answered.length; i++) {
    const c = answered.charCodeAt(i);
    if (c != 48 && c != 49) return ["correct", "0", "why", "not a number in base two"];
  }
  return ["correct", "0"];
}

// Below: how the host and a module talk. Nothing here needs to change.

// Draws from the seed (splitmix64).
class Draw {
  state: u64 = 0;
  constructor(seed: string) {
    for (let i = 0; i < 4; i++) {
      let word: u64 = 0;
      for (let j = 0; j < 16; j++) {
        const c = seed.charCodeAt(i * 16 + j);
        word = (word << 4) | <u64>(c < 58 ? c - 48 : c - 87);
      }
      this.state ^= rotl<u64>(word, i);
    }
  }
  next(): u64 {
    this.state += 0x9e3779b97f4a7c15;
    let z = this.state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  between(low: i32, high: i32): i32 {
    return low + <i32>(this.next() % <u64>(high - low + 1));
  }
}

export function alloc(length: u32): u32 {
  return <u32>heap.alloc(length);
}

export function generate(place: u32, length: u32): u64 {
  const fields = read(place, length);
  return write(make(new Draw(get(fields, "seed")), I32.parseInt(get(fields, "level"))));
}

export function score(place: u32, length: u32): u64 {
  const fields = read(place, length);
  return write(mark(get(fields, "answer"), get(fields, "answered")));
}

function read(place: u32, length: u32): string[] {
  const texts: string[] = [];
  let at: u32 = 0;
  while (at < length) {
    const size = load<u32>(place + at);
    texts.push(String.UTF8.decodeUnsafe(place + at + 4, size));
    at += 4 + size;
  }
  return texts;
}

function get(fields: string[], name: string): string {
  for (let i = 0; i + 1 < fields.length; i += 2) {
    if (fields[i] == name) return fields[i + 1];
  }
  return "";
}

function write(fields: string[]): u64 {
  let total: u32 = 0;
  for (let i = 0; i < fields.length; i++) total += 4 + <u32>String.UTF8.byteLength(fields[i]);
  const place = <u32>heap.alloc(total);
  let at = place;
  for (let i = 0; i < fields.length; i++) {
    const size = <u32>String.UTF8.byteLength(fields[i]);
    store<u32>(at, size);
    String.UTF8.encodeUnsafe(changetype<usize>(fields[i]), fields[i].length, at + 4);
    at += 4 + size;
  }
  return (<u64>place << 32) | <u64>total;
}

// What goes wrong ends here, instead of in an import.
function stop(message: string | null, file: string | null, line: u32, column: u32): void {
  unreachable();
}

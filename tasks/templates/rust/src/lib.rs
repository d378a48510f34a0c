//! An environment as a module. The host calls `generate` and `score` with
//! fields (names and values in turn, each after its length) and reads fields
//! back; every call sees fresh memory. Nothing can be imported: all chance
//! comes from the seed.

/// An item at a level.
fn make(draw: &mut Draw, level: u32) -> Vec<(&'static str, String)> {
    let top = if level == 1 { 9 } else { 99 };
    let (divisor, left, right) = (draw.between(2, 9), draw.between(2, top), draw.between(2, top));
    let (left, right) = (left * divisor, right * divisor);
    let answer = gcd(left, right);
    vec![
        ("question", format!("gcd {left} {right}")),
        ("answer", answer.to_string()),
        ("wrong", (answer + 1).to_string()),
        ("wrong", (answer * 2).to_string()),
    ]
}

/// What an answer is worth, in parts per million, and why.
fn mark(right: &str, answered: &str) -> Vec<(&'static str, String)> {
    match answered.trim().parse::<u64>() {
        Ok(number) if number.to_string() == right => vec![("correct", "1000000".into())],
        Ok(_) => vec![("correct", "0".into())],
        Err(_) => vec![("correct", "0".into()), ("why", "not a number".into())],
    }
}

fn gcd(one: u64, other: u64) -> u64 {
    if other == 0 { one } else { gcd(other, one % other) }
}

// Below: how the host and a module talk. Nothing here needs to change.

/// Draws from the seed (splitmix64).
struct Draw(u64);

impl Draw {
    fn new(seed: &str) -> Draw {
        Draw((0..4).fold(0, |state, index| {
            let word = seed.get(index * 16..index * 16 + 16).unwrap_or("0");
            state ^ u64::from_str_radix(word, 16).unwrap_or(0).rotate_left(index as u32)
        }))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }
}

#[unsafe(no_mangle)]
extern "C" fn alloc(length: usize) -> *mut u8 {
    Box::leak(vec![0; length].into_boxed_slice()).as_mut_ptr()
}

/// # Safety
/// The place came from `alloc` with this length.
#[unsafe(no_mangle)]
unsafe extern "C" fn generate(place: *const u8, length: usize) -> u64 {
    let fields = read(unsafe { std::slice::from_raw_parts(place, length) });
    let level = get(&fields, "level").parse().unwrap_or(1);
    write(&make(&mut Draw::new(get(&fields, "seed")), level))
}

/// # Safety
/// The place came from `alloc` with this length.
#[unsafe(no_mangle)]
unsafe extern "C" fn score(place: *const u8, length: usize) -> u64 {
    let fields = read(unsafe { std::slice::from_raw_parts(place, length) });
    write(&mark(get(&fields, "answer"), get(&fields, "answered")))
}

fn read(mut bytes: &[u8]) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let (text, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        texts.push(String::from_utf8_lossy(text).into_owned());
        bytes = rest;
    }
    texts
}

fn get<'a>(fields: &'a [String], name: &str) -> &'a str {
    fields.chunks(2).find(|pair| pair[0] == name).map_or("", |pair| &pair[1])
}

fn write(fields: &[(&str, String)]) -> u64 {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        for text in [*name, value] {
            bytes.extend((text.len() as u32).to_le_bytes());
            bytes.extend(text.as_bytes());
        }
    }
    let bytes = Box::leak(bytes.into_boxed_slice());
    ((bytes.as_ptr() as u64) << 32) | bytes.len() as u64
}

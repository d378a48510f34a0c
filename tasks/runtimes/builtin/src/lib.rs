//! All built-in environments as one module. The node runs them natively, for
//! speed; a test holds every item and score of theirs against this.

use tasks::fields::Fields;
use tasks::{Environment, Item, Registry, Seed};

/// Memory for the host to write a request into.
#[unsafe(no_mangle)]
pub extern "C" fn alloc(length: usize) -> *mut u8 {
    Box::leak(vec![0u8; length].into_boxed_slice()).as_mut_ptr()
}

/// Makes the item of a `task` at a `seed` and `level`.
///
/// # Safety
/// The place came from [`alloc`] with this length.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn generate(place: *const u8, length: usize) -> u64 {
    // SAFETY: the host wrote this many bytes where `alloc` told it to.
    answer(unsafe { std::slice::from_raw_parts(place, length) }, |_, item, _| {
        Fields::default()
            .with("question", &*item.question)
            .with("answer", &*item.reference)
            .with("working", item.working())
    })
}

/// Scores a completion of the same item.
///
/// # Safety
/// The place came from [`alloc`] with this length.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn score(place: *const u8, length: usize) -> u64 {
    // SAFETY: the host wrote this many bytes where `alloc` told it to.
    answer(unsafe { std::slice::from_raw_parts(place, length) }, |environment, item, completion| {
        let score = environment.score(item, completion);
        let fields = Fields::default()
            .with("status", format!("{:?}", score.status))
            .with("reward", score.reward.0.to_string())
            .with("answer", score.answer.unwrap_or_default())
            .with("why", score.why);
        score
            .parts
            .iter()
            .fold(fields, |fields, part| fields.with(&part.name, part.value.0.to_string()))
    })
}

fn answer(request: &[u8], reply: impl Fn(&dyn Environment, &Item, &str) -> Fields) -> u64 {
    let made = || {
        let request = Fields::decode(request).ok()?;
        let registry = Registry::builtin();
        let environment = registry.by_name(request.get("task")?)?;
        let seed: Seed = request.get("seed")?.parse().ok()?;
        let item = environment.draw(&seed, request.get("level")?.parse().ok()?);
        let completion = request.get("completion").unwrap_or_default();
        Some(reply(environment, &item, completion))
    };
    let fields = made().unwrap_or_else(|| Fields::default().with("error", "a bad request"));
    let bytes = Box::leak(fields.encode().into_boxed_slice());
    ((bytes.as_ptr() as u64) << 32) | bytes.len() as u64
}

//! All native environments as one module: the built-in ones, the library, and
//! the library as upstream has it. The node runs them natively, for speed; a
//! test holds every item and score of theirs against this.

use tasks::fields::Fields;
use tasks::{Environment, Item, Registry, Seed};

/// Memory for the host to write a request into.
#[unsafe(no_mangle)]
pub extern "C" fn alloc(length: usize) -> *mut u8 {
    Box::leak(vec![0u8; length].into_boxed_slice()).as_mut_ptr()
}

/// Makes the item of a `task` at a `seed` and `level`: as it is encoded, and
/// what no encoding of it has.
///
/// # Safety
/// The place came from [`alloc`] with this length.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn generate(place: *const u8, length: usize) -> u64 {
    // SAFETY: the host wrote this many bytes where `alloc` told it to.
    answer(unsafe { std::slice::from_raw_parts(place, length) }, |environment, seed, item, _| {
        Some(
            Fields::default()
                .with("item", text(postcard::to_allocvec(item).ok()?))
                .with("answer", &*item.reference)
                .with("working", item.working())
                .with("distractor", environment.distractor(item, seed)),
        )
    })
}

/// Scores every `completion` of the same item, each score as it is encoded.
///
/// # Safety
/// The place came from [`alloc`] with this length.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn score(place: *const u8, length: usize) -> u64 {
    // SAFETY: the host wrote this many bytes where `alloc` told it to.
    answer(unsafe { std::slice::from_raw_parts(place, length) }, |environment, _, item, request| {
        request
            .all("completion")
            .map(|completion| environment.score(item, completion))
            .try_fold(Fields::default(), |fields, score| {
                Some(fields.with("score", text(postcard::to_allocvec(&score).ok()?)))
            })
    })
}

/// Bytes as text, a character each.
fn text(bytes: Vec<u8>) -> String {
    bytes.into_iter().map(char::from).collect()
}

fn answer(
    request: &[u8],
    reply: impl Fn(&dyn Environment, &Seed, &Item, &Fields) -> Option<Fields>,
) -> u64 {
    let made = || {
        let request = Fields::decode(request).ok()?;
        let registry = Registry::all();
        let environment = registry.by_name(request.get("task")?)?;
        let seed: Seed = request.get("seed")?.parse().ok()?;
        let item = environment.draw(&seed, request.get("level")?.parse().ok()?);
        reply(environment, &seed, &item, &request)
    };
    let fields = made().unwrap_or_else(|| Fields::default().with("error", "a bad request"));
    let bytes = Box::leak(fields.encode().into_boxed_slice());
    ((bytes.as_ptr() as u64) << 32) | bytes.len() as u64
}

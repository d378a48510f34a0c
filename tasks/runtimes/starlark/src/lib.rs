//! The interpreter of `task.star`: Starlark, compiled to WebAssembly once and
//! run inside the sandbox, where nothing a script does can hurt its host.
//!
//! It speaks the same calls as any module: texts in pairs, each after its
//! length. `prepare` makes what all scripts share and `load` takes a script;
//! after each the host keeps a picture of the memory and begins there.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell, UnsafeCell};
use std::mem::MaybeUninit;

use starlark::environment::{FrozenModule, Globals, GlobalsBuilder, LibraryExtension, Module};
use starlark::eval::Evaluator;
use starlark::starlark_module;
use starlark::syntax::{AstModule, Dialect};
use starlark::values::list::ListRef;
use starlark::values::{Heap, Value};

const PRELUDE: &str = include_str!("../prelude.star");
/// Calls within calls: enough for any search a task needs, and well inside
/// the sandbox's stack.
const CALL_DEPTH: usize = 100;

/// What Starlark allocates for the stack of every evaluation.
const STACK: usize = 1_000_000;

/// The system's allocator, but for that stack, which has a place of its own:
/// else each call would leave a hole of its size and most would grow the memory,
/// which takes longer than what they are for.
struct Allocator {
    stack: UnsafeCell<Stack>,
    taken: Cell<bool>,
}

#[repr(align(16))]
struct Stack(#[allow(dead_code)] [MaybeUninit<u8>; STACK]);

// SAFETY: a module without imports has one thread.
unsafe impl Sync for Allocator {}

#[global_allocator]
static ALLOCATOR: Allocator = Allocator {
    stack: UnsafeCell::new(Stack([MaybeUninit::uninit(); STACK])),
    taken: Cell::new(false),
};

// SAFETY: the place is as large and as aligned as is asked for, and is given to
// one owner at a time; all else is the system's.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() == STACK && layout.align() <= 16 && !self.taken.replace(true) {
            return self.stack.get().cast();
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        if std::ptr::eq(place, self.stack.get().cast()) {
            self.taken.set(false);
        } else {
            // SAFETY: as the caller promises.
            unsafe { System.dealloc(place, layout) }
        }
    }
}

thread_local! {
    static PREPARED: RefCell<Option<Prepared>> = const { RefCell::new(None) };
    /// Where the draws of this call are.
    static DRAWS: Cell<u64> = const { Cell::new(0) };
}

struct Prepared {
    globals: Globals,
    prelude: FrozenModule,
    script: Option<FrozenModule>,
}

/// Memory for the host to write a request into.
#[unsafe(no_mangle)]
pub extern "C" fn alloc(length: usize) -> *mut u8 {
    Box::leak(vec![0u8; length].into_boxed_slice()).as_mut_ptr()
}

macro_rules! export {
    ($name:ident, $call:path) => {
        /// Takes a request and gives a reply, both by place and length.
        ///
        /// # Safety
        /// The place came from [`alloc`] with this length.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(place: *const u8, length: usize) -> u64 {
            // SAFETY: the host wrote this many bytes where `alloc` told it to.
            let request = unsafe { std::slice::from_raw_parts(place, length) };
            let reply = match fields(request).and_then(|fields| $call(&fields)) {
                Ok(reply) => reply,
                Err(why) => encode(&["error".to_owned(), why]),
            };
            let reply = Box::leak(reply.into_boxed_slice());
            ((reply.as_ptr() as u64) << 32) | reply.len() as u64
        }
    };
}

export!(prepare, do_prepare);
export!(load, do_load);
export!(generate, do_generate);
export!(score, do_score);
export!(step, do_step);

type Fields = Vec<(String, String)>;

fn fields(mut bytes: &[u8]) -> Result<Fields, String> {
    let mut texts = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<4>().ok_or("a torn request")?;
        let length = u32::from_le_bytes(*length) as usize;
        let (text, rest) = rest.split_at_checked(length).ok_or("a torn request")?;
        texts.push(String::from_utf8_lossy(text).into_owned());
        bytes = rest;
    }
    let mut texts = texts.into_iter();
    let mut fields = Vec::new();
    while let (Some(name), Some(value)) = (texts.next(), texts.next()) {
        fields.push((name, value));
    }
    Ok(fields)
}

fn encode(texts: &[String]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for text in texts {
        bytes.extend((text.len() as u32).to_le_bytes());
        bytes.extend(text.as_bytes());
    }
    bytes
}

fn get<'a>(fields: &'a Fields, name: &str) -> &'a str {
    fields
        .iter()
        .find(|(key, _)| key == name)
        .map_or("", |(_, value)| value)
}

/// What every script finds.
fn globals() -> GlobalsBuilder {
    GlobalsBuilder::extended_by(&[
        LibraryExtension::StructType,
        LibraryExtension::Map,
        LibraryExtension::Filter,
        LibraryExtension::Json,
    ])
}

/// What only the prelude finds. Integers of 64 bits are slow in Starlark.
#[starlark_module]
fn draws(builder: &mut GlobalsBuilder) {
    /// A draw below a bound that is not 0, by splitmix64.
    fn draw_below(#[starlark(require = pos)] bound: u64) -> starlark::Result<u64> {
        let state = DRAWS.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        DRAWS.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Ok((mixed ^ (mixed >> 31)).checked_rem(bound).unwrap_or(0))
    }
}

fn evaluate(name: &str, text: &str, globals: &Globals) -> Result<FrozenModule, String> {
    let dialect = Dialect {
        enable_top_level_stmt: true,
        enable_f_strings: true,
        ..Dialect::Standard
    };
    let ast = AstModule::parse(name, text.to_owned(), &dialect).map_err(|e| e.to_string())?;
    Module::with_temp_heap(|module| {
        {
            let mut evaluator = Evaluator::new(&module);
            evaluator.set_max_callstack_size(CALL_DEPTH).map_err(|e| e.to_string())?;
            evaluator.eval_module(ast, globals).map_err(|e| e.to_string())?;
        }
        module.freeze().map_err(|e| format!("{e:?}"))
    })
}

fn do_prepare(_: &Fields) -> Result<Vec<u8>, String> {
    let prelude = evaluate("prelude.star", PRELUDE, &globals().with(draws).build())?;
    let globals = globals().build();
    PREPARED.set(Some(Prepared { globals, prelude, script: None }));
    Ok(Vec::new())
}

fn do_load(fields: &Fields) -> Result<Vec<u8>, String> {
    PREPARED.with_borrow_mut(|prepared| {
        let prepared = prepared.as_mut().ok_or("nothing is prepared")?;
        let script = evaluate("task.star", get(fields, "script"), &prepared.globals)?;
        if script.get("generate").is_err() {
            return Err("task.star: there is no generate(draw, level)".to_owned());
        }
        prepared.script = Some(script);
        Ok(Vec::new())
    })
}

/// Calls a function of the prelude, which calls the script's.
fn call(
    glue: &str,
    functions: &[&str],
    arguments: impl for<'v> Fn(Heap<'v>) -> Vec<Value<'v>>,
) -> Result<Vec<u8>, String> {
    PREPARED.with_borrow(|prepared| {
        let Prepared { prelude, script, .. } = prepared.as_ref().ok_or("nothing is prepared")?;
        let script = script.as_ref().ok_or("nothing is loaded")?;
        Module::with_temp_heap(|module| {
            let heap = module.heap();
            let glue = prelude.get(glue).map_err(|e| e.to_string())?;
            let glue = heap.access_owned_frozen_value(&glue);
            let mut values = Vec::new();
            for name in functions {
                values.push(match script.get_option(name).map_err(|e| e.to_string())? {
                    Some(found) => heap.access_owned_frozen_value(&found),
                    None => Value::new_none(),
                });
            }
            values.extend(arguments(heap));
            let mut evaluator = Evaluator::new(&module);
            evaluator.set_max_callstack_size(CALL_DEPTH).map_err(|e| e.to_string())?;
            let reply = evaluator
                .eval_function(glue, &values, &[])
                .map_err(|e| e.to_string())?;
            let texts = ListRef::from_value(reply).ok_or("the glue returned no list")?;
            let texts: Vec<String> = texts
                .iter()
                .map(|text| text.unpack_str().unwrap_or_default().to_owned())
                .collect();
            Ok(encode(&texts))
        })
    })
}

fn item<'v>(fields: &Fields, heap: Heap<'v>) -> Value<'v> {
    let level: i32 = get(fields, "level").parse().unwrap_or(1);
    let mut item: Vec<(&str, Value<'v>)> = ["question", "answer", "hidden"]
        .map(|name| (name, heap.alloc(get(fields, name))))
        .to_vec();
    item.push(("level", heap.alloc(level)));
    heap.alloc(starlark::values::dict::AllocDict(item))
}

fn do_generate(fields: &Fields) -> Result<Vec<u8>, String> {
    let seed = get(fields, "seed");
    let mut state = 0;
    for index in 0..4 {
        let digits = seed.get(index * 16..index * 16 + 16).ok_or("a short seed")?;
        let word = u64::from_str_radix(digits, 16).map_err(|e| e.to_string())?;
        state ^= word << index;
    }
    DRAWS.set(state);
    let level: i32 = get(fields, "level").parse().unwrap_or(1);
    call("run_generate", &["generate"], |heap| vec![heap.alloc(level)])
}

fn do_score(fields: &Fields) -> Result<Vec<u8>, String> {
    call("run_score", &["score"], |heap| {
        vec![item(fields, heap), heap.alloc(get(fields, "answered"))]
    })
}

fn do_step(fields: &Fields) -> Result<Vec<u8>, String> {
    call("run_step", &["step", "score"], |heap| {
        vec![
            item(fields, heap),
            heap.alloc(get(fields, "state")),
            heap.alloc(get(fields, "answered")),
        ]
    })
}

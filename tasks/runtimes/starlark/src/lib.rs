//! The interpreter of `task.star`: Starlark, compiled to WebAssembly once and
//! run inside the sandbox, where nothing a script does can hurt its host.
//!
//! It speaks the same calls as any module: texts in pairs, each after its
//! length. `load` takes the script; after it the host keeps a picture of the
//! memory and starts every other call from there.

use std::cell::RefCell;

use starlark::environment::{FrozenModule, Globals, GlobalsBuilder, LibraryExtension, Module};
use starlark::eval::Evaluator;
use starlark::syntax::{AstModule, Dialect};
use starlark::values::list::ListRef;
use starlark::values::{Heap, Value};

const PRELUDE: &str = include_str!("../prelude.star");
/// Calls within calls: enough for any search a task needs, and well inside
/// the sandbox's stack.
const CALL_DEPTH: usize = 100;

thread_local! {
    static LOADED: RefCell<Option<Loaded>> = const { RefCell::new(None) };
}

struct Loaded {
    prelude: FrozenModule,
    script: FrozenModule,
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

fn globals() -> Globals {
    GlobalsBuilder::extended_by(&[
        LibraryExtension::StructType,
        LibraryExtension::Map,
        LibraryExtension::Filter,
        LibraryExtension::Json,
    ])
    .build()
}

fn evaluate(name: &str, text: &str) -> Result<FrozenModule, String> {
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
            evaluator.eval_module(ast, &globals()).map_err(|e| e.to_string())?;
        }
        module.freeze().map_err(|e| format!("{e:?}"))
    })
}

fn do_load(fields: &Fields) -> Result<Vec<u8>, String> {
    let prelude = evaluate("prelude.star", PRELUDE)?;
    let script = evaluate("task.star", get(fields, "script"))?;
    if script.get("generate").is_err() {
        return Err("task.star: there is no generate(draw, level)".to_owned());
    }
    LOADED.with(|loaded| loaded.replace(Some(Loaded { prelude, script })));
    Ok(Vec::new())
}

/// Calls a function of the prelude, which calls the script's.
fn call(
    glue: &str,
    functions: &[&str],
    arguments: impl for<'v> Fn(Heap<'v>) -> Vec<Value<'v>>,
) -> Result<Vec<u8>, String> {
    LOADED.with_borrow(|loaded| {
        let Loaded { prelude, script } = loaded.as_ref().ok_or("nothing is loaded")?;
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
    let mut words = Vec::new();
    for index in 0..4 {
        let digits = seed.get(index * 16..index * 16 + 16).ok_or("a short seed")?;
        words.push(u64::from_str_radix(digits, 16).map_err(|e| e.to_string())?);
    }
    let level: i32 = get(fields, "level").parse().unwrap_or(1);
    call("run_generate", &["generate"], |heap| {
        vec![heap.alloc(words.clone()), heap.alloc(level)]
    })
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

//! Where code of strangers runs: WebAssembly without a single import, each
//! call on memory of its own, with so much fuel and memory and no more.
//!
//! The same module, request and budget give the same reply and use the same
//! fuel on every machine: the engine is pinned to the version, interprets,
//! compiles everything before anything runs, and makes every NaN the same.

use std::sync::{Mutex, OnceLock, PoisonError};

use wasmi::{
    CompilationMode, Config, Engine, Error, Instance, Memory, Module, Store, StoreLimits,
    StoreLimitsBuilder, TrapCode, errors::ErrorKind,
};

use crate::contents::Budget;
use crate::fields::{Fields, FieldsError};

/// Who runs modules, to the version. In the hash of every module.
pub(super) const ENGINE: &str = "wasmi 2.0.0 deterministic eager";

/// The most bytes a call may return.
const MAX_REPLY: u32 = 256 << 10;
/// Calls within calls.
const MAX_DEPTH: usize = 4_096;
/// Cells of the engine's own stack: 8 MiB.
const MAX_STACK: usize = 1 << 20;
/// The most entries of a module's table of functions.
const MAX_TABLE: usize = 1 << 16;

/// The interpreter of scripts.
const STARLARK: &[u8] = include_bytes!("../../runtimes/starlark.wasm");
/// What the interpreter may use before any script is there.
const PREPARING: Budget = Budget {
    load_fuel: 1_000_000_000,
    generate_fuel: 0,
    score_fuel: 0,
    memory_bytes: 16 << 20,
};
/// Instances of an interpreter that wait for the next call: as many as threads
/// that score at once, each a few megabytes.
const MAX_IDLE: usize = 4;

/// Who interprets scripts, to the byte.
pub(super) fn script_engine() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        let hash = blake3::hash(STARLARK).to_hex();
        format!("starlark {hash} on {ENGINE}")
    })
}

/// Why a call gave no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// Not a WebAssembly module that this engine takes.
    #[error("not a module this program can run: {0}")]
    Malformed(String),
    /// The module asks for something from outside.
    #[error("the module imports {0}; nothing may be imported")]
    Import(String),
    /// The module lacks what is called.
    #[error("the module exports no {0}")]
    Missing(&'static str),
    /// It ran longer than it may.
    #[error("out of fuel: {what} may use {limit} units")]
    OutOfFuel {
        /// Doing what.
        what: &'static str,
        /// The budget.
        limit: u64,
    },
    /// It broke off.
    #[error("it trapped: {0}")]
    Trap(String),
    /// Its reply cannot be read.
    #[error("{0}")]
    Reply(String),
    /// It says itself that it could not.
    #[error("{0}")]
    Said(String),
}

impl From<FieldsError> for SandboxError {
    fn from(error: FieldsError) -> SandboxError {
        SandboxError::Reply(error.to_string())
    }
}

/// A module, ready to be called.
pub(crate) struct Sandbox {
    module: Module,
    budget: Budget,
    script: Option<Script>,
}

/// What there is of a script beyond its interpreter.
struct Script {
    /// The memory in which every call begins.
    picture: Vec<u8>,
    /// Instances that may be used again. See [`Sandbox::call`].
    idle: Mutex<Vec<Running>>,
}

/// The interpreter, and its memory with everything that scripts share.
struct Interpreter {
    module: Module,
    picture: Vec<u8>,
}

/// What is asked of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Prepare,
    Load,
    Generate,
    Score,
    Step,
}

impl Call {
    fn name(self) -> &'static str {
        match self {
            Call::Prepare => "prepare",
            Call::Load => "load",
            Call::Generate => "generate",
            Call::Score => "score",
            Call::Step => "step",
        }
    }

    fn fuel(self, budget: &Budget) -> u64 {
        match self {
            Call::Prepare | Call::Load => budget.load_fuel,
            Call::Generate => budget.generate_fuel,
            Call::Score | Call::Step => budget.score_fuel,
        }
    }
}

/// A reply, and what it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) fields: Fields,
    pub(crate) fuel: u64,
}

fn engine() -> &'static Engine {
    static SHARED: OnceLock<Engine> = OnceLock::new();
    SHARED.get_or_init(|| {
        let mut config = Config::default();
        config
            .consume_fuel(true)
            .compilation_mode(CompilationMode::Eager)
            .ignore_custom_sections(true)
            .set_max_recursion_depth(MAX_DEPTH)
            .set_max_stack_height(MAX_STACK);
        Engine::new(&config)
    })
}

fn interpreter() -> Result<&'static Interpreter, SandboxError> {
    static SHARED: OnceLock<Result<Interpreter, SandboxError>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| {
        let module = compile(STARLARK)?;
        let mut running = Running::start(&module, &PREPARING)?;
        running.call(Call::Prepare, &Fields::default(), &PREPARING)?;
        let picture = running.picture();
        Ok(Interpreter { module, picture })
    });
    shared.as_ref().map_err(Clone::clone)
}

fn compile(wasm: &[u8]) -> Result<Module, SandboxError> {
    let module =
        Module::new(engine(), wasm).map_err(|error| SandboxError::Malformed(error.to_string()))?;
    if let Some(import) = module.imports().next() {
        let name = format!("{}.{}", import.module(), import.name());
        return Err(SandboxError::Import(name));
    }
    Ok(module)
}

impl Sandbox {
    /// A module of the author's own.
    pub(crate) fn module(wasm: &[u8], budget: Budget) -> Result<Sandbox, SandboxError> {
        let module = compile(wasm)?;
        // Starting it shows what it lacks.
        let mut running = Running::start(&module, &budget)?;
        for needed in ["generate", "score"] {
            running.function(needed)?;
        }
        Ok(Sandbox {
            module,
            budget,
            script: None,
        })
    }

    /// A script, in the interpreter.
    pub(crate) fn script(text: &str, budget: Budget) -> Result<Sandbox, SandboxError> {
        let Interpreter { module, picture } = interpreter()?;
        let mut running = Running::start(module, &budget)?;
        running.restore(picture)?;
        let request = Fields::default().with("script", text);
        running.call(Call::Load, &request, &budget)?;
        Ok(Sandbox {
            module: module.clone(),
            budget,
            script: Some(Script {
                picture: running.picture(),
                idle: Mutex::default(),
            }),
        })
    }

    /// Calls a function on memory that no other call has seen: of a module in
    /// a new instance. Of the interpreter an instance serves again, since
    /// making one takes longer than most scores: all that it keeps beside its
    /// memory is the place of its stack, which is back where it was once a
    /// call has returned.
    pub(crate) fn call(&self, call: Call, request: &Fields) -> Result<Reply, SandboxError> {
        let Some(script) = &self.script else {
            return Running::start(&self.module, &self.budget)?.call(call, request, &self.budget);
        };
        let idle = || script.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle().pop();
        let mut running = match kept {
            Some(running) => running,
            None => Running::start(&self.module, &self.budget)?,
        };
        running.restore(&script.picture)?;
        let reply = running.call(call, request, &self.budget);
        let returned = matches!(reply, Ok(_) | Err(SandboxError::Said(_)));
        if returned && running.size() == script.picture.len() {
            let mut idle = idle();
            if idle.len() < MAX_IDLE {
                idle.push(running);
            }
        }
        reply
    }

    /// Whether it can do more than the two calls it must.
    pub(crate) fn has_step(&self) -> bool {
        self.module.exports().any(|export| export.name() == "step")
    }
}

/// One instance.
struct Running {
    store: Store<StoreLimits>,
    instance: Instance,
    memory: Memory,
}

impl Running {
    fn start(module: &Module, budget: &Budget) -> Result<Running, SandboxError> {
        let limits = StoreLimitsBuilder::new()
            .memory_size(budget.memory_bytes as usize)
            .table_elements(MAX_TABLE)
            .instances(1)
            .tables(4)
            .memories(1)
            .build();
        let mut store = Store::new(engine(), limits);
        store.limiter(|limits| limits);
        let fuel = budget.load_fuel;
        store.set_fuel(fuel).map_err(trap)?;
        let instance = Instance::new(&mut store, module, &[])
            .map_err(|error| explain(&error, "starting", fuel))?;
        let memory = instance
            .get_memory(&store, "memory")
            .ok_or(SandboxError::Missing("memory"))?;
        Ok(Running {
            store,
            instance,
            memory,
        })
    }

    fn size(&self) -> usize {
        self.memory.data_size(&self.store)
    }

    /// Its memory as it is.
    fn picture(&self) -> Vec<u8> {
        self.memory.data(&self.store).to_vec()
    }

    fn restore(&mut self, picture: &[u8]) -> Result<(), SandboxError> {
        const PAGE: usize = 64 << 10;
        let here = self.size();
        let pages = picture.len().saturating_sub(here).div_ceil(PAGE) as u64;
        self.memory.grow(&mut self.store, pages).map_err(|error| {
            SandboxError::Trap(format!("its memory could not be set up: {error}"))
        })?;
        self.memory
            .write(&mut self.store, 0, picture)
            .map_err(|error| SandboxError::Trap(error.to_string()))
    }

    fn function(
        &mut self,
        name: &'static str,
    ) -> Result<wasmi::TypedFunc<(u32, u32), u64>, SandboxError> {
        self.instance
            .get_typed_func(&self.store, name)
            .map_err(|_| SandboxError::Missing(name))
    }

    fn call(
        &mut self,
        call: Call,
        request: &Fields,
        budget: &Budget,
    ) -> Result<Reply, SandboxError> {
        let alloc = self
            .instance
            .get_typed_func::<u32, u32>(&self.store, "alloc")
            .map_err(|_| SandboxError::Missing("alloc"))?;
        let function = self.function(call.name())?;
        let limit = call.fuel(budget);
        self.store.set_fuel(limit).map_err(trap)?;
        let failed = |error: Error| explain(&error, call.name(), limit);
        let request = request.encode();
        let length = u32::try_from(request.len())
            .map_err(|_| SandboxError::Reply("the request is too long".to_owned()))?;
        let place = alloc.call(&mut self.store, length).map_err(failed)?;
        self.memory
            .write(&mut self.store, place as usize, &request)
            .map_err(|_| SandboxError::Reply("alloc gave memory that is not there".to_owned()))?;
        let packed = function
            .call(&mut self.store, (place, length))
            .map_err(failed)?;
        let fuel = limit.saturating_sub(self.store.get_fuel().map_err(trap)?);
        let (place, length) = ((packed >> 32) as usize, packed as u32);
        if length > MAX_REPLY {
            let why = format!("a reply of {length} bytes, at most {MAX_REPLY} are read");
            return Err(SandboxError::Reply(why));
        }
        let mut bytes = vec![0; length as usize];
        self.memory
            .read(&self.store, place, &mut bytes)
            .map_err(|_| SandboxError::Reply("the reply is not in memory".to_owned()))?;
        let fields = Fields::decode(&bytes)?;
        if let Some(why) = fields.get("error") {
            return Err(SandboxError::Said(brief(why)));
        }
        Ok(Reply { fields, fuel })
    }
}

/// What went wrong and where, without the calls that led there.
fn brief(why: &str) -> String {
    let from = why.find("error: ").unwrap_or(0);
    let lines: Vec<&str> = why[from..].lines().take(2).map(str::trim).collect();
    crate::format::printable(&lines.join(" "))
}

fn trap(error: Error) -> SandboxError {
    SandboxError::Trap(error.to_string())
}

fn explain(error: &Error, what: &'static str, limit: u64) -> SandboxError {
    match error.kind() {
        ErrorKind::TrapCode(TrapCode::OutOfFuel) | ErrorKind::Fuel(_) => {
            SandboxError::OutOfFuel { what, limit }
        }
        _ => SandboxError::Trap(error.to_string()),
    }
}

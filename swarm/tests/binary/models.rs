//! Models that are not the embedded one, and a hub on loopback to have them from.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::{Ended, ONE_PEER, murmur_with};

const CONFIG: &[u8] = include_bytes!("../../../assets/base/config.json");
const TOKENIZER: &[u8] = include_bytes!("../../../assets/base/tokenizer.json");
const WEIGHTS: &[u8] = include_bytes!("../../../assets/base/model.safetensors");
/// Bytes after which a hub that breaks hangs up.
const BREAK: usize = 150_000;

/// A hub with one model, `flock/tiny`, that speaks as much of the protocol as
/// its clients ask: listing, ranges, hashes.
struct Hub {
    url: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Whether downloads of the weights break off.
    breaks: bool,
    /// Where each download of the weights began, and who asked.
    begun: Vec<(usize, Option<String>)>,
    /// A byte of the weights that is not what the hash says.
    lies: bool,
}

impl Hub {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                // A client that hangs up ends its own connection alone.
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        Self { url, state }
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }

    fn begun(&self) -> Vec<(usize, Option<String>)> {
        std::mem::take(&mut self.state.lock().unwrap().begun)
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else {
            break;
        };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    let readme = b"---\nlicense: mit\n---\nA tiny model.\n".as_slice();
    let files = BTreeMap::from([
        ("config.json", CONFIG),
        ("tokenizer.json", TOKENIZER),
        ("README.md", readme),
        ("model.safetensors", WEIGHTS),
    ]);
    if path == "/api/models/flock/tiny/revision/main" {
        let siblings: Vec<Value> = files
            .keys()
            .map(|name| serde_json::json!({ "rfilename": name }))
            .collect();
        let body = serde_json::json!({ "sha": "c0ffee", "siblings": siblings }).to_string();
        let length = body.len();
        return write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{body}"
        );
    }
    let name = path
        .strip_prefix("/flock/tiny/resolve/main/")
        .unwrap_or_default();
    let Some(&bytes) = files.get(name) else {
        return write!(
            stream,
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    };
    let range = headers.get("range").and_then(|range| {
        let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()))
    });
    let (first, last): (usize, Option<usize>) = range.unwrap_or((0, None));
    let last = last.unwrap_or(bytes.len() - 1);
    let mut part = bytes[first..=last].to_vec();
    let mut sent = part.len();
    if name == "model.safetensors" && last > 0 {
        let mut state = state.lock().unwrap();
        state
            .begun
            .push((first, headers.get("authorization").cloned()));
        if state.breaks {
            sent = sent.min(BREAK);
        }
        if state.lies {
            part[sent - 1] ^= 1;
        }
    }
    // Large files are named by their SHA-256, as the real hub does.
    let etag = hex::encode(Sha256::digest(bytes));
    write!(
        stream,
        "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes \
         {first}-{last}/{}\r\nETag: \"{etag}\"\r\nX-Repo-Commit: c0ffee\r\nConnection: close\r\n\r\n",
        part.len(),
        bytes.len()
    )?;
    stream.write_all(&part[..sent])
}

/// The binary with a cache and a hub of the test's own.
fn murmur(args: &[&str], hub: &str, folder: &Path) -> Ended {
    let (cache, data) = (folder.join("hf"), folder.join("data"));
    murmur_with(
        args,
        &[
            ("HF_ENDPOINT", hub),
            ("HF_HOME", cache.to_str().unwrap()),
            ("HF_TOKEN", "secret"),
            ("XDG_DATA_HOME", data.to_str().unwrap()),
            ("NO_PROXY", "127.0.0.1"),
        ],
    )
}

fn assert_says(ended: &Ended, texts: &[&str]) {
    assert!(!ended.success, "it should have failed: {}", ended.stdout);
    for text in texts {
        assert!(
            ended.stderr.contains(text),
            "no {text:?} in: {}",
            ended.stderr
        );
    }
}

#[test]
fn a_download_that_was_cut_off_goes_on_and_then_needs_no_hub() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start();
    let murmur = |args: &[&str]| murmur(args, &hub.url, folder.path());
    assert_says(
        &murmur(&["model", "info", "flock/tiny", "--offline"]),
        &["not whole in the cache", "murmur model pull flock/tiny"],
    );

    hub.set(|state| state.breaks = true);
    assert_says(
        &murmur(&["model", "pull", "flock/tiny"]),
        &["broke 3 times", "goes on from there"],
    );
    let begun = hub.begun();
    let starts: Vec<usize> = begun.iter().map(|(start, _)| *start).collect();
    // The client tries again by itself before we do.
    assert!(starts.len() >= 4, "{starts:?}");
    let expected: Vec<usize> = (0..starts.len()).map(|count| count * BREAK).collect();
    assert_eq!(starts, expected, "each goes on where the last stopped");
    assert!(
        begun
            .iter()
            .all(|(_, who)| who.as_deref() == Some("Bearer secret"))
    );

    hub.set(|state| state.breaks = false);
    let pulled = murmur(&["model", "pull", "flock/tiny"]);
    assert!(pulled.success, "{}", pulled.stderr);
    assert!(pulled.stdout.contains("mit"), "{}", pulled.stdout);
    let went_on: Vec<usize> = hub.begun().iter().map(|(start, _)| *start).collect();
    let stopped = starts.len() * BREAK;
    assert_eq!(went_on, [stopped], "another process goes on too");

    let info = murmur(&["model", "info", "flock/tiny", "--offline", "--json"]);
    let info: Value = serde_json::from_str(&info.stdout).unwrap();
    assert_eq!(
        (&info["licence"], &info["family"]),
        (&"mit".into(), &"qwen2".into())
    );
    assert_eq!(info["bytes"], WEIGHTS.len());
    let listed = murmur(&["model", "list"]);
    assert!(
        listed.stdout.contains("flock/tiny") && listed.stdout.contains("base"),
        "{}",
        listed.stdout
    );

    // Peers of it, then the same home without its name, then under another.
    let home = folder.path().join("home");
    let run = |more: &[&str]| {
        let home = home.to_str().unwrap();
        let args = [
            "run",
            "--headless",
            "--peers",
            "2",
            "--eval-items",
            "1",
            "--home",
            home,
        ];
        murmur(&[&args, more].concat())
    };
    let first = run(&["--rounds", "1", "--model", "flock/tiny", "--offline"]);
    assert!(first.success, "{}", first.stderr);
    let again = run(&["--rounds", "1"]);
    assert!(again.success, "{}", again.stderr);
    assert_says(
        &run(&["--rounds", "1", "--model", "base"]),
        &["began with flock/tiny", "--home"],
    );
    assert!(hub.begun().is_empty(), "the hub was asked again");

    // Other files under the same name.
    let weights = folder
        .path()
        .join("hf/hub/models--flock--tiny/snapshots/c0ffee/model.safetensors");
    let mut changed = WEIGHTS.to_vec();
    *changed.last_mut().unwrap() ^= 1;
    std::fs::write(weights.canonicalize().unwrap(), changed).unwrap();
    assert_says(&run(&["--rounds", "1"]), &["are not those that the peers"]);
}

#[test]
fn what_keeps_a_model_from_being_had_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start();
    let pull = |name: &str, hub: &str| murmur(&["model", "pull", name], hub, folder.path());
    assert_says(&pull("flock/none", &hub.url), &["has no model flock/none"]);
    let closed = "http://127.0.0.1:9";
    assert_says(
        &pull("flock/tiny", closed),
        &[closed, "HF_ENDPOINT", "--model"],
    );
    assert_says(&pull("tiny", &hub.url), &["no name on the hub"]);
    hub.set(|state| state.lies = true);
    assert_says(&pull("flock/tiny", &hub.url), &["does not have the hash"]);
    hub.set(|state| state.lies = false);
    let pulled = pull("flock/tiny", &hub.url);
    assert!(
        pulled.success,
        "what lied was thrown away: {}",
        pulled.stderr
    );
}

/// A folder as models are published, with these weights.
fn publish(folder: &Path, weights: &[u8]) {
    std::fs::create_dir(folder).unwrap();
    for (name, bytes) in [
        ("config.json", CONFIG),
        ("tokenizer.json", TOKENIZER),
        ("model.safetensors", weights),
    ] {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
}

/// The base model's weights, with some tensors multiplied.
fn scaled(factors: &[(&str, f32)]) -> Vec<u8> {
    let length = u64::from_le_bytes(WEIGHTS[..8].try_into().unwrap()) as usize;
    let (header, data) = WEIGHTS[8..].split_at(length);
    let header: Value = serde_json::from_slice(header).unwrap();
    let mut data = data.to_vec();
    for (name, factor) in factors {
        assert_eq!(header[name]["dtype"], "BF16");
        let place = |end: usize| header[name]["data_offsets"][end].as_u64().unwrap() as usize;
        for value in data[place(0)..place(1)].chunks_exact_mut(2) {
            // bf16 is the upper half of an f32.
            let wide = f32::from_bits(u32::from(u16::from_le_bytes([value[0], value[1]])) << 16);
            value.copy_from_slice(&(wide * factor).to_le_bytes()[2..]);
        }
    }
    [&WEIGHTS[..8 + length], &data].concat()
}

#[test]
fn updates_that_were_not_made_are_said_and_counted_in_the_report() {
    let folder = tempfile::tempdir().unwrap();
    let (published, report) = (folder.path().join("model"), folder.path().join("report"));
    // It answers like the base model, all but its last layer's view of values;
    // the gradient of those is over 1e40, which no f32 holds.
    publish(
        &published,
        &scaled(&[
            ("model.layers.3.input_layernorm.weight", 1e30),
            ("model.layers.3.self_attn.q_proj.weight", 1e-30),
            ("model.layers.3.self_attn.k_proj.weight", 1e-30),
            ("model.layers.3.self_attn.v_proj.weight", 0.0),
            ("model.layers.3.self_attn.v_proj.bias", 1e-20),
            ("model.layers.3.self_attn.o_proj.weight", 1e20),
        ]),
    );
    let home = folder.path().join("home");
    let path = |path: &'_ Path| path.to_str().unwrap().to_owned();
    let (home, model, told) = (path(&home), path(&published), path(&report));
    #[rustfmt::skip]
    let rest = [&home, "--model", &model, "--rounds", "2", "--seed", "7", "--report", &told];
    let ran = murmur(
        &[&ONE_PEER[..], &rest].concat(),
        "http://127.0.0.1:9",
        folder.path(),
    );
    assert!(ran.success, "{}", ran.stderr);
    let times = ran
        .stderr
        .matches("so far: the gradient is not finite")
        .count();
    assert!(times > 0, "{}", ran.stderr);
    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    assert_eq!(report["skipped_updates"], times);
}

#[test]
fn a_model_is_imported_and_then_goes_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let published = folder.path().join("published");
    publish(&published, WEIGHTS);
    let murmur = |args: &[&str]| murmur(args, "http://127.0.0.1:9", folder.path());
    let path = published.to_str().unwrap();
    let imported = murmur(&["model", "import", path, "--name", "mine"]);
    assert!(imported.success, "{}", imported.stderr);
    assert_says(
        &murmur(&["model", "import", path, "--name", "mine"]),
        &["already"],
    );
    assert_says(
        &murmur(&["model", "import", path, "--name", "../mine"]),
        &["can't be a model's name"],
    );
    let listed = murmur(&["model", "list", "--json"]);
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    let names: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|model| model["name"].as_str())
        .collect();
    assert_eq!(names, ["base", "mine"]);
    let measured = murmur(&["eval", "--model", "mine", "--items", "1", "--json"]);
    assert!(measured.success, "{}", measured.stderr);
    assert!(measured.stdout.contains("\"mine\""), "{}", measured.stdout);

    std::fs::write(published.join("model.safetensors"), &WEIGHTS[..1000]).unwrap();
    let broken = murmur(&["run", "--headless", "--model", path]);
    assert_says(&broken, &["model.safetensors", "its header says"]);
}

#[test]
fn what_a_peer_learnt_is_taken_to_another_home() {
    let folder = tempfile::tempdir().unwrap();
    let murmur = |args: &[&str]| murmur(args, "http://127.0.0.1:9", folder.path());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let run = |home: &str, more: &[&str]| {
        let rest = [home, "--rounds", "1", "--seed", "7"];
        let ran = murmur(&[&ONE_PEER[..], &rest, more].concat());
        assert!(ran.success, "{}", ran.stderr);
    };
    let export = |home: &str, to: &str| murmur(&["model", "export", to, "--home", home]);

    let (whole, model) = (path("whole"), path("model"));
    run(&whole, &[]);
    let exported = export(&whole, &model);
    assert!(exported.success, "{}", exported.stderr);
    assert_says(&export(&whole, &model), &["there already"]);
    let beyond = ["model", "export", "x", "--home", &whole, "--peer", "3"];
    assert_says(&murmur(&beyond), &["no peer 3"]);
    run(&path("of-model"), &["--model", &model]);

    let settings = path("grpo.toml");
    std::fs::write(&settings, "ratio = \"sequence\"\nkl = 0.01\n").unwrap();
    let (lora, adapter) = (path("lora"), path("adapter"));
    run(&lora, &["--lora-rank", "4", "--grpo", &settings]);
    let exported = export(&lora, &adapter);
    assert!(exported.success, "{}", exported.stderr);
    let written = std::fs::read(folder.path().join("adapter/adapter_config.json")).unwrap();
    let written: Value = serde_json::from_slice(&written).unwrap();
    assert_eq!(written["r"], 4);
    let next = path("next");
    run(&next, &["--adapter", &adapter]);
    let again = [&ONE_PEER[..], &[&next, "--adapter", &adapter]].concat();
    assert_says(&murmur(&again), &["has trained already"]);

    std::fs::write(&settings, "clip_lo = 0.1\n").unwrap();
    let home = path("wrong");
    let wrong = [&ONE_PEER[..], &[&home, "--grpo", &settings]].concat();
    assert_says(&murmur(&wrong), &["grpo.toml", "clip_lo"]);
}

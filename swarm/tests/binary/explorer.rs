//! The explorer: its server by plain HTTP, its page in a real browser.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use ed25519_dalek::{Signer, SigningKey};
use rollup::devnet::{DEFAULT_CHAIN_ID, Devnet, DevnetConfig};
use rollup::{
    ChainProfile, Ledger, PrivateKeySigner, Scorecard, SignedScorecard, Swarm, Terms,
    registration_message,
};

use crate::browser::{Browser, HEADLESS};
use crate::support::{PATIENCE, command};

/// What a hostile peer may call itself.
const HOSTILE: &str = "<img src=x onerror=alert(1)>\u{202e}";

/// A devnet with a swarm of three that has settled rounds; no model is trained.
struct Chain {
    runtime: tokio::runtime::Runtime,
    devnet: Option<Devnet>,
    _home: tempfile::TempDir,
    url: String,
    ledger: String,
    first: String,
}

impl Chain {
    fn start(rounds: u64) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let home = tempfile::tempdir().unwrap();
        let keys: Vec<_> = (1..=3u8)
            .map(|byte| PrivateKeySigner::from_slice(&[byte; 32]).unwrap())
            .collect();
        let config = DevnetConfig {
            home: home.path().to_owned(),
            port: 0,
            chain_id: DEFAULT_CHAIN_ID,
            prefund: keys.iter().map(PrivateKeySigner::address).collect(),
            seed: Some(1),
        };
        let (devnet, ledger, first) = runtime.block_on(async {
            let devnet = Devnet::start(config).await.unwrap();
            let mut swarms = Vec::new();
            for (key, name) in keys.into_iter().zip(["calm-wren", HOSTILE, "bold-tern"]) {
                swarms.push(member(&devnet, key, name).await);
            }
            for round in 1..=rounds {
                settle(&swarms, round).await;
            }
            swarms[0].open_round(rounds + 1).await.unwrap();
            let ledger = swarms[0].ledger();
            let at = format!("{:#x}", ledger.addresses().ledger);
            (devnet, at, format!("0x{}", hex::encode(ledger.address())))
        });
        Self {
            url: devnet.url(),
            runtime,
            devnet: Some(devnet),
            _home: home,
            ledger,
            first,
        }
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        if let Some(devnet) = self.devnet.take() {
            self.runtime.block_on(devnet.shutdown());
        }
    }
}

async fn member(devnet: &Devnet, key: PrivateKeySigner, name: &str) -> Swarm {
    let profile = ChainProfile::new(devnet.url(), devnet.chain_id());
    let ledger = Ledger::deploy(&profile, key).await.unwrap();
    let node = SigningKey::from_bytes(&[ledger.address()[0]; 32]);
    let registry = ledger.addresses().registry.into_array();
    let message = registration_message(ledger.chain_id(), registry, ledger.address());
    let signature = node.sign(&message).to_bytes();
    let public = node.verifying_key().to_bytes();
    ledger.register(public, signature, name).await.unwrap();
    let swarm = ledger.create_swarm([42; 32], Terms::LOCAL).await.unwrap();
    swarm.join().await.unwrap();
    swarm
}

async fn settle(swarms: &[Swarm], round: u64) {
    swarms[0].open_round(round).await.unwrap();
    let included = [u8::try_from(round).unwrap(); 32];
    let addresses: Vec<_> = swarms.iter().map(|one| one.ledger().address()).collect();
    let cards: Vec<_> = swarms
        .iter()
        .map(|swarm| {
            let ledger = swarm.ledger();
            let scores = addresses.iter().zip(1..).map(|(&peer, place)| {
                (
                    peer,
                    200_000 * place + 10_000 * u32::try_from(round % 5).unwrap(),
                )
            });
            let card = Scorecard::new(ledger.address(), swarm.id(), round, included, scores);
            SignedScorecard::sign(ledger.signer(), &ledger.domain(), card)
        })
        .collect();
    let settled = swarms[0].settle(round, included, &cards).await.unwrap();
    assert!(!settled.already);
}

/// `murmur explore`, and where it is.
struct Explorer {
    child: Child,
    url: String,
}

impl Explorer {
    fn start(chain: &Chain) -> Self {
        let id = DEFAULT_CHAIN_ID.to_string();
        let args = [
            "explore",
            "--port",
            "0",
            "--rpc",
            &chain.url,
            "--chain-id",
            &id,
        ];
        let mut child = command(&args).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let url = line
            .split_whitespace()
            .find(|word| word.starts_with("http://"));
        let url = url.unwrap_or_else(|| panic!("it said: {line}")).to_owned();
        Self { child, url }
    }
}

impl Drop for Explorer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request as it is typed, and the whole answer.
fn ask(url: &str, head: &str, body: &str) -> String {
    let at = url.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = head.replace("HOST", at);
    let length = body.len();
    let request = format!("{head}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn the_explorers_server_only_reads_and_only_answers_this_machine() {
    let chain = Chain::start(1);
    let explorer = Explorer::start(&chain);
    let get = |path: &str| {
        ask(
            &explorer.url,
            &format!("GET {path} HTTP/1.1\r\nHost: HOST"),
            "",
        )
    };
    let page = get("/");
    assert!(
        page.starts_with("HTTP/1.1 200") && page.contains("<title>"),
        "{page}"
    );
    assert!(page.contains("content-security-policy: default-src 'none'; script-src 'self'"));
    assert!(get("/contracts.json").contains("\"name\":\"RoundSettled\""));
    assert!(get("/words.json").contains("\"name\":\"reputation\""));
    assert!(get("/config.json").contains(&chain.ledger));
    for missing in [
        "/../Cargo.toml",
        "/api/round/99.json",
        "/api/round/x.json",
        "/api/verify/-1.json",
    ] {
        let answer = get(missing);
        assert!(
            answer.starts_with("HTTP/1.1 404") && answer.contains("error"),
            "{answer}"
        );
    }
    // The round's cards are on chain; no home was named, so there is no transcript.
    let verified = get("/api/verify/1.json");
    assert!(
        verified.contains("\"agrees\":true") && verified.contains("\"cards\":3"),
        "{verified}"
    );
    assert!(verified.contains("the scores themselves"), "{verified}");

    let elsewhere = "GET / HTTP/1.1\r\nHost: evil.example.org";
    assert!(ask(&explorer.url, elsewhere, "").starts_with("HTTP/1.1 403"));
    let rpc = |body: &str| ask(&explorer.url, "POST /rpc HTTP/1.1\r\nHost: HOST", body);
    let number = rpc(r#"{"id":7,"method":"eth_blockNumber","params":[]}"#);
    assert!(number.contains("\"result\":\"0x"), "{number}");
    for refused in [
        r#"{"id":1,"method":"eth_sendRawTransaction","params":["0x00"]}"#,
        r#"{"id":1,"method":"murmur_fund","params":["0x00"]}"#,
        "[]",
        "nonsense",
    ] {
        assert!(rpc(refused).contains("\"error\""), "{refused}");
    }
    assert!(rpc(&"x".repeat(100_000)).starts_with("HTTP/1.1 413"));
    let put = ask(&explorer.url, "PUT /index.html HTTP/1.1\r\nHost: HOST", "x");
    assert!(put.starts_with("HTTP/1.1 405"), "{put}");
}

fn chromium() -> Option<PathBuf> {
    let named = std::env::var_os("MURMUR_CHROMIUM").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = named.or_else(|| {
        let names = std::env::split_paths(&path).map(|folder| folder.join("chromium"));
        names.into_iter().find(|program| program.exists())
    });
    if found.is_none() {
        eprintln!(
            "\n!!! SKIPPED: there is no chromium (apt-get install chromium, or name one as \
             MURMUR_CHROMIUM); the explorer's page was NOT tested in a browser !!!\n"
        );
    }
    found
}

/// The page as a browser has it once it has read the chain.
fn shown(chromium: &Path, url: &str) -> String {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new(chromium)
        .args(HEADLESS)
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(["--virtual-time-budget=20000", "--dump-dom", url])
        .stdin(Stdio::null())
        .output()
        .expect("chromium runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_page_shows_what_the_chain_says_and_peers_words_are_only_text() {
    let Some(chromium) = chromium() else { return };
    let chain = Chain::start(4);
    let explorer = Explorer::start(&chain);
    let page = |route: &str| {
        let dom = shown(&chromium, &format!("{}{route}", explorer.url));
        assert!(dom.contains("data-ready=\"yes\""), "{route}: {dom}");
        dom
    };
    let peers = page("");
    assert!(
        peers.contains("calm-wren") && peers.contains("bold-tern"),
        "{peers}"
    );
    // Not an element, and nothing that turns the line around.
    assert!(
        peers.contains("&lt;img src=x onerror=alert(1)&gt;"),
        "{peers}"
    );
    assert!(!peers.contains("<img src=\"x\"") && !peers.contains('\u{202e}'));
    let peer = page(&format!("#/peer/{}", chain.first));
    assert!(
        peer.contains("it signed for this address") || peer.contains("can't check"),
        "{peer}"
    );
    assert!(peer.contains("class=\"chart\""), "{peer}");
    let round = page("#/round/3");
    assert!(
        round.contains("✓ settled") && round.contains("3 signed cards agree"),
        "{round}"
    );
    assert!(round.contains("<span>finalized</span>"), "{round}");
    let open = page("#/round/5");
    assert!(
        open.contains("… open") && open.contains("<span>pending</span>"),
        "{open}"
    );
    assert!(page("#/rounds").contains("#/round/4"));
    assert!(page("#/words").contains("raised by"));
    let found = page("#/search/bold");
    assert!(
        found.contains("<h1>") && found.contains("bold-tern"),
        "{found}"
    );
    assert!(page("#/round/77").contains("Round 77 was never opened"));
}

/// How far apart text and what is behind it are, as WCAG has it: 4.5 is enough to read.
const CONTRAST: &str = r#"(() => {
  const parts = (color) => color.match(/[\d.]+/g).slice(0, 3).map((part) => part / 255);
  const light = (color) => parts(color)
    .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4))
    .reduce((sum, one, at) => sum + one * [0.2126, 0.7152, 0.0722][at], 0);
  const page = getComputedStyle(document.documentElement);
  const card = getComputedStyle(document.querySelector("section"));
  const pairs = [[page.color, page.backgroundColor], [page.color, card.backgroundColor]];
  for (const found of document.querySelectorAll("main a, main .dim, main .good"))
    pairs.push([getComputedStyle(found).color, card.backgroundColor]);
  return Math.min(...pairs.map(([one, other]) => {
    const [high, low] = [light(one), light(other)].sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05);
  }));
})()"#;

#[test]
fn the_page_is_read_on_a_phone_in_light_and_dark_and_used_by_keyboard() {
    let Some(chromium) = chromium() else { return };
    let chain = Chain::start(4);
    let explorer = Explorer::start(&chain);
    let mut browser = Browser::start(&chromium);
    let at = explorer.url.clone();
    browser.screen(360, 740, true);
    browser.load(&at);
    let peer = format!("#/peer/{}", chain.first);
    for route in [
        "#/",
        &peer,
        "#/rounds",
        "#/round/3",
        "#/swarm",
        "#/words",
        "#/search/zzz",
    ] {
        browser.value(&format!("location.hash = '{route}'"));
        browser.until(&format!(
            "location.hash === '{route}' && !!document.querySelector('h1')"
        ));
        let wide = browser.value("document.documentElement.scrollWidth");
        assert_eq!(wide, 360, "{route} is wider than a phone");
    }

    browser.screen(1200, 800, false);
    let mut pages = Vec::new();
    for scheme in ["light", "dark"] {
        browser.prefers(scheme);
        browser.load(&format!("{at}#/round/3"));
        pages.push(browser.value("getComputedStyle(document.documentElement).backgroundColor"));
        let contrast = browser.value(CONTRAST).as_f64().unwrap();
        assert!(contrast >= 4.5, "{scheme}: {contrast}");
    }
    assert_ne!(pages[0], pages[1]);
    // The button beats the machine, and is remembered.
    browser.value("document.getElementById('theme').focus()");
    browser.press("Enter", 13);
    browser.until("document.documentElement.dataset.theme === 'light'");
    browser.load(&at);
    let now = browser.value("getComputedStyle(document.documentElement).backgroundColor");
    assert_eq!(now, pages[0]);

    // Without a mouse: to the content, into the search, to a peer and back.
    browser.press("Tab", 9);
    let first = browser.value("document.activeElement.className");
    assert_eq!(first, "skip", "the way past the header comes first");
    let ring = browser.value("getComputedStyle(document.activeElement).outlineStyle");
    assert_eq!(ring, "solid", "what has the focus is seen");
    browser.press("/", 191);
    browser.until("document.activeElement.name === 'for'");
    browser.type_in("calm-wren");
    browser.press("Enter", 13);
    browser.until(&format!("location.hash === '{peer}'"));
    browser.until("document.activeElement.id === 'main'");
    browser.value("history.back()");
    browser.until("document.querySelector('h1').textContent !== 'calm-wren'");
    browser.value("document.querySelector('main a[href^=\"#/peer/\"]').focus()");
    browser.press("Enter", 13);
    browser.until("location.hash.startsWith('#/peer/')");
}

#[test]
fn the_same_files_work_from_a_plain_host() {
    let Some(chromium) = chromium() else { return };
    let chain = Chain::start(2);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let exported = crate::support::murmur(&["explore", "--export", path]);
    assert!(exported.success, "{}", exported.stderr);
    let host = plain_host(folder.path().to_owned());
    let query = format!("?rpc={}&ledger={}", chain.url, chain.ledger);
    let dom = shown(&chromium, &format!("{host}/index.html{query}#/round/2"));
    assert!(dom.contains("data-ready=\"yes\""), "{dom}");
    assert!(
        dom.contains("✓ settled") && dom.contains("Without a node beside this page"),
        "{dom}"
    );
    let unnamed = shown(&chromium, &format!("{host}/index.html"));
    assert!(unnamed.contains("name a chain: add ?rpc="), "{unnamed}");
}

/// A host that knows nothing but files.
fn plain_host(folder: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut line = String::new();
            if BufReader::new(&stream).read_line(&mut line).is_err() {
                continue;
            }
            let path = line.split(' ').nth(1).unwrap_or_default();
            let name = path
                .split('?')
                .next()
                .unwrap_or_default()
                .trim_start_matches('/');
            let kind = match name.rsplit('.').next() {
                Some("js") => "text/javascript",
                Some("css") => "text/css",
                Some("html") => "text/html",
                Some("svg") => "image/svg+xml",
                _ => "application/json",
            };
            let found = std::fs::read(folder.join(name)).ok();
            let status = if found.is_some() {
                "200 OK"
            } else {
                "404 Not Found"
            };
            let body = found.unwrap_or_default();
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
                 Connection: close\r\n\r\n",
                body.len()
            );
            let mut stream = &stream;
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(&body);
        }
    });
    at
}

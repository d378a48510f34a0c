//! What the page asks of the machine it was served by: the chain, for reading, and what
//! follows from the transcripts kept here.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rollup::{Chronicle, Reputation, SettledRound};
use serde::Deserialize;
use serde_json::{Value, json};
use swarm_core::ids::Hash;
use tokio::sync::Mutex;

use crate::process::{DEVNET_CHAIN, without_secrets};
use crate::rep::find::Names;
use crate::rep::source::Source;
use crate::rep::{document, verify};

/// What the page may ask of the chain: nothing that sends or costs anything.
const METHODS: [&str; 7] = [
    "eth_chainId",
    "eth_blockNumber",
    "eth_getLogs",
    "eth_call",
    "eth_getBlockByNumber",
    "eth_getTransactionByHash",
    "eth_getTransactionReceipt",
];

/// A ledger and a home's transcripts, to answer from.
pub(super) struct Answers {
    source: Source,
    /// What was read of the chain, and of how many blocks.
    read: Mutex<Option<Arc<Known>>>,
}

struct Known {
    chronicle: Chronicle,
    members: Vec<Reputation>,
}

#[derive(Deserialize)]
struct Request {
    #[serde(default)]
    id: Value,
    method: String,
    #[serde(default)]
    params: Value,
}

impl Answers {
    pub(super) fn new(source: Source) -> Self {
        Self {
            source,
            read: Mutex::new(None),
        }
    }

    pub(super) async fn close(self) {
        self.source.close().await;
    }

    /// What the page is told of where it is.
    pub(super) fn config(&self) -> Value {
        let ledger = self.source.swarm.ledger();
        json!({
            "served": true,
            "rpc": "rpc",
            "shown": without_secrets(&self.source.rpc),
            "ledger": format!("{:#x}", ledger.addresses().ledger),
            "swarm": document::word(self.source.swarm.id()),
            "name": self.source.manifest.as_ref().map(|manifest| &manifest.name),
            "devnet": ledger.chain_id() == DEVNET_CHAIN,
        })
    }

    /// One JSON-RPC request, passed on if it only reads.
    pub(super) async fn rpc(&self, body: &[u8]) -> Value {
        let failed = |id: Value, code: i32, message: String| {
            let error = json!({ "code": code, "message": message });
            json!({ "jsonrpc": "2.0", "id": id, "error": error })
        };
        let request: Request = match serde_json::from_slice(body) {
            Ok(request) => request,
            Err(error) => return failed(Value::Null, -32700, error.to_string()),
        };
        if !METHODS.contains(&request.method.as_str()) {
            let message = "this explorer only reads; send it to the chain itself".to_owned();
            return failed(request.id, -32601, message);
        }
        let ledger = self.source.swarm.ledger();
        match ledger.ask(&request.method, request.params).await {
            Ok(result) => json!({ "jsonrpc": "2.0", "id": request.id, "result": result }),
            // Of the URL nothing but what may be shown.
            Err(error) => {
                let shown = without_secrets(&self.source.rpc);
                let message = error.to_string().replace(&self.source.rpc, &shown);
                failed(request.id, -32000, message)
            }
        }
    }

    /// The chain as it stands, read anew only when it has grown.
    async fn known(&self) -> Result<Arc<Known>> {
        let mut read = self.read.lock().await;
        let height = self.source.swarm.ledger().height().await;
        let height = height.context("asking the chain for its newest block")?;
        if let Some(known) = read
            .as_ref()
            .filter(|known| known.chronicle.height == height)
        {
            return Ok(Arc::clone(known));
        }
        let chronicle = self.source.swarm.chronicle().await;
        let known = Arc::new(Known {
            chronicle: chronicle.context("reading the ledger's events")?,
            members: self.source.standings().await?,
        });
        *read = Some(Arc::clone(&known));
        Ok(known)
    }

    /// A round, judged again from its transcript.
    pub(super) async fn round(&self, number: u64) -> Result<Value> {
        let known = self.known().await?;
        let (_, settled) = verify::settled(&known.chronicle, number)?;
        match document::judged_here(&self.source, settled)? {
            Some(judged) => Ok(document::judged(&judged)),
            None => bail!("this round's transcript is not kept here"),
        }
    }

    /// A round, recomputed and held against the ledger.
    pub(super) async fn verify(&self, number: u64) -> Result<Value> {
        let known = self.known().await?;
        let checked = verify::verify(&self.source, &known.chronicle, Some(number), None).await?;
        let names = Names::of(&known.members);
        let first = checked.first().context("nothing was checked")?;
        Ok(verify::document(first, &names))
    }

    /// A round's transcript, as it is kept.
    pub(super) async fn transcript(&self, number: u64) -> Result<Vec<u8>> {
        let known = self.known().await?;
        let (_, settled): (_, &SettledRound) = verify::settled(&known.chronicle, number)?;
        let (Some(manifest), Some(kept)) = (&self.source.manifest, &self.source.transcripts) else {
            bail!("no transcripts are kept here");
        };
        let found = kept.find(manifest, number, Hash(settled.included))?;
        let found = found.context("this round's transcript is not kept here")?;
        Ok(found.encode())
    }
}

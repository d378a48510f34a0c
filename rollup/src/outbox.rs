//! Signed rounds waiting for the chain.
//!
//! A round's scorecards are put here the moment a quorum has signed, and leave when the
//! ledger has settled it for good. Whatever happens in between (no network, no chain, no
//! power, a reorganisation) the next [`Outbox::flush`] goes on: one file a round,
//! written beside, synced and renamed; settling is idempotent by (swarm, round).

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::LedgerError;
use crate::history::Finality;
use crate::ledger::Ledger;
use crate::scorecard::SignedScorecard;
use crate::sealed::SignedSeal;
use crate::swarm::{RoundStatus, Settled, Swarm};

/// A round that a quorum of its witnesses has signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedRound {
    /// The swarm's id on chain.
    #[serde(with = "alloy::hex::serde")]
    pub swarm: [u8; 32],
    /// The round's number.
    pub round: u64,
    /// What it included.
    #[serde(with = "alloy::hex::serde")]
    pub included: [u8; 32],
    /// Its witnesses' cards.
    pub cards: Vec<SignedScorecard>,
    /// What was committed before they were shown; none in a swarm whose cards are open.
    #[serde(default)]
    pub seals: Vec<SignedSeal>,
}

/// What became of a waiting round in one flush.
#[derive(Debug)]
#[non_exhaustive]
pub enum Delivery {
    /// It is settled on the chain. Once that is final, it has left the outbox; until then
    /// it stays, in case the block is undone.
    Settled {
        /// How.
        settled: Settled,
        /// Whether it is final.
        finalized: bool,
    },
    /// The chain cannot take it now; the next flush tries again.
    Waiting(LedgerError),
    /// The ledger will never take it; it was moved to the `refused` folder.
    Refused(LedgerError),
}

/// Why the outbox could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("outbox {path}: {source}")]
pub struct OutboxError {
    /// The file or folder.
    pub path: PathBuf,
    /// What went wrong.
    pub source: std::io::Error,
}

/// A folder of signed rounds.
#[derive(Clone, Debug)]
pub struct Outbox {
    folder: PathBuf,
}

impl Outbox {
    /// Opens the folder, or makes it.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, OutboxError> {
        let folder = folder.into();
        fs::create_dir_all(&folder).map_err(|source| at(&folder, source))?;
        Ok(Self { folder })
    }

    /// Keeps a round until it is settled; when this returns, it survives a crash. A round
    /// that is here already is kept as it is, unless the new one has more signatures.
    pub fn put(&self, signed: &SignedRound) -> Result<(), OutboxError> {
        let path = self.path(&signed.swarm, signed.round);
        if let Ok(Some(old)) = read(&path)
            && old.cards.len() >= signed.cards.len()
        {
            return Ok(());
        }
        let bytes =
            serde_json::to_vec(signed).map_err(|error| at(&path, std::io::Error::other(error)))?;
        write(&path, &bytes).map_err(|source| at(&path, source))
    }

    /// The waiting rounds, by swarm and number. A file that cannot be read is moved to
    /// the `unreadable` folder and logged: it must not hold up the others.
    pub fn waiting(&self) -> Result<Vec<SignedRound>, OutboxError> {
        let mut found = Vec::new();
        let entries = fs::read_dir(&self.folder).map_err(|source| at(&self.folder, source))?;
        for entry in entries {
            let path = entry.map_err(|source| at(&self.folder, source))?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match read(&path) {
                Ok(Some(signed)) => found.push(signed),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "unreadable round set aside");
                    self.set_aside(&path, "unreadable")?;
                }
            }
        }
        found.sort_by_key(|signed| (signed.swarm, signed.round));
        Ok(found)
    }

    /// Tries to settle what waits, in order, and says what became of each. Stops early
    /// only if the chain cannot be reached at all.
    pub async fn flush(
        &self,
        ledger: &Ledger,
    ) -> Result<Vec<(SignedRound, Delivery)>, OutboxError> {
        let mut report = Vec::new();
        for signed in self.waiting()? {
            let delivery = self.deliver(ledger, &signed).await?;
            let unreachable = matches!(delivery, Delivery::Waiting(LedgerError::Transport { .. }));
            report.push((signed, delivery));
            if unreachable {
                break;
            }
        }
        Ok(report)
    }

    async fn deliver(
        &self,
        ledger: &Ledger,
        signed: &SignedRound,
    ) -> Result<Delivery, OutboxError> {
        let path = self.path(&signed.swarm, signed.round);
        let swarm = ledger.swarm(signed.swarm);
        let settled = match swarm.round_opened(signed.round).await {
            Ok(Some(opened)) if opened.status == RoundStatus::Settled => Ok(Settled {
                tx: None,
                gas: 0,
                already: true,
            }),
            Ok(_) if signed.seals.is_empty() => {
                swarm
                    .settle(signed.round, signed.included, &signed.cards)
                    .await
            }
            Ok(_) => settle_sealed(&swarm, signed).await,
            Err(error) => Err(error),
        };
        match settled {
            Ok(settled) => {
                // If it is not known to be final, the next flush looks again.
                let finalized = is_final(ledger, signed).await.unwrap_or(false);
                if finalized {
                    fs::remove_file(&path).map_err(|source| at(&path, source))?;
                }
                Ok(Delivery::Settled { settled, finalized })
            }
            // A round that is not opened (any more, after a reorganisation) may be yet.
            Err(error) if error.is_transient() || error.refusal() == Some("RoundNotOpened") => {
                Ok(Delivery::Waiting(error))
            }
            Err(error) => {
                self.set_aside(&path, "refused")?;
                Ok(Delivery::Refused(error))
            }
        }
    }

    fn path(&self, swarm: &[u8; 32], round: u64) -> PathBuf {
        self.folder
            .join(format!("{}-{round:020}.json", hex::encode(&swarm[..8])))
    }

    fn set_aside(&self, path: &Path, folder: &str) -> Result<(), OutboxError> {
        let folder = self.folder.join(folder);
        fs::create_dir_all(&folder).map_err(|source| at(&folder, source))?;
        let name = path.file_name().unwrap_or(path.as_os_str());
        fs::rename(path, folder.join(name)).map_err(|source| at(path, source))
    }
}

/// Settles with the cards whose seals the chain holds, whoever brought them; after a
/// reorganisation it may have to be given them again.
async fn settle_sealed(swarm: &Swarm, signed: &SignedRound) -> Result<Settled, LedgerError> {
    let round = signed.round;
    let committed = match swarm.committed_seals(round, &signed.seals).await? {
        Some(committed) => committed,
        None => {
            swarm.commit_seals(round, &signed.seals).await?;
            let committed = swarm.committed_seals(round, &signed.seals).await?;
            committed.unwrap_or_default()
        }
    };
    let is_sealed = |card: &&SignedScorecard| {
        let mut seals = committed.iter();
        seals.any(|sealed| sealed.witness == card.witness && sealed.seal == card.seal())
    };
    let cards: Vec<_> = signed.cards.iter().filter(is_sealed).cloned().collect();
    let opened = swarm.round_opened(round).await?;
    let committee = opened.map(|opened| opened.committee).unwrap_or_default();
    swarm
        .settle_sealed(round, signed.included, &cards, &committee, &committed)
        .await
}

/// Whether the round is settled in a block that stays.
async fn is_final(ledger: &Ledger, signed: &SignedRound) -> Result<bool, LedgerError> {
    let history = ledger.swarm(signed.swarm).history(signed.round).await?;
    match history.iter().find(|settled| settled.round == signed.round) {
        Some(settled) => Ok(ledger.finality(settled.block).await? == Some(Finality::Finalized)),
        None => Ok(false),
    }
}

fn read(path: &Path) -> std::io::Result<Option<SignedRound>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(std::io::Error::other)
}

/// Writes a file beside, and puts it in place whole.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("part");
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    crate::devnet::sync_folder(path)
}

fn at(path: &Path, source: std::io::Error) -> OutboxError {
    OutboxError {
        path: path.to_owned(),
        source,
    }
}

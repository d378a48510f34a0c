//! The devnet's memory: an append-only file of what happened, in order.
//!
//! The file starts with [`MAGIC`]; each record is a length, a checksum and a
//! JSON payload, and is on disk (fsync) before anybody is told of it. So a crash
//! can only tear the record being written: on opening, a torn tail is set aside
//! in a file of its own, said, and cut off. Damage anywhere else is bit rot, not a
//! crash, and is refused rather than guessed at.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use serde::{Deserialize, Serialize};

const MAGIC: &[u8; 8] = b"MURMDEV1";
/// Length (u32, little endian) and the first eight bytes of the payload's keccak.
const HEADER: usize = 12;
/// Far above any record the server can accept.
const RECORD_LIMIT: usize = 8 << 20;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Record {
    /// Always first, and only there.
    Genesis(Genesis),
    /// A transaction and the block it makes.
    Block(BlockRecord),
}

/// What the chain started from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Genesis {
    pub(crate) chain_id: u64,
    pub(crate) timestamp: u64,
    /// With a seed, the chain is a function of the transactions it is sent: its
    /// randomness and its clock follow from the seed and the block number.
    pub(crate) seed: Option<u64>,
    pub(crate) balances: Vec<(Address, U256)>,
}

/// A block's environment and its one transaction, as it came over the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BlockRecord {
    pub(crate) timestamp: u64,
    pub(crate) prevrandao: B256,
    pub(crate) raw: Bytes,
}

/// Why the log could not be opened or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// Reading or writing failed.
    #[error("devnet log {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is something else.
    #[error("{path} is not a devnet log: move it away, or choose another home")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A record in the middle does not match its checksum.
    #[error(
        "devnet log {path} is damaged at byte {offset}, before its end, which no crash does: restore the file from a copy, or move it away to start a new chain"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the first damaged record starts.
        offset: u64,
    },
}

/// What was cut off when the log was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// Where the log now ends.
    pub offset: u64,
    /// How many bytes were cut off.
    pub bytes: u64,
    /// Where they were kept.
    pub kept_in: PathBuf,
}

/// The open log.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    end: u64,
}

impl Log {
    /// Opens or creates the log and returns what it holds.
    pub(crate) fn open(path: &Path) -> Result<(Self, Vec<Record>, Option<TornTail>), LogError> {
        let io = |source| LogError::Io {
            path: path.to_owned(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(io)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io)?;

        // A crash while the very first bytes were written leaves part of the magic.
        if bytes.len() < MAGIC.len() && MAGIC.starts_with(&bytes) {
            file.set_len(0).map_err(io)?;
            file.rewind().map_err(io)?;
            file.write_all(MAGIC).map_err(io)?;
            file.sync_all().map_err(io)?;
            sync_folder(path).map_err(io)?;
            let log = Self {
                path: path.to_owned(),
                file,
                end: MAGIC.len() as u64,
            };
            return Ok((log, Vec::new(), None));
        }
        if !bytes.starts_with(MAGIC) {
            return Err(LogError::Foreign {
                path: path.to_owned(),
            });
        }

        let mut records = Vec::new();
        let mut offset = MAGIC.len();
        let mut torn = None;
        while offset < bytes.len() {
            match next_record(&bytes[offset..]) {
                Next::Record(record, size) => {
                    records.push(record);
                    offset += size;
                }
                Next::Torn => {
                    torn = Some(Self::cut(path, &file, &bytes, offset).map_err(io)?);
                    break;
                }
                Next::Damaged => {
                    return Err(LogError::Damaged {
                        path: path.to_owned(),
                        offset: offset as u64,
                    });
                }
            }
        }
        let log = Self {
            path: path.to_owned(),
            file,
            end: offset as u64,
        };
        Ok((log, records, torn))
    }

    /// Keeps the torn tail in a file of its own and cuts it off.
    fn cut(path: &Path, file: &File, bytes: &[u8], offset: usize) -> std::io::Result<TornTail> {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".torn-{offset}"));
        let kept_in = PathBuf::from(name);
        let mut kept = File::create(&kept_in)?;
        kept.write_all(&bytes[offset..])?;
        kept.sync_all()?;
        file.set_len(offset as u64)?;
        file.sync_all()?;
        sync_folder(path)?;
        Ok(TornTail {
            offset: offset as u64,
            bytes: (bytes.len() - offset) as u64,
            kept_in,
        })
    }

    /// Appends one record; when this returns, it survives a crash.
    pub(crate) fn append(&mut self, record: &Record) -> Result<(), LogError> {
        let written = self.write(record);
        if written.is_err() {
            // A full disk leaves half a record: take it back, so that the next one
            // does not follow it. If that fails too, opening cuts it off.
            let _ = self.file.set_len(self.end);
        }
        written.map_err(|source| LogError::Io {
            path: self.path.clone(),
            source,
        })
    }

    fn write(&mut self, record: &Record) -> std::io::Result<()> {
        let payload = serde_json::to_vec(record)?;
        if payload.len() > RECORD_LIMIT {
            return Err(std::io::Error::other("record too large"));
        }
        let mut framed = Vec::with_capacity(HEADER + payload.len());
        framed.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        framed.extend_from_slice(&keccak256(&payload)[..8]);
        framed.extend_from_slice(&payload);
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(&framed)?;
        self.file.sync_data()?;
        self.end += framed.len() as u64;
        Ok(())
    }
}

enum Next {
    Record(Record, usize),
    /// The record being written when the crash came.
    Torn,
    /// A whole record that is not what was written, with more behind it.
    Damaged,
}

fn next_record(rest: &[u8]) -> Next {
    // Some file systems grow the file before they write to it.
    if rest.len() < HEADER || rest.iter().all(|&byte| byte == 0) {
        return Next::Torn;
    }
    let length = u32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
    if length > RECORD_LIMIT {
        return Next::Damaged;
    }
    let end = HEADER + length;
    if rest.len() < end {
        // A flipped bit in a length looks like this too, but then records follow.
        return if holds_record(&rest[1..]) {
            Next::Damaged
        } else {
            Next::Torn
        };
    }
    let payload = &rest[HEADER..end];
    if keccak256(payload)[..8] != rest[4..HEADER] {
        return if rest.len() == end {
            Next::Torn
        } else {
            Next::Damaged
        };
    }
    match serde_json::from_slice(payload) {
        Ok(record) => Next::Record(record, end),
        // The checksum holds, so it was written like this: by a later version.
        Err(_) => Next::Damaged,
    }
}

/// Whether a whole record starts anywhere in these bytes.
fn holds_record(bytes: &[u8]) -> bool {
    (0..bytes.len().saturating_sub(HEADER)).any(|start| {
        let rest = &bytes[start..];
        let length = u32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
        let end = HEADER + length;
        length > 0
            && length <= RECORD_LIMIT
            && end <= rest.len()
            && keccak256(&rest[HEADER..end])[..8] == rest[4..HEADER]
    })
}

/// A file's name is on disk only once its folder is.
pub(crate) fn sync_folder(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u8) -> Record {
        Record::Block(BlockRecord {
            timestamp: u64::from(number),
            prevrandao: B256::repeat_byte(number),
            raw: Bytes::from(vec![number; 50]),
        })
    }

    fn written(path: &Path, count: u8) -> Vec<u8> {
        let (mut log, _, _) = Log::open(path).unwrap();
        for number in 0..count {
            log.append(&record(number)).unwrap();
        }
        std::fs::read(path).unwrap()
    }

    #[test]
    fn what_was_appended_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        written(&path, 3);
        let (_, records, torn) = Log::open(&path).unwrap();
        assert_eq!(records, [record(0), record(1), record(2)]);
        assert_eq!(torn, None);
    }

    #[test]
    fn a_log_cut_at_any_byte_keeps_every_whole_record_and_can_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let bytes = written(&path, 3);
        let size = (bytes.len() - MAGIC.len()) / 3;
        for cut in 0..bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let (mut log, records, torn) = Log::open(&path).unwrap();
            let whole = cut.saturating_sub(MAGIC.len()) / size;
            assert_eq!(records.len(), whole, "cut at {cut}");
            let on_boundary = cut <= MAGIC.len() || (cut - MAGIC.len()).is_multiple_of(size);
            assert_eq!(torn.is_none(), on_boundary, "cut at {cut}");
            if let Some(torn) = torn {
                assert_eq!(
                    std::fs::read(&torn.kept_in).unwrap(),
                    bytes[torn.offset as usize..cut]
                );
            }
            log.append(&record(9)).unwrap();
            let (_, records, torn) = Log::open(&path).unwrap();
            assert_eq!((records.len(), torn), (whole + 1, None));
            assert_eq!(records.last(), Some(&record(9)));
        }
    }

    #[test]
    fn zeros_at_the_end_are_a_torn_tail() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut bytes = written(&path, 2);
        bytes.extend([0; 100]);
        std::fs::write(&path, &bytes).unwrap();
        let (_, records, torn) = Log::open(&path).unwrap();
        assert_eq!(records.len(), 2);
        assert_eq!(torn.unwrap().bytes, 100);
    }

    #[test]
    fn damage_in_the_middle_is_refused_and_nothing_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let bytes = written(&path, 3);
        // A flipped bit in a payload; in a checksum; in a length.
        for place in [HEADER + 5, 4, 1] {
            let mut damaged = bytes.clone();
            damaged[MAGIC.len() + place] ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            let error = Log::open(&path).unwrap_err();
            assert!(
                matches!(error, LogError::Damaged { offset: 8, .. }),
                "{error}"
            );
            assert_eq!(std::fs::read(&path).unwrap(), damaged);
        }
    }

    #[test]
    fn another_file_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, b"dear diary").unwrap();
        assert!(matches!(Log::open(&path), Err(LogError::Foreign { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"dear diary");
    }
}

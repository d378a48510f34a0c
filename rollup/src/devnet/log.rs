//! The devnet's memory: an append-only file of what happened, in order.
//!
//! The file starts with [`MAGIC`]; each record is a length, a checksum and a payload,
//! and is on disk (fsync) before anybody is told of it. So a crash can only tear the
//! record being written: on opening, a torn tail is set aside in a file of its own,
//! said, and cut off. Damage anywhere else is bit rot, not a crash, and is refused
//! rather than guessed at.
//!
//! A block's record holds its transaction and what came of it, so that opening a long
//! chain runs no EVM and old blocks need not be kept in memory: they are read back from
//! their place.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use alloy::primitives::{Address, B256, Bytes, Log as EventLog, U256, keccak256};
use serde::{Deserialize, Serialize};

const MAGIC: &[u8; 8] = b"MURMDEV2";
/// Length (u32, little endian) and the first eight bytes of the payload's keccak.
const HEADER: usize = 12;
/// As long as a log gets: it holds every round that settled, so none of it can be dropped,
/// and somebody's disk must not fill up unasked.
const LIMIT: u64 = 4 << 30;
/// Far above any record the server can accept.
const RECORD_LIMIT: usize = 16 << 20;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Record {
    /// Always first, and only there.
    Genesis(Genesis),
    /// A transaction and the block it makes.
    Block(BlockRecord),
}

/// What the chain started from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Genesis {
    pub(crate) chain_id: u64,
    pub(crate) timestamp: u64,
    /// With a seed, the chain is a function of the transactions it is sent: its
    /// randomness and its clock follow from the seed and the block number.
    pub(crate) seed: Option<u64>,
    pub(crate) balances: Vec<(Address, U256)>,
}

/// A block's environment, its one transaction as it came over the wire, and what came
/// of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlockRecord {
    /// The block's hash: follows from the rest and the block before.
    pub(crate) hash: B256,
    pub(crate) timestamp: u64,
    pub(crate) prevrandao: B256,
    pub(crate) raw: Bytes,
    pub(crate) sender: Address,
    pub(crate) success: bool,
    pub(crate) gas_used: u64,
    pub(crate) logs: Vec<EventLog>,
    pub(crate) changes: Vec<Change>,
}

/// What a block changed in one account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Change {
    pub(crate) address: Address,
    pub(crate) balance: U256,
    pub(crate) nonce: u64,
    /// Its code, if the block gave it some.
    pub(crate) code: Option<Bytes>,
    /// Whether it is gone, with its storage.
    pub(crate) destroyed: bool,
    pub(crate) storage: Vec<(U256, U256)>,
}

/// Why the log could not be opened, read or written.
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
    #[error("{path} is not a devnet log of this version: move it away, or choose another home")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// It is as long as it gets.
    #[error(
        "devnet log {path} is full: {limit} bytes are as long as it gets, and what it holds cannot be dropped; what is settled stays readable, and more settles on a chain of its own (--rpc) or in a new home"
    )]
    Full {
        /// The file.
        path: PathBuf,
        /// Its limit in bytes.
        limit: u64,
    },
    /// A record in the middle does not match its checksum, or makes no sense.
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

/// The open log, at its end.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    end: u64,
    limit: u64,
}

/// Reads records back from their places, beside the writer.
#[derive(Debug)]
pub(crate) struct LogReader {
    path: PathBuf,
    file: File,
}

/// A reason for a record to make no sense where it stands.
pub(crate) struct Nonsense;

impl Log {
    /// Opens or creates the log, and hands each record and its place to `each`.
    pub(crate) fn open(
        path: &Path,
        mut each: impl FnMut(Record, u64) -> Result<(), Nonsense>,
    ) -> Result<(Self, Option<TornTail>), LogError> {
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
        let mut magic = Vec::new();
        (&file)
            .take(MAGIC.len() as u64)
            .read_to_end(&mut magic)
            .map_err(io)?;
        // A crash while the very first bytes were written leaves part of the magic.
        if magic.len() < MAGIC.len() && MAGIC.starts_with(&magic) {
            file.set_len(0).map_err(io)?;
            file.rewind().map_err(io)?;
            file.write_all(MAGIC).map_err(io)?;
            file.sync_all().map_err(io)?;
            sync_folder(path).map_err(io)?;
        } else if magic != MAGIC {
            return Err(LogError::Foreign {
                path: path.to_owned(),
            });
        }

        let length = file.metadata().map_err(io)?.len();
        let mut offset = MAGIC.len() as u64;
        let mut torn = None;
        let mut records = BufReader::with_capacity(1 << 20, &file);
        while offset < length {
            let damaged = || LogError::Damaged {
                path: path.to_owned(),
                offset,
            };
            match next_record(&mut records, length - offset).map_err(io)? {
                Next::Record(record, size) => {
                    each(*record, offset).map_err(|Nonsense| damaged())?;
                    offset += size;
                }
                Next::Broken => {
                    let mut rest = vec![0; (length - offset) as usize];
                    file.read_exact_at(&mut rest, offset).map_err(io)?;
                    if !is_torn(&rest) {
                        return Err(damaged());
                    }
                    torn = Some(cut(path, &file, &rest, offset).map_err(io)?);
                    break;
                }
            }
        }
        Ok((
            Self {
                path: path.to_owned(),
                file,
                end: offset,
                limit: LIMIT,
            },
            torn,
        ))
    }

    /// A second handle, for reading.
    pub(crate) fn reader(&self) -> Result<LogReader, LogError> {
        let file = self.file.try_clone();
        let file = file.map_err(|source| LogError::Io {
            path: self.path.clone(),
            source,
        })?;
        Ok(LogReader {
            path: self.path.clone(),
            file,
        })
    }

    /// Appends one record and returns its place; when this returns, it survives a crash.
    pub(crate) fn append(&mut self, record: &Record) -> Result<u64, LogError> {
        let io = |source| LogError::Io {
            path: self.path.clone(),
            source,
        };
        let payload = postcard::to_stdvec(record).map_err(std::io::Error::other);
        let payload = payload.map_err(io)?;
        if payload.len() > RECORD_LIMIT {
            return Err(io(std::io::Error::other("record too large")));
        }
        if self.end + (HEADER + payload.len()) as u64 > self.limit {
            return Err(LogError::Full {
                path: self.path.clone(),
                limit: self.limit,
            });
        }
        let written = self.write(&payload);
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

    fn write(&mut self, payload: &[u8]) -> std::io::Result<u64> {
        let mut framed = Vec::with_capacity(HEADER + payload.len());
        framed.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        framed.extend_from_slice(&keccak256(payload)[..8]);
        framed.extend_from_slice(payload);
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(&framed)?;
        self.file.sync_data()?;
        let place = self.end;
        self.end += framed.len() as u64;
        Ok(place)
    }
}

impl LogReader {
    /// The block whose record is at `place`.
    pub(crate) fn block(&self, place: u64) -> Result<BlockRecord, LogError> {
        let io = |source| LogError::Io {
            path: self.path.clone(),
            source,
        };
        let mut header = [0; HEADER];
        self.file.read_exact_at(&mut header, place).map_err(io)?;
        let length = length(&header);
        if length <= RECORD_LIMIT {
            let mut payload = vec![0; length];
            self.file
                .read_exact_at(&mut payload, place + HEADER as u64)
                .map_err(io)?;
            if let Some(Record::Block(block)) = decode(&header, &payload) {
                return Ok(block);
            }
        }
        Err(LogError::Damaged {
            path: self.path.clone(),
            offset: place,
        })
    }
}

enum Next {
    Record(Box<Record>, u64),
    /// Not a record: torn or damaged.
    Broken,
}

fn next_record(from: &mut impl Read, left: u64) -> std::io::Result<Next> {
    if left < HEADER as u64 {
        return Ok(Next::Broken);
    }
    let mut header = [0; HEADER];
    from.read_exact(&mut header)?;
    let (length, left) = (length(&header), left - HEADER as u64);
    if length > RECORD_LIMIT || length as u64 > left {
        return Ok(Next::Broken);
    }
    let mut payload = vec![0; length];
    from.read_exact(&mut payload)?;
    Ok(match decode(&header, &payload) {
        Some(record) => Next::Record(Box::new(record), (HEADER + length) as u64),
        None => Next::Broken,
    })
}

fn length(header: &[u8; HEADER]) -> usize {
    u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize
}

fn decode(header: &[u8; HEADER], payload: &[u8]) -> Option<Record> {
    let (record, rest) = match keccak256(payload)[..8] == header[4..] {
        true => postcard::take_from_bytes(payload).ok()?,
        false => return None,
    };
    rest.is_empty().then_some(record)
}

/// Whether what follows the last whole record is one that was being written when the
/// crash came: nothing but a beginning of it, or as far as the file had grown for it.
fn is_torn(rest: &[u8]) -> bool {
    // Some file systems grow the file before they write to it.
    if rest.len() < HEADER || rest.iter().all(|&byte| byte == 0) {
        return true;
    }
    let length = u32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
    // It is the last thing in the file. (A flipped bit in a length may look like this too,
    // but then records follow.)
    length <= RECORD_LIMIT && HEADER + length >= rest.len() && !holds_record(&rest[1..])
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

/// Keeps the torn tail in a file of its own and cuts it off.
fn cut(path: &Path, file: &File, rest: &[u8], offset: u64) -> std::io::Result<TornTail> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".torn-{offset}"));
    let kept_in = PathBuf::from(name);
    let mut kept = File::create(&kept_in)?;
    kept.write_all(rest)?;
    kept.sync_all()?;
    file.set_len(offset)?;
    file.sync_all()?;
    sync_folder(path)?;
    Ok(TornTail {
        offset,
        bytes: rest.len() as u64,
        kept_in,
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
            hash: B256::repeat_byte(number),
            timestamp: u64::from(number),
            prevrandao: B256::repeat_byte(number),
            raw: Bytes::from(vec![number; 50]),
            sender: Address::repeat_byte(number),
            success: number.is_multiple_of(2),
            gas_used: 21_000,
            logs: vec![EventLog::new_unchecked(
                Address::repeat_byte(number),
                vec![B256::repeat_byte(1)],
                Bytes::from(vec![number; 5]),
            )],
            changes: vec![Change {
                address: Address::repeat_byte(number),
                balance: U256::from(5),
                nonce: 1,
                code: None,
                destroyed: false,
                storage: vec![(U256::from(1), U256::MAX)],
            }],
        })
    }

    fn open(path: &Path) -> Result<(Log, Vec<Record>, Option<TornTail>), LogError> {
        let mut records = Vec::new();
        let (log, torn) = Log::open(path, |record, _| {
            records.push(record);
            Ok(())
        })?;
        Ok((log, records, torn))
    }

    fn written(path: &Path, count: u8) -> Vec<u8> {
        let (mut log, _, _) = open(path).unwrap();
        for number in 0..count {
            log.append(&record(number)).unwrap();
        }
        std::fs::read(path).unwrap()
    }

    #[test]
    fn what_was_appended_is_read_back_in_order_and_by_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        written(&path, 3);
        let mut places = Vec::new();
        let (mut log, torn) = Log::open(&path, |_, place| {
            places.push(place);
            Ok(())
        })
        .unwrap();
        assert_eq!(torn, None);
        places.push(log.append(&record(3)).unwrap());
        let reader = log.reader().unwrap();
        for (number, &place) in (0..).zip(&places) {
            assert_eq!(Record::Block(reader.block(place).unwrap()), record(number));
        }
        assert!(reader.block(places[1] + 1).is_err());
        let (_, records, _) = open(&path).unwrap();
        assert_eq!(records, [record(0), record(1), record(2), record(3)]);
    }

    #[test]
    fn a_log_cut_at_any_byte_keeps_every_whole_record_and_can_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let bytes = written(&path, 3);
        let size = (bytes.len() - MAGIC.len()) / 3;
        for cut in 0..bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let (mut log, records, torn) = open(&path).unwrap();
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
            let (_, records, torn) = open(&path).unwrap();
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
        let (_, records, torn) = open(&path).unwrap();
        assert_eq!(records.len(), 2);
        assert_eq!(torn.unwrap().bytes, 100);
    }

    #[test]
    fn damage_in_the_middle_is_refused_and_nothing_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let bytes = written(&path, 3);
        // A flipped bit in a payload; in a checksum; in a length.
        for place in [HEADER + 5, 4, 1, 3] {
            let mut damaged = bytes.clone();
            damaged[MAGIC.len() + place] ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            let error = open(&path).unwrap_err();
            assert!(
                matches!(error, LogError::Damaged { offset: 8, .. }),
                "{error}"
            );
            assert_eq!(std::fs::read(&path).unwrap(), damaged);
        }
    }

    #[test]
    fn a_full_log_takes_no_more_and_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let before = written(&path, 2);
        let (mut log, _, _) = open(&path).unwrap();
        let size = (before.len() - MAGIC.len()) as u64 / 2;
        log.limit = before.len() as u64 + size;
        log.append(&record(2)).unwrap();
        let error = log.append(&record(3)).unwrap_err();
        assert!(matches!(error, LogError::Full { .. }), "{error}");
        assert!(error.to_string().contains("in a new home"), "{error}");
        let (_, records, torn) = open(&path).unwrap();
        assert_eq!((records.len(), torn), (3, None));
    }

    #[test]
    fn another_file_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        for text in [b"dear diary".as_slice(), b"MURMDEV1", b"dear"] {
            std::fs::write(&path, text).unwrap();
            assert!(matches!(open(&path), Err(LogError::Foreign { .. })));
            assert_eq!(std::fs::read(&path).unwrap(), text);
        }
    }
}

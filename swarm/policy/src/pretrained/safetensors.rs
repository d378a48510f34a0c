//! Safetensors: one file or several, read tensor by tensor.
//!
//! ```text
//! model.safetensors                      or, of a large model:
//! model.safetensors.index.json           which tensor is in which file
//! model-00001-of-00002.safetensors ...
//! ```

use super::{MOST_JSON, Numbers, Tensors, optional};
use crate::checkpoint::at;
use crate::error::{Error, Result};
use half::bf16;
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

const WHOLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// As in the format's own library.
const MOST_HEADER: u64 = 100_000_000;
/// Bytes that are read at a time.
const CHUNK: usize = 1 << 20;

trait Source: Read + Seek + Send {}
impl<T: Read + Seek + Send> Source for T {}

/// A file that holds tensors.
struct Part<'a> {
    path: Option<PathBuf>,
    source: Box<dyn Source + 'a>,
}

/// Where a tensor is.
struct Place {
    part: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    offset: u64,
}

/// The tensors of one or more safetensors files.
pub(crate) struct Safetensors<'a> {
    parts: Vec<Part<'a>>,
    places: BTreeMap<String, Place>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl<'a> Safetensors<'a> {
    /// The tensors of a file in memory.
    pub(crate) fn of_bytes(bytes: &'a [u8]) -> Result<Self> {
        let mut tensors = Self::empty();
        tensors.add(None, Box::new(Cursor::new(bytes)), bytes.len() as u64)?;
        Ok(tensors)
    }

    /// The tensors of one file.
    pub(crate) fn of_file(path: PathBuf) -> Result<Self> {
        let mut tensors = Self::empty();
        tensors.add_file(path)?;
        Ok(tensors)
    }

    /// The tensors of a folder.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let mut tensors = Self::empty();
        let Some(index) = optional(folder, INDEX, MOST_JSON)? else {
            if !folder.join(WHOLE).exists() {
                return Err(Error::Input(format!(
                    "{} has neither {WHOLE} nor {INDEX}: weights in other formats (.bin, .pt) \
                     can run code when read and are not supported; convert them",
                    folder.display()
                )));
            }
            tensors.add_file(folder.join(WHOLE))?;
            return Ok(tensors);
        };
        let bad = |why: String| Error::Weights(format!("{}: {why}", folder.join(INDEX).display()));
        let index: Index =
            serde_json::from_slice(&index).map_err(|error| bad(error.to_string()))?;
        let mut parts: Vec<&String> = index.weight_map.values().collect();
        parts.sort();
        parts.dedup();
        for name in &parts {
            // A name, not a path: an index must not read elsewhere.
            if Path::new(name).file_name() != Some(name.as_ref()) {
                return Err(bad(format!("{name:?} is not the name of a file")));
            }
            tensors.add_file(folder.join(name))?;
        }
        for (tensor, part) in &index.weight_map {
            let says = tensors
                .places
                .get(tensor)
                .map(|place| parts[place.part].as_str());
            if says != Some(part.as_str()) {
                return Err(bad(format!("tensor {tensor} is not in {part}")));
            }
        }
        Ok(tensors)
    }

    fn empty() -> Self {
        Self {
            parts: Vec::new(),
            places: BTreeMap::new(),
        }
    }

    fn add_file(&mut self, path: PathBuf) -> Result<()> {
        let file = File::open(&path).map_err(at(&path))?;
        let length = file.metadata().map_err(at(&path))?.len();
        self.add(Some(path), Box::new(file), length)
    }

    fn add(
        &mut self,
        path: Option<PathBuf>,
        mut source: Box<dyn Source + 'a>,
        length: u64,
    ) -> Result<()> {
        let within = named(path.as_deref());
        let (metadata, start) = header(source.as_mut(), length)
            .map_err(|why| Error::Weights(format!("{within}not a safetensors file: {why}")))?;
        for (name, info) in metadata.tensors() {
            // Tables that old writers kept; they follow from the configuration.
            if name.ends_with("rotary_emb.inv_freq") {
                continue;
            }
            let place = Place {
                part: self.parts.len(),
                dtype: info.dtype,
                shape: info.shape.clone(),
                offset: start + info.data_offsets.0 as u64,
            };
            if self.places.insert(name.clone(), place).is_some() {
                return Err(Error::Weights(format!(
                    "{within}tensor {name} is in another file as well"
                )));
            }
            if !matches!(info.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
                return Err(Error::Weights(format!(
                    "{within}tensor {name} is of type {:?}, expected f32, f16 or bf16",
                    info.dtype
                )));
            }
        }
        self.parts.push(Part { path, source });
        Ok(())
    }

    /// The files, in order.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        self.parts
            .iter()
            .filter_map(|part| part.path.clone())
            .collect()
    }

    /// The type of the largest tensor.
    pub(super) fn stored(&self) -> String {
        self.places
            .values()
            .max_by_key(|place| place.shape.iter().product::<usize>())
            .map(|place| format!("{:?}", place.dtype).to_lowercase())
            .unwrap_or_default()
    }
}

fn named(path: Option<&Path>) -> String {
    path.map(|path| format!("{}: ", path.display()))
        .unwrap_or_default()
}

/// The header of a file of `length` bytes, and where its tensors begin. Every
/// tensor it lists lies within the file.
fn header(source: &mut dyn Source, length: u64) -> std::result::Result<(Metadata, u64), String> {
    let mut size = [0; 8];
    source
        .read_exact(&mut size)
        .map_err(|_| format!("{length} bytes are too few"))?;
    let size = u64::from_le_bytes(size);
    let rest = length - 8;
    if size > MOST_HEADER || size > rest {
        return Err(format!("its header says it has {size} bytes, of {rest}"));
    }
    let mut bytes = Vec::new();
    source
        .take(size)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    let metadata: Metadata = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    let expected = metadata.data_len() as u64;
    match rest - size == expected {
        true => Ok((metadata, 8 + size)),
        false => Err(format!(
            "its tensors need {expected} bytes, and {} are there: truncated, or not whole",
            rest - size
        )),
    }
}

impl Tensors for Safetensors<'_> {
    fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.places
            .iter()
            .map(|(name, place)| (name.clone(), place.shape.clone()))
            .collect()
    }

    fn place(&self, name: &str) -> Option<String> {
        let part = match self.places.get(name) {
            Some(place) => &self.parts[place.part],
            None => self.parts.first()?,
        };
        Some(part.path.as_ref()?.display().to_string())
    }

    fn read(&mut self, name: &str) -> Result<Numbers> {
        let place = self
            .places
            .get(name)
            .ok_or_else(|| Error::Weights(format!("tensor {name} is missing")))?;
        let part = &mut self.parts[place.part];
        let within = named(part.path.as_deref());
        let count = place.shape.iter().product();
        let source = part.source.as_mut();
        let numbers = source
            .seek(SeekFrom::Start(place.offset))
            .and_then(|_| match place.dtype {
                Dtype::F16 => {
                    let widen = |bytes| half::f16::from_le_bytes(bytes).to_f32();
                    read_all(source, count, widen).map(Numbers::F32)
                }
                Dtype::BF16 => read_all(source, count, bf16::from_le_bytes).map(Numbers::Bf16),
                _ => read_all(source, count, f32::from_le_bytes).map(Numbers::F32),
            });
        numbers.map_err(|error| Error::Weights(format!("{within}tensor {name}: {error}")))
    }
}

/// The next `count` numbers of `WIDTH` bytes each.
fn read_all<T, const WIDTH: usize>(
    source: &mut dyn Source,
    count: usize,
    number: impl Fn([u8; WIDTH]) -> T,
) -> std::io::Result<Vec<T>> {
    let mut values = Vec::with_capacity(count);
    let mut chunk = vec![0; CHUNK.min(count * WIDTH)];
    while values.len() < count {
        let bytes = chunk.len().min((count - values.len()) * WIDTH);
        source.read_exact(&mut chunk[..bytes])?;
        let numbers = chunk[..bytes].as_chunks().0;
        values.extend(numbers.iter().map(|&bytes| number(bytes)));
    }
    Ok(values)
}

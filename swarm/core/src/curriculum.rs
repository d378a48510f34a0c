//! The curriculum: which environments are asked, how often and at which level,
//! and how the swarm's author puts another in its place while the swarm runs.
//!
//! An [`Amendment`] is a whole curriculum, numbered and signed by the author's
//! key, which the manifest names. It says from which round on it holds. It
//! travels by gossip, is kept on disk, and is handed to whoever comes later.

use std::collections::BTreeSet;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use tasks::{EnvId, Registry};

use crate::bounded::at_most;
use crate::ids::{Hash, SwarmId, bytes};
use crate::manifest::{Manifest, ManifestError, invalid, within};
use crate::message::HARD_ROUND;
use crate::refusal::RejectReason;

/// The most courses a curriculum may have.
pub const MAX_COURSES: usize = 256;
/// No curriculum is amended more often.
pub const MAX_AMENDMENTS: u32 = 1 << 20;
/// The most bytes of an amendment, as a file and as a part of an announcement.
pub const MAX_AMENDMENT: usize = 15 * 1024;

/// Signatures of amendments are good for nothing else.
const CONTEXT: &[u8] = b"murmuration curriculum amendment v1\0";

/// An environment at a level, and how often it is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Course {
    /// The environment.
    pub env: EnvId,
    /// The level; the one it begins at, if it climbs.
    pub level: u8,
    /// Its share of the draws, relative to the other courses.
    pub weight: u32,
    /// How its level moves; `None` for a fixed one.
    pub climb: Option<Climb>,
}

/// How a course's level follows the success at it. Between the two shares the
/// level stays, so that it does not swing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Climb {
    /// It goes no lower than this level.
    pub lowest: u8,
    /// It goes no higher than this level.
    pub highest: u8,
    /// One level down when at most so many percent are right.
    pub down: u8,
    /// One level up when at least so many percent are right.
    pub up: u8,
}

/// The file's form of a course: the environment by name or by hash.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileCourse {
    env: String,
    level: u8,
    weight: u32,
    climb: Option<Climb>,
}

/// The file's form of a curriculum alone.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    curriculum: Vec<FileCourse>,
}

/// Reads a curriculum from a file that holds nothing else, in the manifest's form.
///
/// # Errors
/// Not TOML, or a course that cannot be; names the key.
pub fn from_toml(text: &str, registry: &Registry) -> Result<Vec<Course>, ManifestError> {
    let courses = draft(text, registry)?;
    check(&courses, Some(registry))?;
    Ok(courses)
}

/// As [`from_toml`], where environments that are named by hash need not be here.
///
/// # Errors
/// Not TOML, or a course that cannot be anywhere; names the key.
pub fn draft(text: &str, registry: &Registry) -> Result<Vec<Course>, ManifestError> {
    let file: File =
        toml::from_str(text).map_err(|error| ManifestError::Toml(error.to_string()))?;
    let courses = resolved(&file.curriculum, registry)?;
    check(&courses, None)?;
    Ok(courses)
}

/// A curriculum as a file, exact: environments by hash.
pub fn to_toml(courses: &[Course]) -> String {
    let mut text = String::new();
    for course in courses {
        let Course {
            env,
            level,
            weight,
            climb,
        } = course;
        text.push_str(&format!(
            "[[curriculum]]\nenv = \"{}\"\nlevel = {level}\nweight = {weight}\n",
            env.to_hex()
        ));
        if let Some(Climb {
            lowest,
            highest,
            down,
            up,
        }) = climb
        {
            text.push_str(&format!(
                "climb = {{ lowest = {lowest}, highest = {highest}, down = {down}, up = {up} }}\n"
            ));
        }
    }
    text
}

/// What names a curriculum, whenever and by whomever it is asked for: what a vote on chain
/// is about.
pub fn hash(courses: &[Course]) -> Hash {
    let mut hasher = blake3::Hasher::new_derive_key("murmuration curriculum v1");
    let bytes = postcard::to_stdvec(courses);
    hasher.update(&bytes.expect("courses are plain data and a vector takes any length"));
    Hash(*hasher.finalize().as_bytes())
}

/// Looks environments up by name or hash.
pub(crate) fn resolved(
    courses: &[FileCourse],
    registry: &Registry,
) -> Result<Vec<Course>, ManifestError> {
    let resolve = |(index, course): (usize, &FileCourse)| {
        let env = match course.env.parse::<EnvId>() {
            Ok(id) => id,
            Err(_) => registry
                .by_name(&course.env)
                .ok_or_else(|| {
                    invalid(
                        &format!("curriculum[{index}].env"),
                        format!("no environment is named {:?}", course.env),
                    )
                })?
                .manifest()
                .id(),
        };
        Ok(Course {
            env,
            level: course.level,
            weight: course.weight,
            climb: course.climb,
        })
    };
    courses.iter().enumerate().map(resolve).collect()
}

/// Checks courses against each other and, with a registry, against the
/// environments, all of which must be in it.
pub(crate) fn check(courses: &[Course], registry: Option<&Registry>) -> Result<(), ManifestError> {
    let count = courses.len() as u64;
    within("curriculum (length)", count, 1, MAX_COURSES as u64)?;
    for (index, course) in courses.iter().enumerate() {
        let key = |field: &str| format!("curriculum[{index}].{field}");
        let levels = match registry {
            None => u64::from(u8::MAX),
            Some(registry) => {
                let environment = registry.get(&course.env).ok_or_else(|| {
                    invalid(&key("env"), format!("no environment {} here", course.env))
                })?;
                environment.manifest().levels.len() as u64
            }
        };
        let (mut lowest, mut highest) = (1, levels);
        if let Some(climb) = course.climb {
            within(&key("climb.highest"), climb.highest.into(), 1, levels)?;
            let top = climb.highest.into();
            within(&key("climb.lowest"), climb.lowest.into(), 1, top)?;
            within(&key("climb.up"), climb.up.into(), 1, 100)?;
            let below_up = u64::from(climb.up) - 1;
            within(&key("climb.down"), climb.down.into(), 0, below_up)?;
            (lowest, highest) = (climb.lowest.into(), top);
        }
        within(&key("level"), course.level.into(), lowest, highest)?;
        within(&key("weight"), course.weight.into(), 1, 1_000_000)?;
    }
    Ok(())
}

/// Another curriculum, by the word of the swarm's author.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amendment {
    /// Which swarm's.
    pub swarm: SwarmId,
    /// Counted from 1: of two that hold in a round, the higher one does.
    pub number: u32,
    /// The first round in which it holds.
    pub from: u64,
    /// The whole curriculum.
    #[serde(deserialize_with = "at_most::<_, _, MAX_COURSES>")]
    pub courses: Vec<Course>,
    /// ed25519, by the author's key.
    #[serde(with = "bytes")]
    pub signature: [u8; 64],
}

impl Amendment {
    /// Signs a curriculum as the swarm's author.
    pub fn sign(
        key: &SigningKey,
        swarm: SwarmId,
        number: u32,
        from: u64,
        courses: Vec<Course>,
    ) -> Self {
        let mut amendment = Self {
            swarm,
            number,
            from,
            courses,
            signature: [0; 64],
        };
        amendment.signature = key.sign(&amendment.signed()).to_bytes();
        amendment
    }

    fn signed(&self) -> Vec<u8> {
        let terms = (self.swarm, self.number, self.from, &self.courses);
        postcard::to_extend(&terms, CONTEXT.to_vec())
            .expect("terms are plain data and a vector takes any length")
    }

    /// Whether the swarm's author said this, and it can be asked. Whether its
    /// environments are known here is another matter.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, manifest: &Manifest) -> Result<(), RejectReason> {
        let refuse = |why: &str| Err(RejectReason::Amendment(why.to_owned()));
        let Some(author) = manifest.author else {
            return refuse("this swarm's curriculum is nobody's to change");
        };
        if self.swarm != manifest.id() {
            return refuse("of another swarm");
        }
        let by_author = VerifyingKey::from_bytes(author.as_bytes()).and_then(|key| {
            key.verify_strict(&self.signed(), &Signature::from_bytes(&self.signature))
        });
        if by_author.is_err() {
            return refuse("not signed by the swarm's author");
        }
        if !(1..=MAX_AMENDMENTS).contains(&self.number) || self.from > HARD_ROUND {
            return refuse("no amendment has this number, or no round this one");
        }
        check(&self.courses, None).map_err(|error| RejectReason::Amendment(error.to_string()))
    }

    /// The bytes that are kept.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("an amendment is plain data and a vector takes any length")
    }

    /// Reads what [`encode`](Self::encode) wrote, and nothing else.
    ///
    /// # Errors
    /// [`RejectReason::Oversize`], [`RejectReason::Malformed`] or
    /// [`RejectReason::NotCanonical`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RejectReason> {
        if bytes.len() > MAX_AMENDMENT {
            return Err(RejectReason::Oversize {
                bytes: bytes.len(),
                limit: MAX_AMENDMENT,
            });
        }
        let amendment: Self = postcard::from_bytes(bytes)
            .map_err(|error| RejectReason::Malformed(error.to_string()))?;
        if amendment.encode() != bytes {
            return Err(RejectReason::NotCanonical);
        }
        Ok(amendment)
    }

    /// What tells it from another of the same number.
    pub fn hash(&self) -> Hash {
        Hash::of(&self.encode())
    }

    /// The environments it names.
    pub fn environments(&self) -> BTreeSet<EnvId> {
        self.courses.iter().map(|course| course.env).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::PeerId;
    use crate::sim;

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[5; 32])
    }

    fn authored() -> Manifest {
        Manifest {
            author: Some(PeerId(key().verifying_key().to_bytes())),
            ..sim::manifest()
        }
    }

    fn amendment(manifest: &Manifest) -> Amendment {
        let courses = manifest.curriculum[..2].to_vec();
        Amendment::sign(&key(), manifest.id(), 1, 7, courses)
    }

    fn refusal(amendment: &Amendment, manifest: &Manifest) -> String {
        amendment.check(manifest).unwrap_err().to_string()
    }

    #[test]
    fn a_curriculum_is_written_and_read_back_to_the_same_hash() {
        let mut courses = sim::manifest().curriculum;
        courses[0].climb = Some(Climb {
            lowest: 1,
            highest: 3,
            down: 20,
            up: 80,
        });
        // Whoever reads it need not have its environments.
        courses[1].env = EnvId([9; 32]);
        let text = to_toml(&courses);
        let back = draft(&text, &Registry::builtin()).unwrap();
        assert_eq!(back, courses);
        assert_eq!(hash(&back), hash(&courses));
        assert!(from_toml(&text, &Registry::builtin()).is_err());
        courses[0].weight += 1;
        assert_ne!(hash(&back), hash(&courses));
    }

    #[test]
    fn only_the_author_amends_and_only_its_own_swarm() {
        let manifest = authored();
        let good = amendment(&manifest);
        assert_eq!(good.check(&manifest), Ok(()));
        let mut changed = good.clone();
        changed.courses[0].weight += 1;
        assert!(refusal(&changed, &manifest).contains("not signed"));
        let other = SigningKey::from_bytes(&[6; 32]);
        let forged = Amendment::sign(&other, manifest.id(), 1, 7, good.courses.clone());
        assert!(refusal(&forged, &manifest).contains("not signed"));
        let mut elsewhere = manifest.clone();
        elsewhere.name = "another".into();
        assert!(refusal(&good, &elsewhere).contains("another swarm"));
        assert!(refusal(&good, &sim::manifest()).contains("nobody's"));
    }

    #[test]
    fn a_curriculum_that_cannot_be_asked_is_refused_whoever_signed_it() {
        let manifest = authored();
        let mut courses = manifest.curriculum[..1].to_vec();
        let sign = |number, courses: &[Course]| {
            Amendment::sign(&key(), manifest.id(), number, 7, courses.to_vec())
        };
        assert!(refusal(&sign(1, &[]), &manifest).contains("curriculum (length)"));
        assert!(refusal(&sign(0, &courses), &manifest).contains("number"));
        courses[0].climb = Some(Climb {
            lowest: 1,
            highest: 3,
            down: 80,
            up: 80,
        });
        assert!(refusal(&sign(1, &courses), &manifest).contains("climb.down"));
    }

    #[test]
    fn only_the_bytes_of_an_amendment_are_one() {
        let good = amendment(&authored());
        let bytes = good.encode();
        assert_eq!(Amendment::decode(&bytes), Ok(good.clone()));
        for length in 0..bytes.len() {
            assert!(Amendment::decode(&bytes[..length]).is_err(), "{length}");
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert_eq!(Amendment::decode(&longer), Err(RejectReason::NotCanonical));
        // The largest is no larger than is said.
        let course = Course {
            weight: 1_000_000,
            climb: Some(Climb {
                lowest: 200,
                highest: 250,
                down: 10,
                up: 90,
            }),
            level: 220,
            ..good.courses[0]
        };
        let manifest = authored();
        let full = Amendment::sign(&key(), manifest.id(), 1, 7, vec![course; MAX_COURSES]);
        assert_eq!(full.check(&manifest), Ok(()));
        assert!(full.encode().len() <= MAX_AMENDMENT);
    }
}

//! Identifiers: newtypes with a short `Display` and the full form in files.
//!
//! Human-readable formats (JSON, TOML) carry lower-case hex, binary formats
//! (postcard) the raw bytes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A string was not the hex form of an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} must be {expected} hex digits, got {got:?}")]
pub struct ParseIdError {
    kind: &'static str,
    expected: usize,
    got: String,
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; $bytes]);

        impl $name {
            /// The raw bytes.
            pub fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }

            /// The full lower-case hex form, as files hold it.
            pub fn to_hex(&self) -> String {
                hex::encode(self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let hex = self.to_hex();
                f.pad(&format!("{}…{}", &hex[..4], &hex[hex.len() - 3..]))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let digits = text.strip_prefix("0x").unwrap_or(text);
                let mut bytes = [0; $bytes];
                hex::decode_to_slice(digits, &mut bytes).map_err(|_| ParseIdError {
                    kind: $kind,
                    expected: 2 * $bytes,
                    got: text.chars().take(80).collect(),
                })?;
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.serialize_str(&self.to_hex())
                } else {
                    bytes::serialize(&self.0, serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                    text.parse().map_err(serde::de::Error::custom)
                } else {
                    bytes::deserialize(deserializer).map(Self)
                }
            }
        }
    };
}

hex_id!(
    /// A peer: its ed25519 public key, which is also its iroh endpoint id.
    PeerId, 32, "a peer id"
);
hex_id!(
    /// A BLAKE3 hash of a body, a manifest or a checkpoint.
    Hash, 32, "a hash"
);
hex_id!(
    /// A swarm: the hash of its canonical manifest.
    SwarmId, 32, "a swarm id"
);
hex_id!(
    /// An Ethereum address, who owns a peer's reputation.
    Address, 20, "an address"
);
hex_id!(
    /// Public randomness of a round, fixed by the chain.
    Beacon, 32, "a beacon"
);
hex_id!(
    /// A transaction hash on the rollup (keccak-256).
    TxHash, 32, "a transaction hash"
);

impl Hash {
    /// The BLAKE3 hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl PeerId {
    /// A two-word name a person can remember, derived from the key alone. It
    /// is a label: two peers may share one, identity is the key.
    pub fn nickname(&self) -> String {
        const FIRST: [&str; 32] = [
            "amber", "brisk", "calm", "dusky", "eager", "fleet", "glad", "hardy", "ivory", "jolly",
            "keen", "lucid", "merry", "noble", "olive", "proud", "quick", "rapid", "sable",
            "tawny", "umber", "vivid", "wary", "young", "zesty", "bold", "crisp", "dapper",
            "frosty", "gentle", "humble", "misty",
        ];
        const SECOND: [&str; 32] = [
            "avocet", "bunting", "curlew", "dunlin", "egret", "finch", "grebe", "heron", "ibis",
            "jay", "kestrel", "lark", "martin", "nuthatch", "osprey", "pipit", "quail", "raven",
            "starling", "tern", "veery", "wren", "siskin", "plover", "oriole", "merlin", "linnet",
            "knot", "godwit", "dipper", "crane", "brant",
        ];
        let digest = blake3::hash(&self.0);
        let [a, b, ..] = digest.as_bytes();
        format!(
            "{}-{}",
            FIRST[usize::from(a % 32)],
            SECOND[usize::from(b % 32)]
        )
    }
}

/// Arrays as fixed tuples: postcard then writes the bytes with no length.
pub(crate) mod bytes {
    use super::{Deserializer, Serializer};
    use serde::ser::SerializeTuple;

    pub(crate) fn serialize<S: Serializer, const N: usize>(
        bytes: &[u8; N],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(N)?;
        for byte in bytes {
            tuple.serialize_element(byte)?;
        }
        tuple.end()
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        deserializer: D,
    ) -> Result<[u8; N], D::Error> {
        struct Visitor<const N: usize>;
        impl<'de, const N: usize> serde::de::Visitor<'de> for Visitor<N> {
            type Value = [u8; N];

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{N} bytes")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut sequence: A,
            ) -> Result<[u8; N], A::Error> {
                let mut bytes = [0; N];
                for (index, byte) in bytes.iter_mut().enumerate() {
                    *byte = sequence
                        .next_element::<u8>()?
                        .ok_or_else(|| serde::de::Error::invalid_length(index, &self))?;
                }
                Ok(bytes)
            }
        }
        deserializer.deserialize_tuple(N, Visitor::<N>)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_from_json_and_from_postcard() {
        let peer = PeerId([7; 32]);
        let json = serde_json::to_string(&peer).unwrap();
        assert_eq!(json, format!("\"{}\"", "07".repeat(32)));
        assert_eq!(serde_json::from_str::<PeerId>(&json).unwrap(), peer);
        let packed = postcard::to_stdvec(&peer).unwrap();
        assert_eq!(packed, [7; 32]);
        assert_eq!(postcard::from_bytes::<PeerId>(&packed).unwrap(), peer);
    }

    #[test]
    fn a_bad_id_says_what_it_should_be() {
        let error = "zz".parse::<Address>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "an address must be 40 hex digits, got \"zz\""
        );
    }

    #[test]
    fn the_short_form_is_eight_characters() {
        assert_eq!(Hash([0xab; 32]).to_string(), "abab…bab");
    }
}

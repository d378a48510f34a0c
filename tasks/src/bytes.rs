//! 32-byte names: hexadecimal where people read, bytes where machines do.

/// A text that is not 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not 64 hexadecimal digits")]
pub struct ParseBytesError;

/// The hexadecimal form of 32 bytes.
pub(crate) fn to_hex(bytes: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*bytes).to_hex().to_string()
}

/// 32 bytes from their hexadecimal form.
pub(crate) fn from_hex(text: &str) -> Result<[u8; 32], ParseBytesError> {
    blake3::Hash::from_hex(text)
        .map(|hash| *hash.as_bytes())
        .map_err(|_| ParseBytesError)
}

/// Gives a newtype over `[u8; 32]` its text and wire forms.
macro_rules! bytes32 {
    ($name:ident) => {
        impl $name {
            /// All 64 hexadecimal digits.
            #[must_use]
            pub fn to_hex(&self) -> String {
                $crate::bytes::to_hex(&self.0)
            }
        }

        impl std::fmt::Display for $name {
            /// The short form, `3f9a…c21`.
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let hex = self.to_hex();
                write!(f, "{}…{}", &hex[..4], &hex[61..])
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::bytes::ParseBytesError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $crate::bytes::from_hex(text).map($name)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.serialize_str(&self.to_hex())
                } else {
                    self.0.serialize(serializer)
                }
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                    text.parse().map_err(serde::de::Error::custom)
                } else {
                    <[u8; 32]>::deserialize(deserializer).map($name)
                }
            }
        }
    };
}

pub(crate) use bytes32;

//! What goes into the sandbox and comes out of it: names and values in turn,
//! each text after its length as four bytes, the lowest first.

/// A request, or a reply to take apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(String, String)>);

/// Why bytes are not fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FieldsError {
    /// A text is shorter than its length says, or has no value.
    #[error("a torn message")]
    Torn,
    /// Not UTF-8.
    #[error("a message that is not UTF-8")]
    NotText,
}

impl Fields {
    /// The same fields and one more.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Fields {
        self.0.push((name.to_owned(), value.into()));
        self
    }

    /// The first value of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut named = self.0.iter().filter(|(key, _)| key == name);
        named.next().map(|(_, value)| value.as_str())
    }

    /// All values of a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.0.iter().filter(move |(key, _)| key == name);
        named.map(|(_, value)| value.as_str())
    }

    /// The bytes that cross the border.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, value) in &self.0 {
            for text in [name, value] {
                let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
                bytes.extend(length.to_le_bytes());
                bytes.extend(text.as_bytes());
            }
        }
        bytes
    }

    /// Takes bytes apart; they may be anything.
    pub fn decode(mut bytes: &[u8]) -> Result<Fields, FieldsError> {
        let mut texts = Vec::new();
        while !bytes.is_empty() {
            let (length, rest) = bytes.split_first_chunk::<4>().ok_or(FieldsError::Torn)?;
            let length = u32::from_le_bytes(*length) as usize;
            let (text, rest) = rest.split_at_checked(length).ok_or(FieldsError::Torn)?;
            let text = std::str::from_utf8(text).map_err(|_| FieldsError::NotText)?;
            texts.push(text.to_owned());
            bytes = rest;
        }
        if texts.len() % 2 == 1 {
            return Err(FieldsError::Torn);
        }
        let mut fields = Vec::new();
        let mut texts = texts.into_iter();
        while let (Some(name), Some(value)) = (texts.next(), texts.next()) {
            fields.push((name, value));
        }
        Ok(Fields(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_and_torn_ones_do_not() {
        let fields = Fields::default()
            .with("a", "1")
            .with("a", "")
            .with("b", "\u{e9}");
        let bytes = fields.encode();
        assert_eq!(Fields::decode(&bytes), Ok(fields.clone()));
        assert_eq!(fields.all("a").collect::<Vec<_>>(), ["1", ""]);
        for cut in 1..bytes.len() {
            if let Ok(shorter) = Fields::decode(&bytes[..cut]) {
                assert_eq!(shorter.encode(), &bytes[..cut]);
            }
        }
        let huge = [0xff, 0xff, 0xff, 0xff, b'x'];
        assert_eq!(Fields::decode(&huge), Err(FieldsError::Torn));
    }
}

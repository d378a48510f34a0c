//! Sequences that are refused before they are held: a decoder that meets more
//! elements than the limit stops there, whatever length the bytes claim.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

/// Reads at most `N` elements.
pub(crate) fn at_most<'de, D, T, const N: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Bounded<T, const N: usize>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Bounded<T, N> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {N} elements")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<T>, A::Error> {
            let mut elements = Vec::new();
            while let Some(element) = sequence.next_element()? {
                if elements.len() == N {
                    return Err(A::Error::invalid_length(N + 1, &self));
                }
                elements.push(element);
            }
            Ok(elements)
        }
    }

    deserializer.deserialize_seq(Bounded::<T, N>(PhantomData))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    #[derive(Deserialize, Debug)]
    struct Three(#[serde(deserialize_with = "super::at_most::<_, _, 3>")] Vec<u8>);

    #[test]
    fn a_length_that_is_only_claimed_costs_nothing() {
        // Four billion elements, of which none follows.
        let claimed = [0xff, 0xff, 0xff, 0xff, 0x0f];
        assert!(postcard::from_bytes::<Three>(&claimed).is_err());
        assert_eq!(
            postcard::from_bytes::<Three>(&[3, 7, 8, 9]).unwrap().0,
            [7, 8, 9]
        );
        assert!(postcard::from_bytes::<Three>(&[4, 7, 8, 9, 9]).is_err());
    }
}

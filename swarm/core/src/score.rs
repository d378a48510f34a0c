//! From a judged round to the rows that witnesses sign.

/// What a card holds for a peer that its witness does not score: itself.
pub const UNSCORED: u32 = u32::MAX;

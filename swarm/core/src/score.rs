//! From a judged round to the rows that witnesses sign and people read.

use std::collections::BTreeMap;

use rewards::Scoreboard;

use crate::event::ScoreRow;
use crate::ids::{Address, PeerId};

/// What a card holds for a peer that its witness does not score: itself.
pub const UNSCORED: u32 = u32::MAX;

/// The scores that are signed, by address. Peers that name the same address
/// are scored once, as the best of them: an address is one voice.
pub fn rows(
    board: &Scoreboard<PeerId>,
    addresses: &BTreeMap<PeerId, Address>,
) -> BTreeMap<Address, u32> {
    let mut rows: BTreeMap<Address, u32> = BTreeMap::new();
    for (peer, address) in addresses {
        let score = board.contribution(peer).0;
        let row = rows.entry(*address).or_default();
        *row = score.max(*row);
    }
    rows
}

/// The rows as one witness signs them: nobody scores itself.
pub fn card(rows: &BTreeMap<Address, u32>, witness: Address) -> Vec<(Address, u32)> {
    rows.iter()
        .map(|(address, score)| {
            let own = *address == witness;
            (*address, if own { UNSCORED } else { *score })
        })
        .collect()
}

/// The rows as people read them.
pub fn shown(board: &Scoreboard<PeerId>) -> Vec<ScoreRow> {
    board
        .peers
        .iter()
        .map(|(peer, score)| ScoreRow {
            peer: *peer,
            score_ppm: score.contribution.0,
            reward_ppm: score.reward.0,
            accuracy_ppm: score.accuracy.0,
            why: score.why.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_scores_itself_and_an_address_is_one_voice() {
        let board = rewards::judge(
            &tasks::Registry::builtin(),
            &rewards::Included::default(),
            &rewards::JudgeSettings::default(),
        );
        let [one, other] = [Address([1; 20]), Address([2; 20])];
        let addresses = BTreeMap::from([
            (PeerId([1; 32]), one),
            (PeerId([2; 32]), other),
            (PeerId([3; 32]), other),
        ]);
        let rows = rows(&board, &addresses);
        assert_eq!(rows, BTreeMap::from([(one, 0), (other, 0)]));
        assert_eq!(card(&rows, one), [(one, UNSCORED), (other, 0)]);
        assert_eq!(card(&rows, Address([9; 20])), [(one, 0), (other, 0)]);
    }
}

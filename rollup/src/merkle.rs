//! The tree over a round's scores, as the ledger builds it, to check the ledger by: leaves
//! hashed twice, pairs in order of value (so that a proof needs no places), a node without
//! a partner moved up.

use alloy::primitives::{B256, keccak256};
use alloy::sol_types::SolValue;

use crate::contracts::abi::ledger::IReputationLedger::Score;

/// The leaf of one peer's line.
pub(crate) fn leaf(score: &Score) -> B256 {
    let line = (score.peer, score.score, score.reputation, score.uncertainty);
    keccak256(keccak256(line.abi_encode()))
}

/// A tree of hashes, from its leaves to its root.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    levels: Vec<Vec<B256>>,
}

impl Tree {
    /// The tree over at least one leaf; over none, its root is zero.
    pub(crate) fn new(leaves: Vec<B256>) -> Self {
        let mut levels = vec![leaves];
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            let above = below.chunks(2).map(|pair| match pair {
                [one, other] => {
                    let (first, second) = (one.min(other), one.max(other));
                    keccak256([first.0, second.0].concat())
                }
                alone => alone[0],
            });
            levels.push(above.collect());
        }
        Self { levels }
    }

    pub(crate) fn root(&self) -> B256 {
        let top = self.levels.last().and_then(|level| level.first());
        top.copied().unwrap_or_default()
    }

    /// The hashes that lead from a leaf to the root.
    pub(crate) fn proof(&self, mut place: usize) -> Vec<B256> {
        let mut proof = Vec::new();
        for level in &self.levels {
            proof.extend(level.get(place ^ 1).filter(|_| level.len() > 1));
            place /= 2;
        }
        proof
    }
}

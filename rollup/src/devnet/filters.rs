//! Filters that are installed and asked again and again: for those who cannot subscribe.

use std::collections::VecDeque;

use alloy::rpc::types as rpc;

/// Filters there may be; whoever installs one more drops the one that was longest not asked.
const LIMIT: usize = 256;

/// What a filter looks for.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Logs(Box<rpc::Filter>),
    Blocks,
    Transactions,
}

#[derive(Debug)]
struct Installed {
    id: u64,
    kind: Kind,
    /// The first block that it has not told of.
    next: u64,
}

/// The filters, the one asked last at the back.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    made: u64,
    installed: VecDeque<Installed>,
}

impl Filters {
    /// Installs one that tells of what comes after `height`; its id.
    pub(crate) fn install(&mut self, kind: Kind, height: u64) -> u64 {
        self.made += 1;
        if self.installed.len() >= LIMIT {
            self.installed.pop_front();
        }
        self.installed.push_back(Installed {
            id: self.made,
            kind,
            next: height + 1,
        });
        self.made
    }

    /// What a filter looks for, and from which block on: up to `height` is told now.
    pub(crate) fn ask(&mut self, id: u64, height: u64) -> Option<(Kind, u64)> {
        let place = self.installed.iter().position(|filter| filter.id == id)?;
        let mut filter = self.installed.remove(place)?;
        let from = filter.next;
        filter.next = height + 1;
        let kind = filter.kind.clone();
        self.installed.push_back(filter);
        Some((kind, from))
    }

    /// What a filter looks for.
    pub(crate) fn kind(&self, id: u64) -> Option<Kind> {
        let filter = self.installed.iter().find(|filter| filter.id == id);
        filter.map(|filter| filter.kind.clone())
    }

    /// Removes one; false if there is none.
    pub(crate) fn remove(&mut self, id: u64) -> bool {
        let before = self.installed.len();
        self.installed.retain(|filter| filter.id != id);
        self.installed.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_tells_of_each_block_once_and_the_longest_unasked_goes_first() {
        let mut filters = Filters::default();
        let first = filters.install(Kind::Blocks, 5);
        assert_eq!(filters.ask(first, 7).map(|(_, from)| from), Some(6));
        assert_eq!(filters.ask(first, 7).map(|(_, from)| from), Some(8));
        let others: Vec<_> = (1..LIMIT)
            .map(|_| filters.install(Kind::Blocks, 7))
            .collect();
        filters.ask(first, 8);
        filters.install(Kind::Transactions, 8);
        assert!(filters.kind(first).is_some() && filters.kind(others[0]).is_none());
        assert!(filters.remove(first) && !filters.remove(first));
    }
}

//! The state as it was: what each of the newest blocks changed, to be taken back.

use std::collections::HashMap;
use std::convert::Infallible;

use alloy::primitives::{Address, B256, Bytes, U256};
use revm::DatabaseRef;
use revm::database::{CacheDB, EmptyDB};
use revm::state::{AccountInfo, Bytecode};

/// Blocks whose state can still be asked for: what wallets and explorers look back, at a
/// few kilobytes each.
pub(crate) const KEPT: usize = 128;

/// What was in the places that a block changed.
#[derive(Debug, Default)]
pub(crate) struct Undo {
    pub(crate) accounts: Vec<(Address, Option<AccountInfo>)>,
    pub(crate) storage: Vec<((Address, U256), U256)>,
}

/// A state: the newest, with some of the newest blocks taken back.
pub(crate) struct Past<'a> {
    now: &'a CacheDB<EmptyDB>,
    accounts: HashMap<Address, Option<AccountInfo>>,
    storage: HashMap<(Address, U256), U256>,
}

impl<'a> Past<'a> {
    /// Takes back what `undone` tells of, the newest block last.
    pub(crate) fn before<'u>(
        now: &'a CacheDB<EmptyDB>,
        undone: impl DoubleEndedIterator<Item = &'u Undo>,
    ) -> Self {
        let mut past = Self {
            now,
            accounts: HashMap::new(),
            storage: HashMap::new(),
        };
        for undo in undone.rev() {
            past.accounts.extend(undo.accounts.iter().cloned());
            past.storage.extend(undo.storage.iter().copied());
        }
        past
    }

    pub(crate) fn account(&self, address: Address) -> AccountInfo {
        let Ok(account) = self.basic_ref(address);
        account.unwrap_or_default()
    }

    pub(crate) fn code(&self, address: Address) -> Bytes {
        let account = self.account(address);
        let Ok(code) = self.code_by_hash_ref(account.code_hash);
        account.code.unwrap_or(code).original_bytes()
    }

    pub(crate) fn storage(&self, address: Address, slot: U256) -> U256 {
        let Ok(value) = self.storage_ref(address, slot);
        value
    }

    /// Every account there is.
    pub(crate) fn accounts(&self) -> impl Iterator<Item = (Address, AccountInfo)> {
        // What was there and is not any more, as an account that destroyed itself.
        let gone = self.accounts.keys();
        let gone = gone.filter(|address| !self.now.cache.accounts.contains_key(*address));
        let addresses = self.now.cache.accounts.keys().chain(gone);
        addresses.map(|&address| (address, self.account(address)))
    }

    /// Every slot of an account's storage that was ever written.
    pub(crate) fn slots(&self, address: Address) -> impl Iterator<Item = (U256, U256)> {
        let slots = self.now.cache.accounts.get(&address);
        let slots = slots.into_iter().flat_map(|account| account.storage.keys());
        slots.map(move |&slot| (slot, self.storage(address, slot)))
    }
}

impl DatabaseRef for Past<'_> {
    type Error = Infallible;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, Infallible> {
        match self.accounts.get(&address) {
            Some(was) => Ok(was.clone()),
            None => self.now.basic_ref(address),
        }
    }

    fn code_by_hash_ref(&self, hash: B256) -> Result<Bytecode, Infallible> {
        self.now.code_by_hash_ref(hash)
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, Infallible> {
        match self.storage.get(&(address, slot)) {
            Some(was) => Ok(*was),
            None => self.now.storage_ref(address, slot),
        }
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, Infallible> {
        self.now.block_hash_ref(number)
    }
}

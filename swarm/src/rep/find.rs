//! Whom a user means: a name, an address, an iroh id, or a beginning of one.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use rollup::{Reputation, checksummed};

/// Names by address, for lines that people read.
#[derive(Debug, Clone, Default)]
pub struct Names(BTreeMap<[u8; 20], String>);

impl Names {
    /// Those of a swarm's members.
    pub fn of(members: &[Reputation]) -> Self {
        let named = |member: &Reputation| (member.address, shown(&member.name));
        Self(members.iter().map(named).collect())
    }

    /// A peer as people read it: its name, or its address.
    pub fn of_address(&self, address: [u8; 20]) -> String {
        match self.0.get(&address) {
            Some(name) if !name.is_empty() => name.clone(),
            _ => checksummed(address),
        }
    }
}

/// A name as a terminal may show it: peers choose their own.
pub fn shown(name: &str) -> String {
    tui::text::fit(name, 32)
}

/// The one member that is meant.
///
/// # Errors
/// Nobody is, or several are; says whom it could be.
pub fn find<'a>(members: &'a [Reputation], wanted: &str) -> Result<&'a Reputation> {
    let text = wanted.trim().to_lowercase();
    let digits = text.strip_prefix("0x").unwrap_or(&text);
    let keys = |member: &Reputation| {
        [
            Some(hex::encode(member.address)),
            member.iroh_key.map(hex::encode),
        ]
    };
    let exact = |member: &&Reputation| {
        member.name.to_lowercase() == text
            || keys(member).into_iter().flatten().any(|key| key == digits)
    };
    let begins = |member: &&Reputation| {
        let name = !text.is_empty() && member.name.to_lowercase().starts_with(&text);
        let key = !digits.is_empty();
        name || key
            && keys(member)
                .into_iter()
                .flatten()
                .any(|one| one.starts_with(digits))
    };
    let mut fitting: Vec<&Reputation> = members.iter().filter(exact).collect();
    if fitting.is_empty() {
        fitting = members.iter().filter(begins).collect();
    }
    match fitting[..] {
        [one] => Ok(one),
        [] => bail!(
            "no member is called {}, by name, address or iroh id; `murmur rep top` lists them",
            shown(wanted)
        ),
        _ => {
            let could: Vec<String> = fitting
                .iter()
                .take(6)
                .map(|one| format!("{} ({})", shown(&one.name), checksummed(one.address)))
                .collect();
            bail!(
                "{} members fit {}: {}; give more of it, or the address",
                fitting.len(),
                shown(wanted),
                could.join(", ")
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, byte: u8) -> Reputation {
        Reputation {
            address: [byte; 20],
            iroh_key: Some([byte + 1; 32]),
            name: name.to_owned(),
            score: 0,
            uncertainty: 0,
            weight: 0,
            rounds: 0,
            active: true,
            missed: 0,
            faults: 0,
        }
    }

    #[test]
    fn a_peer_is_found_by_name_address_iroh_id_or_a_beginning() {
        let all = [member("calm-wren", 0x11), member("calm-wren-2", 0x2b)];
        let found = |wanted: &str| find(&all, wanted).map(|one| one.address[0]).ok();
        assert_eq!(
            found("calm-wren"),
            Some(0x11),
            "an exact name beats a beginning"
        );
        assert_eq!(found("CALM-WREN-"), Some(0x2b));
        assert_eq!(found("0x1111"), Some(0x11));
        assert_eq!(found("2c2c"), Some(0x2b), "the iroh id");
        assert_eq!(found(&format!("0x{}", "2b".repeat(20))), Some(0x2b));
        assert_eq!((found("calm"), found("x"), found("")), (None, None, None));
        let error = find(&all, "calm").unwrap_err().to_string();
        assert!(
            error.contains("2 members fit") && error.contains("calm-wren-2"),
            "{error}"
        );
    }

    #[test]
    fn a_name_cannot_move_the_cursor() {
        let all = [member("\u{1b}[2Jbad", 1)];
        let names = Names::of(&all);
        assert!(!names.of_address([1; 20]).contains('\u{1b}'));
        assert!(names.of_address([9; 20]).starts_with("0x0909"));
    }
}

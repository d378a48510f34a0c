//! What everything costs: GAS.md, made and compared here. Gas is exact, so it never
//! flickers; a change of the contracts that makes a round dearer changes the table.

use std::fmt::Write as _;

use super::*;
use crate::merkle;
use crate::scorecard::RootCard;

/// An assumed price of gas on the rollup, in thousandths of a gwei.
const ROLLUP_GAS_MILLIGWEI: u64 = 10;
/// An assumed price of a byte on the layer below, in gwei.
const DATA_BYTE_GWEI: u64 = 1;
/// An assumed price of gas on Ethereum itself, in gwei.
const ETHEREUM_GAS_GWEI: u64 = 10;
/// An assumed price of ether, in dollars.
const ETHER_DOLLARS: f64 = 3_000.0;

struct Row {
    what: String,
    gas: u64,
    bytes: usize,
    /// Among how many peers the cost divides.
    peers: u64,
}

impl Row {
    fn per_peer(&self) -> u64 {
        self.gas.div_ceil(self.peers)
    }

    fn line(&self) -> String {
        let rollup_gwei =
            self.gas * ROLLUP_GAS_MILLIGWEI / 1000 + self.bytes as u64 * DATA_BYTE_GWEI;
        let dollars = |gwei: u64| gwei as f64 * 1e-9 * ETHER_DOLLARS;
        let each = match self.peers {
            1 => String::new(),
            _ => self.per_peer().to_string(),
        };
        format!(
            "| {} | {} | {each} | {} | {rollup_gwei} | {:.3} | {:.2} |",
            self.what,
            self.gas,
            self.bytes,
            dollars(rollup_gwei),
            dollars(self.gas * ETHEREUM_GAS_GWEI),
        )
    }
}

impl World {
    fn priced(&mut self, what: &str, peers: u64, from: usize, to: Address, input: Bytes) -> Row {
        let bytes = input.len();
        let gas = self.raw(from, to, input).unwrap().gas;
        Row {
            what: what.to_owned(),
            gas,
            bytes,
            peers,
        }
    }
}

/// A world's second round, in which no storage is written for the first time.
///
/// Scores follow from what a round included, so real witnesses are of one mind; `noise` is
/// what it costs if no two of them are.
fn settled(scored: u64, witnesses: u64, noise: u64) -> [Row; 2] {
    let mut world = World::new(witnesses, LOCAL);
    // The witnesses are scored too; the others never joined, which costs the same.
    let mut about: Vec<_> = (0..scored)
        .map(|peer| match peer < witnesses {
            true => world.address(peer as usize).into_array(),
            false => key(peer + 100).address().into_array(),
        })
        .collect();
    about.sort_unstable();
    let (ledger, swarm) = (world.at.ledger, world.swarm);
    let mut rows = Vec::new();
    for round in 1..=2 {
        let opening = L::openRoundCall { swarm, round }.abi_encode().into();
        let what = format!("open a round of {witnesses} witnesses");
        let opened = world.priced(&what, 1, 0, ledger, opening);
        let cards: Vec<_> = (0..witnesses)
            .map(|witness| {
                let scores = about.iter().zip(0u64..).map(|(peer, place)| {
                    let noise = noise * ((place * 7919 + witness * 104_729) % 9973);
                    (*peer, ((place * 611_953) % 900_000 + noise) as u32)
                });
                let signer = &world.peers[witness as usize];
                let card = Scorecard::new(
                    signer.address().into_array(),
                    swarm.0,
                    round,
                    INCLUDED,
                    scores,
                );
                SignedScorecard::sign(signer, &world.domain(), card)
            })
            .collect();
        let call = L::settleCall {
            swarm,
            round,
            included: INCLUDED.into(),
            peers: about.iter().map(Address::from).collect(),
            cards: cards.iter().map(row).collect(),
            seals: vec![],
        };
        let minds = if noise == 0 {
            ""
        } else {
            ", no two of one mind"
        };
        let what = format!("settle {scored} peers x {witnesses} witnesses{minds}");
        let settled = world.priced(&what, scored, 0, ledger, call.abi_encode().into());
        rows = vec![opened, settled];
    }
    rows.try_into().ok().unwrap()
}

fn root_only(scored: u32) -> [Row; 2] {
    let mut world = World::new(16, LOCAL);
    let (ledger, swarm) = (world.at.ledger, world.swarm);
    let lines: Vec<_> = (0..scored)
        .map(|peer| I::Score {
            peer: match peer {
                0..16 => world.address(peer as usize),
                _ => key(u64::from(peer) + 100).address(),
            },
            score: peer,
            reputation: peer,
            uncertainty: peer,
        })
        .collect();
    let tree = merkle::Tree::new(lines.iter().map(merkle::leaf).collect());
    let mut rows = Vec::new();
    for round in 1..=2 {
        let committee = world.open(round).unwrap();
        let card = RootCard {
            swarm,
            round,
            included: INCLUDED.into(),
            peers: scored,
            scores: tree.root(),
        };
        let digest = card.eip712_signing_hash(&world.domain().eip712());
        let signers: Vec<_> = committee[..11]
            .iter()
            .map(|witness| world.peers.iter().find(|peer| peer.address() == *witness))
            .collect();
        let votes = signers
            .into_iter()
            .map(|signer| I::Vote {
                witness: signer.unwrap().address(),
                seal: B256::ZERO,
                signature: sign_digest(signer.unwrap(), digest).to_vec().into(),
            })
            .collect();
        let call = L::settleRootCall {
            swarm,
            round,
            included: INCLUDED.into(),
            peers: scored,
            scores: tree.root(),
            votes,
        };
        let what = format!("settle the root of {scored} peers, 16 witnesses");
        let settled = world.priced(
            &what,
            u64::from(scored),
            0,
            ledger,
            call.abi_encode().into(),
        );
        let call = L::applyScoreCall {
            swarm,
            round,
            score: lines[5].clone(),
            proof: tree.proof(5),
        };
        let what = format!("bring one peer's line of a root of {scored}");
        rows = vec![
            settled,
            world.priced(&what, 1, 0, ledger, call.abi_encode().into()),
        ];
    }
    rows.try_into().ok().unwrap()
}

fn table() -> Vec<Row> {
    let mut world = World::new(3, LOCAL);
    let (registry, ledger, swarm) = (world.at.registry, world.at.ledger, world.swarm);
    let register = R::registerCall {
        node: B256::repeat_byte(9),
        nodeSignature: vec![5; 64].into(),
        name: "starling".to_owned(),
    };
    let join = L::joinSwarmCall { swarm };
    let mut rows = vec![
        world.priced(
            "register a peer",
            1,
            3,
            registry,
            register.abi_encode().into(),
        ),
        world.priced("join a swarm", 1, 3, ledger, join.abi_encode().into()),
    ];
    let [open8, small] = settled(16, 8, 0);
    let [_, middle] = settled(64, 8, 0);
    let [_, disputed] = settled(64, 8, 1);
    let [open16, large] = settled(64, 16, 0);
    rows.extend([open8, open16, small, middle, disputed, large]);
    rows.extend(root_only(1024));
    rows
}

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/GAS.md");

#[test]
fn the_table_in_gas_md_is_what_the_contracts_cost() {
    let rows = table();
    let mut text = String::new();
    writeln!(
        text,
        "# What the chain costs\n\n\
         Made by `MURMUR_WRITE=1 cargo test --release -p rollup gas_md`, and compared by the same \
         test without the variable. Each figure is the gas of a mined transaction (calldata and \
         the fee for sending included), of a swarm's second round, in which no storage is new.\n\n\
         Assumed: rollup gas at {}.{:02} gwei, {DATA_BYTE_GWEI} gwei a byte on the layer below, \
         Ethereum's own gas at {ETHEREUM_GAS_GWEI} gwei, ether at ${ETHER_DOLLARS:.0}. Prices \
         move; the gas and the bytes do not.\n\n\
         | | gas | a peer | bytes | on a rollup, gwei | $ | on Ethereum itself, $ |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        ROLLUP_GAS_MILLIGWEI / 1000,
        ROLLUP_GAS_MILLIGWEI % 1000 / 10,
    )
    .unwrap();
    for row in &rows {
        writeln!(text, "{}", row.line()).unwrap();
    }
    println!("{text}");
    if std::env::var_os("MURMUR_WRITE").is_some() {
        std::fs::write(PATH, &text).unwrap();
    }
    let of = |what: &str| rows.iter().find(|row| row.what.starts_with(what)).unwrap();
    assert!(of("settle the root of 1024").per_peer() <= 350);
    assert!(of("settle 64 peers x 8").per_peer() <= 15_000);
    let committed = std::fs::read_to_string(PATH).unwrap_or_default();
    assert_eq!(
        text, committed,
        "run it with MURMUR_WRITE=1 and commit GAS.md"
    );
}

//! `murmur own`: who contributed to a swarm owns it. Shares minted from settled reputation,
//! a vault that divides what the swarm is paid, and votes on its curriculum and its pace.
//!
//! The chain decides; nodes follow the author's key. So a curriculum that was decided holds
//! once the author's home has signed it (`murmur own advance` there), and everybody can
//! compare the two.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use rollup::{
    Decision, Ledger, Ownership, OwnershipTerms, Proposal, ProposalState, Swarm, U256, checksummed,
    parse_ether,
};
use serde_json::{Value, json};
use swarm_core::curriculum::{self as courses, Course};
use tasks::Registry;

use crate::curriculum::{self, AUTHOR, Amendments, Seen};
use crate::home::Home;
use crate::hub::now_ms;
use crate::identity::{self, Identity};
use crate::onchain::{as_peer, ether};
use crate::process::{DEVNET_CHAIN, fund_on_devnet};
use crate::rep::args::Place;
use crate::rep::find::{self, Names};
use crate::rep::render::Table;
use crate::rep::source::Source;
use crate::wallet;

/// Payments to a vault that are looked at, the newest.
const MAX_PAYMENTS: u64 = 64;
/// Where a proposal's text ends and the curriculum that it is about begins.
const TABLE: &str = "[[curriculum]]";

/// `murmur own`.
#[derive(Debug, Args)]
pub struct OwnArgs {
    /// What to do; show who owns what when left out.
    #[command(subcommand)]
    pub command: Option<OwnCommand>,
    /// Which of the home's peers acts and pays
    #[arg(long, default_value_t = 0, global = true)]
    pub peer: u16,
    /// The home whose swarm it is
    #[arg(long, env = "MURMUR_HOME", value_name = "DIR", global = true)]
    pub home: Option<PathBuf>,
    /// The chain's profile, as `murmur chain show` prints it [default: as the home has it]
    #[arg(long, value_name = "FILE", global = true)]
    pub chain: Option<PathBuf>,
    /// Print JSON instead of tables
    #[arg(long)]
    pub json: bool,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum OwnCommand {
    /// As the swarm's author, once: deploy shares, vault and governor, and hand the swarm's
    /// curriculum and pace to them
    Found(FoundArgs),
    /// Mint the shares of every epoch that is over
    Claim {
        /// Everybody's, not only this peer's
        #[arg(long)]
        everyone: bool,
    },
    /// Pay the swarm: whoever holds shares now divides it
    Pay {
        /// How much, in ether
        ether: String,
    },
    /// Take this peer's part of what the swarm was paid
    Collect,
    /// Propose another curriculum or another pace
    Propose(ProposeArgs),
    /// Vote on a proposal, with the shares held when the voting began
    Vote {
        /// Its number, as `murmur own` lists it
        number: usize,
        /// How
        choice: Choice,
    },
    /// Take a proposal its next step, as anybody: queue what was decided, carry out what was
    /// queued; in the author's home, also sign the curriculum that was carried out
    Advance {
        /// Its number, as `murmur own` lists it
        number: usize,
    },
}

/// `murmur own found`.
#[derive(Debug, Args)]
pub struct FoundArgs {
    /// Settled rounds in an epoch: for each, every peer is minted its reputation in shares
    #[arg(long, value_name = "N", default_value_t = OwnershipTerms::default().epoch_rounds,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub epoch_rounds: u32,
    /// Seconds from a proposal until it is voted on
    #[arg(long, value_name = "SECONDS", default_value_t = OwnershipTerms::default().voting_delay)]
    pub voting_delay: u32,
    /// Seconds for voting
    #[arg(long, value_name = "SECONDS", default_value_t = OwnershipTerms::default().voting_period,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub voting_period: u32,
    /// Seconds from a decision until it can be carried out
    #[arg(long, value_name = "SECONDS", default_value_t = OwnershipTerms::default().timelock)]
    pub timelock: u32,
}

/// `murmur own propose`.
#[derive(Debug, Args)]
#[command(group(
    clap::ArgGroup::new("what")
        .required(true)
        .args(["curriculum", "pace", "transferable"])
))]
pub struct ProposeArgs {
    /// Another curriculum: a file of `[[curriculum]]` tables, as for `murmur curriculum set`
    #[arg(long, value_name = "FILE")]
    pub curriculum: Option<PathBuf>,
    /// Another pace: the fewest seconds between two rounds, and the seconds after which a
    /// round without a quorum can be given up
    #[arg(long, value_name = "INTERVAL,TIMEOUT", value_parser = pace)]
    pub pace: Option<(u32, u32)>,
    /// Whether shares can be handed on
    #[arg(long, value_name = "YES|NO")]
    pub transferable: Option<Choice>,
    /// What it is good for, for those who vote
    #[arg(long, value_name = "TEXT")]
    pub why: String,
}

/// For or against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// For it.
    Yes,
    /// Against it.
    No,
}

fn pace(text: &str) -> Result<(u32, u32), String> {
    let parsed = text.split_once(',').and_then(|(interval, timeout)| {
        Some((interval.trim().parse().ok()?, timeout.trim().parse().ok()?))
    });
    parsed.ok_or_else(|| "two numbers of seconds with a comma between: 10,600".to_owned())
}

/// Runs one of the commands; what it prints.
///
/// # Errors
/// There is no swarm or no ownership here, the chain refuses, or it is too early; says
/// which and what to do.
pub async fn run(args: &OwnArgs) -> Result<String> {
    let place = Place {
        home: args.home.clone(),
        chain: args.chain.clone(),
        ..Place::default()
    };
    let source = Source::open(&place).await?;
    let ran = match &args.command {
        None => show(args, &source).await,
        Some(OwnCommand::Found(terms)) => found(args, terms, &source).await,
        Some(command) => act(args, command, &place, &source).await,
    };
    source.close().await;
    ran
}

async fn act(
    args: &OwnArgs,
    command: &OwnCommand,
    place: &Place,
    source: &Source,
) -> Result<String> {
    let (ledger, _) = as_peer(place, args.peer, source).await?;
    let swarm = ledger.swarm(source.swarm.id());
    let own = owned(&swarm).await?;
    match command {
        OwnCommand::Found(_) => bail!("founding is its author's"),
        OwnCommand::Claim { everyone } => claim(&own, &ledger, *everyone, source).await,
        OwnCommand::Pay { ether } => pay(&own, ether).await,
        OwnCommand::Collect => collect(&own, &ledger).await,
        OwnCommand::Propose(what) => propose(&own, what, source).await,
        OwnCommand::Vote { number, choice } => vote(&own, &ledger, *number, *choice).await,
        OwnCommand::Advance { number } => advance(&own, *number, args.home.as_deref()).await,
    }
}

/// A swarm's ownership, which must have been founded.
async fn owned(swarm: &Swarm) -> Result<Ownership> {
    let own = Ownership::find(swarm).await;
    let own = own.context("looking for the swarm's ownership")?;
    own.context("nobody owns this swarm yet; its author founds that with `murmur own found`")
}

async fn found(args: &OwnArgs, terms: &FoundArgs, source: &Source) -> Result<String> {
    let home = Home::existing(args.home.as_deref())?;
    let home = home.context("no swarm has run here yet")?;
    let folder = home.path().join(AUTHOR);
    if identity::known(&folder)?.is_none() {
        bail!(
            "{} does not hold the key of the swarm's author; go where the swarm was made",
            home.path().display()
        );
    }
    let keys = Identity::open(&folder, &wallet::author_access()?, Identity::random)?;
    let profile = source.swarm.ledger().profile().clone();
    fund_on_devnet(&profile, keys.address().0).await?;
    let ledger = Ledger::connect(&profile, keys.signer().clone()).await;
    let ledger = ledger.context("reaching the ledger")?;
    if profile.chain_id != DEVNET_CHAIN && ledger.balance(ledger.address()).await?.is_zero() {
        bail!(
            "the author's account, {}, has nothing to pay with on chain {}: send it some ether",
            checksummed(ledger.address()),
            profile.chain_id
        );
    }
    let terms = OwnershipTerms {
        epoch_rounds: terms.epoch_rounds,
        voting_delay: terms.voting_delay,
        voting_period: terms.voting_period,
        timelock: terms.timelock,
    };
    let swarm = ledger.swarm(source.swarm.id());
    let founded = Ownership::found(&swarm, terms).await;
    let at = founded
        .context("founding the swarm's ownership")?
        .addresses();
    Ok(format!(
        "founded: shares {}, vault {}, governor {}, timelock {}\nan epoch is {} settled rounds; \
         a proposal waits {} s, is voted on for {} s and, once decided, waits {} s\nthe author \
         keeps no right over any of it\n",
        at.shares,
        at.vault,
        at.governor,
        at.timelock,
        terms.epoch_rounds,
        terms.voting_delay,
        terms.voting_period,
        terms.timelock
    ))
}

async fn claim(
    own: &Ownership,
    ledger: &Ledger,
    everyone: bool,
    source: &Source,
) -> Result<String> {
    let names = Names::of(&source.standings().await?);
    let all = own
        .claimable()
        .await
        .context("reading the settled rounds")?;
    let mine = |peer: &[u8; 20]| everyone || *peer == ledger.address();
    let mut text = String::new();
    for one in all.iter().filter(|one| mine(&one.peer)) {
        let sent = own.claim(one.round, &one.line).await?;
        let how = match sent {
            Some(sent) => format!("minted in block {}", sent.block),
            None => "minted by somebody else meanwhile".to_owned(),
        };
        let _ = writeln!(
            text,
            "epoch {}: {} shares of {}, {how}",
            one.epoch,
            millionths(one.reputation),
            names.of_address(one.peer)
        );
    }
    if text.is_empty() {
        let (settled, length) = epochs(own, source).await?;
        text = format!(
            "nothing to claim: {settled} rounds have settled, an epoch is {length}, and this peer \
             has its shares of those that are over\n"
        );
    }
    Ok(text)
}

/// Settled rounds, and how many are an epoch.
async fn epochs(own: &Ownership, source: &Source) -> Result<(u32, u32)> {
    let info = source.swarm.info().await.context("reading the ledger")?;
    Ok((info.settled_rounds, own.terms().epoch_rounds))
}

fn millionths(ppm: u32) -> String {
    format!("{:.6}", f64::from(ppm) / 1e6)
}

async fn pay(own: &Ownership, amount: &str) -> Result<String> {
    let is_plain = amount
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let wei = parse_ether(amount).ok().filter(|_| is_plain);
    let wei = wei.with_context(|| format!("{amount:?} is no amount of ether: write 0.5"))?;
    if wei.is_zero() {
        bail!("pay something");
    }
    let sent = own.pay(wei).await.context("paying the swarm")?;
    Ok(format!(
        "payment {}: {} ether, in block {}, for whoever held shares the second before\n",
        own.payments().await?.saturating_sub(1),
        ether(wei),
        sent.block
    ))
}

/// The newest payments: as many as are looked at.
async fn payments(own: &Ownership) -> Result<std::ops::Range<u64>> {
    let count = own.payments().await?;
    Ok(count.saturating_sub(MAX_PAYMENTS)..count)
}

async fn collect(own: &Ownership, ledger: &Ledger) -> Result<String> {
    let mut text = String::new();
    for payment in payments(own).await? {
        let (part, had) = own.part(payment, ledger.address()).await?;
        if had || part.is_zero() {
            continue;
        }
        let sent = own.collect(payment, ledger.address()).await?;
        let block = sent.map_or(0, |sent| sent.block);
        let _ = writeln!(
            text,
            "payment {payment}: {} ether, in block {block}",
            ether(part)
        );
    }
    if text.is_empty() {
        text = "nothing to collect: no payment came while this peer held shares, or it has had \
                its parts\n"
            .into();
    }
    Ok(text)
}

async fn propose(own: &Ownership, what: &ProposeArgs, source: &Source) -> Result<String> {
    let why = what.why.trim();
    if why.is_empty() || why.contains(TABLE) {
        bail!("--why is a line or two for those who vote");
    }
    let mut text = why.to_owned();
    let decision = match (&what.curriculum, what.pace, what.transferable) {
        (Some(file), _, _) => {
            let read = std::fs::read_to_string(file);
            let read = read.with_context(|| format!("reading {}", file.display()))?;
            let courses = courses::from_toml(&read, &source.registry)
                .with_context(|| file.display().to_string())?;
            // The chain holds the hash; the text goes with it for everybody to check.
            let _ = write!(text, "\n\n{}", courses::to_toml(&courses));
            Decision::Manifest(courses::hash(&courses).0)
        }
        (_, Some((min_interval, settle_timeout)), _) => Decision::Pace {
            min_interval,
            settle_timeout,
        },
        (_, _, transferable) => Decision::Transferable(transferable == Some(Choice::Yes)),
    };
    own.propose(&decision, &text)
        .await
        .context("making the proposal (one of the same text can be made once)")?;
    let all = own.proposals().await?;
    let made = all.iter().rposition(|one| one.description == text);
    let made = made.context("the proposal is not on the chain")?;
    Ok(format!(
        "proposal {}: {}; {}\n",
        made + 1,
        said(&decision),
        stage(&all[made])
    ))
}

/// A proposal by its number, counted from 1.
async fn numbered(own: &Ownership, number: usize) -> Result<Proposal> {
    let mut all = own.proposals().await.context("reading the proposals")?;
    let count = all.len();
    if !(1..=count).contains(&number) {
        bail!("there is no proposal {number}: {count} have been made; `murmur own` lists them");
    }
    Ok(all.swap_remove(number - 1))
}

async fn vote(own: &Ownership, ledger: &Ledger, number: usize, choice: Choice) -> Result<String> {
    let proposal = numbered(own, number).await?;
    if proposal.state != ProposalState::Active {
        bail!("proposal {number} cannot be voted on: {}", stage(&proposal));
    }
    if own.has_voted(proposal.id, ledger.address()).await? {
        bail!("this peer has voted on proposal {number}");
    }
    let before = proposal.votes;
    own.vote(proposal.id, choice == Choice::Yes).await?;
    let after = numbered(own, number).await?.votes;
    let place = usize::from(choice == Choice::No);
    let weight = after[place].saturating_sub(before[place]);
    let note = match weight.is_zero() {
        true => "; it held no shares when the voting began, so nothing was counted",
        false => "",
    };
    Ok(format!(
        "voted with {} shares; now {} for, {} against{note}\n",
        wallet::ether(weight),
        wallet::ether(after[0]),
        wallet::ether(after[1])
    ))
}

async fn advance(own: &Ownership, number: usize, home: Option<&Path>) -> Result<String> {
    let proposal = numbered(own, number).await?;
    match proposal.state {
        ProposalState::Succeeded => {
            own.advance(&proposal).await.context("queueing it")?;
            let queued = numbered(own, number).await?;
            Ok(format!("proposal {number}: {}\n", stage(&queued)))
        }
        ProposalState::Queued if proposal.ready > now_ms() / 1000 => {
            bail!("proposal {number}: {}", stage(&proposal))
        }
        ProposalState::Queued => {
            let sent = own.advance(&proposal).await.context("carrying it out")?;
            let mut text = format!("proposal {number}: carried out in block {}\n", sent.block);
            text.push_str(&put_in_force(&proposal, home)?);
            Ok(text)
        }
        ProposalState::Executed => put_in_force(&proposal, home),
        _ => bail!("proposal {number}: {}", stage(&proposal)),
    }
}

/// What follows for the nodes of what was carried out on chain.
fn put_in_force(proposal: &Proposal, home: Option<&Path>) -> Result<String> {
    let Some(Decision::Manifest(hash)) = proposal.decision else {
        return Ok("the chain holds to it by itself\n".to_owned());
    };
    let courses = described(&proposal.description).filter(|one| courses::hash(one).0 == hash);
    let courses = courses.with_context(|| {
        format!(
            "the proposal's text is not the curriculum that was decided, {}",
            hex::encode(hash)
        )
    })?;
    let (home, manifest, _) = curriculum::place(home)?;
    let (kept, _) = Amendments::of(home.path()).fresh(&mut Seen::new())?;
    if let Some(holding) = kept.last()
        && holding.courses == courses
    {
        return Ok(format!("it is in force: amendment {}\n", holding.number));
    }
    if identity::known(&home.path().join(AUTHOR))?.is_none() {
        return Ok(
            "nodes follow once the swarm's author has signed it: `murmur own advance` in the \
             author's home\n"
                .to_owned(),
        );
    }
    curriculum::amend(&home, &manifest, courses, None)
}

/// The curriculum that a proposal's text holds; its environments need not be here.
fn described(text: &str) -> Option<Vec<Course>> {
    let table = &text[text.find(TABLE)?..];
    courses::draft(table, &Registry::builtin()).ok()
}

/// What a decision is, in a few words.
fn said(decision: &Decision) -> String {
    match decision {
        Decision::Manifest(hash) => format!("curriculum {}", hex::encode(&hash[..4])),
        Decision::Pace {
            min_interval,
            settle_timeout,
        } => format!("a round each {min_interval} s at most, given up after {settle_timeout} s"),
        Decision::Transferable(true) => "shares can be handed on".to_owned(),
        Decision::Transferable(false) => "shares stay with who earned them".to_owned(),
    }
}

/// What a proposal does, and whether its text says the same.
fn does(proposal: &Proposal) -> String {
    let Some(decision) = &proposal.decision else {
        return "UNKNOWN calls: look at them on the chain before voting".to_owned();
    };
    let honest = match decision {
        Decision::Manifest(hash) => described(&proposal.description)
            .is_some_and(|courses| courses::hash(&courses).0 == *hash),
        _ => true,
    };
    let not = if honest {
        ""
    } else {
        ", which its text does NOT hold"
    };
    format!("{}{not}", said(decision))
}

/// How far a proposal is, and until when.
fn stage(proposal: &Proposal) -> String {
    let left = |at: u64| at.saturating_sub(now_ms() / 1000);
    match proposal.state {
        ProposalState::Pending => format!("voting begins in {} s", left(proposal.voting.0)),
        ProposalState::Active => format!("voted on for {} s more", left(proposal.voting.1)),
        ProposalState::Canceled => "withdrawn".to_owned(),
        ProposalState::Defeated => "voted down, or by too few".to_owned(),
        ProposalState::Succeeded => "decided: `murmur own advance` queues it".to_owned(),
        ProposalState::Queued => match left(proposal.ready) {
            0 => "queued: `murmur own advance` carries it out".to_owned(),
            seconds => format!("queued: can be carried out in {seconds} s"),
        },
        ProposalState::Expired => "too late to be carried out".to_owned(),
        ProposalState::Executed => "carried out".to_owned(),
    }
}

async fn show(args: &OwnArgs, source: &Source) -> Result<String> {
    let own = owned(&source.swarm).await?;
    let (settled, length) = epochs(&own, source).await?;
    let members = source.standings().await?;
    let claimable = own
        .claimable()
        .await
        .context("reading the settled rounds")?;
    let payments = payments(&own).await?;
    let mut supply = U256::ZERO;
    let mut holders = Vec::new();
    for member in &members {
        let holding = own.holding(member.address).await?;
        supply = holding.supply;
        let open = claimable.iter().filter(|one| one.peer == member.address);
        let open: u64 = open.map(|one| u64::from(one.reputation)).sum();
        let mut due = U256::ZERO;
        for payment in payments.clone() {
            let (part, had) = own.part(payment, member.address).await?;
            due += if had { U256::ZERO } else { part };
        }
        holders.push(json!({
            "name": find::shown(&member.name),
            "address": checksummed(member.address),
            "shares": wallet::ether(holding.shares),
            "votes": wallet::ether(holding.votes),
            "to_claim": format!("{:.6}", open as f64 / 1e6),
            "to_collect": ether(due),
        }));
    }
    let all = own.proposals().await.context("reading the proposals")?;
    let proposals = (1..).zip(&all).map(|(number, one): (u64, _)| {
        json!({
            "number": number,
            "id": one.id.to_string(),
            "state": one.state,
            "stage": stage(one),
            "does": does(one),
            "for": wallet::ether(one.votes[0]),
            "against": wallet::ether(one.votes[1]),
            "text": one.description,
        })
    });
    let document = json!({
        "contracts": own.addresses(),
        "terms": own.terms(),
        "settled_rounds": settled,
        "epochs_over": settled / length,
        "supply": wallet::ether(supply),
        "payments": payments.end,
        "holders": holders,
        "proposals": proposals.collect::<Vec<_>>(),
    });
    if args.json {
        return Ok(serde_json::to_string_pretty(&document).context("encoding")? + "\n");
    }
    Ok(tables(&own, &document))
}

fn tables(own: &Ownership, document: &Value) -> String {
    let cell = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let fill = |table: &mut Table, rows: &Value, keys: &[&str]| {
        for row in rows.as_array().into_iter().flatten() {
            table.row(keys.iter().map(|key| cell(&row[*key])).collect());
        }
    };
    let mut holders = Table::new(&[
        "holder",
        ">shares",
        ">votes",
        ">to claim",
        ">ether to collect",
        "address",
    ]);
    let keys = [
        "name",
        "shares",
        "votes",
        "to_claim",
        "to_collect",
        "address",
    ];
    fill(&mut holders, &document["holders"], &keys);
    let at = own.addresses();
    let mut text = format!(
        "{}\n{} shares in all; {} rounds settled, {} an epoch, {} epochs over; {} payments\nshares \
         {}  vault {}\ngovernor {}  timelock {}\n",
        holders.text(),
        cell(&document["supply"]),
        document["settled_rounds"],
        own.terms().epoch_rounds,
        document["epochs_over"],
        document["payments"],
        at.shares,
        at.vault,
        at.governor,
        at.timelock
    );
    let mut proposals = Table::new(&[">proposal", ">for", ">against", "stage", "what it does"]);
    let keys = ["number", "for", "against", "stage", "does"];
    fill(&mut proposals, &document["proposals"], &keys);
    match document["proposals"].as_array().is_none_or(Vec::is_empty) {
        true => text.push_str("\nnothing has been proposed\n"),
        false => {
            let _ = write!(text, "\n{}", proposals.text());
        }
    }
    text.push_str("\nShares record what was contributed. They promise no price.\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_hides_another_curriculum_is_seen() {
        let course = Course {
            env: tasks::EnvId([7; 32]),
            level: 2,
            weight: 3,
            climb: None,
        };
        let text = format!("harder sums\n\n{}", courses::to_toml(&[course]));
        let proposal = |hash: [u8; 32]| {
            let mut one = Proposal::default();
            one.description.clone_from(&text);
            one.decision = Some(Decision::Manifest(hash));
            one
        };
        let honest = proposal(courses::hash(&[course]).0);
        assert!(!does(&honest).contains("NOT"), "{}", does(&honest));
        assert!(does(&proposal([1; 32])).contains("NOT"));
        assert!(does(&Proposal::default()).contains("UNKNOWN"));
        let refused = put_in_force(&proposal([1; 32]), None).unwrap_err();
        assert!(
            refused.to_string().contains("not the curriculum"),
            "{refused}"
        );
    }

    #[test]
    fn a_pace_is_two_numbers_of_seconds() {
        assert_eq!(pace("10, 600"), Ok((10, 600)));
        for text in ["10", "a,b", "-1,2", ""] {
            assert!(pace(text).is_err(), "{text}");
        }
    }
}

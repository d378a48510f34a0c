//! `murmur rep`: reputation as the ledger has it, and how to check it.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`args`] | the command line |
//! | [`source`] | a running chain, a stopped devnet, any chain by its URL |
//! | [`find`] | whom a user means |
//! | [`document`] | what is told, as JSON |
//! | [`verify`] | a settled round, recomputed |
//! | [`render`] | tables and CSV |

pub mod args;
pub mod document;
pub mod find;
pub mod render;
pub mod source;
pub mod verify;

use std::process::ExitCode;

use anyhow::{Context, Result};
use rollup::{Chronicle, Finality, Reputation};
use serde_json::{Value, json};
use swarm_core::ids::PeerId;
use swarm_core::words::WORDS;

use args::{Output, PeerArgs, RepCommand, RoundArgs, TopArgs, VerifyArgs};
use document::fraction;
use find::Names;
use render::Table;
use source::Source;

/// Of how many peers it is said that they taught or were taught.
const LESSONS_SHOWN: usize = 8;

/// What `murmur rep verify` exits with where a line differs.
pub const DIFFERS: u8 = 3;

/// Runs one of the commands; what it prints, and what it exits with.
///
/// # Errors
/// The ledger can't be read, or there is no such peer or round.
pub async fn run(command: &RepCommand) -> Result<(String, ExitCode)> {
    let place = match command {
        RepCommand::Top(args) => &args.place,
        RepCommand::Peer(args) => &args.place,
        RepCommand::Round(args) => &args.place,
        RepCommand::Verify(args) => &args.place,
        RepCommand::Swarm(args) | RepCommand::Export(args) => &args.place,
        RepCommand::Words(args) => return Ok((words(args.json)?, ExitCode::SUCCESS)),
    };
    let source = Source::open(place).await?;
    let ran = ask(command, &source).await;
    source.close().await;
    ran
}

async fn ask(command: &RepCommand, source: &Source) -> Result<(String, ExitCode)> {
    let chronicle = source.swarm.chronicle().await;
    let chronicle = chronicle.context("reading the ledger's events")?;
    let members = source.standings().await?;
    let text = match command {
        RepCommand::Top(args) => top(args, &chronicle, &members)?,
        RepCommand::Peer(args) => peer(args, source, &chronicle, &members).await?,
        RepCommand::Round(args) => round(args, source, &chronicle, &members).await?,
        RepCommand::Swarm(args) => swarm(args.output, source, &chronicle, &members)?,
        RepCommand::Export(args) => export(args.output, source, &chronicle, &members)?,
        RepCommand::Verify(args) => return verified(args, source, &chronicle, &members).await,
        RepCommand::Words(_) => String::new(),
    };
    Ok((text, ExitCode::SUCCESS))
}

fn pretty(value: &Value) -> Result<String> {
    Ok(serde_json::to_string_pretty(value).context("encoding")? + "\n")
}

/// Parts per million as a number of four digits; `–` for none.
fn number(ppm: Option<u32>) -> String {
    ppm.map_or_else(|| "–".to_owned(), |ppm| format!("{:.4}", fraction(ppm)))
}

fn text_of(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn top(args: &TopArgs, chronicle: &Chronicle, members: &[Reputation]) -> Result<String> {
    let shown = members.iter().zip(1..).take(args.limit);
    if args.output.json {
        let rows = shown.map(|(member, rank)| document::standing(rank, member, chronicle));
        return pretty(&rows.collect());
    }
    let mut table = Table::new(&[
        ">rank", "name", ">score", ">±", ">rounds", ">last", "witness", "address", "peer",
    ]);
    for (member, rank) in shown {
        let row = document::standing(rank, member, chronicle);
        table.row(vec![
            rank.to_string(),
            find::shown(&member.name),
            number(Some(member.score)),
            number(Some(member.uncertainty)),
            member.rounds.to_string(),
            text_of(&row["last_round"]),
            text_of(&row["witness"]),
            text_of(&row["address"]),
            text_of(&row["peer"]),
        ]);
    }
    if args.output.csv {
        return Ok(table.csv());
    }
    let legend = "\nscore: 0 to 1, a moving average over settled rounds of verified contribution; \
                  ±: how far\nthe next round's score may well be from it. `murmur rep words` \
                  defines every number.\n";
    Ok(table.text() + legend)
}

async fn peer(
    args: &PeerArgs,
    source: &Source,
    chronicle: &Chronicle,
    members: &[Reputation],
) -> Result<String> {
    let member = find::find(members, &args.peer)?;
    let rank = members.iter().take_while(|other| *other != member).count() + 1;
    let mut document = document::peer(rank, member, chronicle);
    if let Some(history) = document["history"].as_array_mut() {
        history.truncate(args.limit);
    }
    // Why, of the newest round that included it, where the transcript is here.
    let newest = document::rounds_of(chronicle, member.address).last();
    let judged = match newest {
        Some((_, (settled, ..))) => document::judged_here(source, settled)?,
        None => None,
    };
    let why = judged.and_then(|judged| document::by_address(&judged).remove(&member.address));
    document["newest"] = why.unwrap_or_default();
    let agents = source.swarm.ledger().agents().await;
    if let Some(agents) = agents.context("looking for ERC-8004")? {
        let agent = agents.agent_of(member.address).await?;
        document["agent"] = agent.map(|agent| agent.to_string()).into();
    }
    let lessons = match member.iroh_key {
        Some(key) => document::provenance(source, chronicle, PeerId(key))?,
        None => None,
    };
    document["provenance"] = lessons.unwrap_or_default();
    if args.output.json {
        return pretty(&document);
    }
    let mut table = Table::new(&[">round", ">score", ">judges", ">reputation", ">block", "tx"]);
    for row in document["history"].as_array().into_iter().flatten() {
        let ppm = |value: &Value| number(value.as_u64().and_then(|ppm| ppm.try_into().ok()));
        table.row(vec![
            text_of(&row["round"]),
            ppm(&row["score_ppm"]),
            text_of(&row["judges"]),
            ppm(&row["reputation_ppm"]),
            text_of(&row["block"]),
            text_of(&row["tx"]),
        ]);
    }
    if args.output.csv {
        return Ok(table.csv());
    }
    let mut text = format!(
        "{}  rank {rank} of {}\naddress     {}\niroh id     {}\nreputation  {}  ± {}, \
         {} settled rounds\nwitness     {}, weighs {}, missed {} in a row\n\n{}",
        find::shown(&member.name),
        members.len(),
        text_of(&document["address"]),
        match &document["peer"] {
            Value::Null => "none that signed for this address".to_owned(),
            key => text_of(key),
        },
        number(Some(member.score)),
        number(Some(member.uncertainty)),
        member.rounds,
        text_of(&document["witness"]),
        number(Some(member.weight)),
        member.missed,
        table.text(),
    );
    if let Some(agent) = document["agent"].as_str() {
        text.push_str(&format!("\nERC-8004    agent {agent}\n"));
    }
    let newest = &document["newest"];
    if let Some(why) = newest["why"].as_str() {
        text.push_str(&format!("\nnewest round: {why}\n"));
        text.push_str(&not_counted(newest));
    } else {
        text.push_str("\nwhy: the newest round's transcript is not kept here\n");
    }
    text.push_str(&lessons_of(&document["provenance"], member, members));
    Ok(text)
}

/// Who taught a peer and whom it taught, in two lines; and whom it favours in turn.
fn lessons_of(provenance: &Value, member: &Reputation, members: &[Reputation]) -> String {
    let Some(rounds) = provenance["rounds"].as_u64() else {
        return String::new();
    };
    let own = json!(member.iroh_key.map(PeerId));
    let named = |peer: &Value| {
        let found = members.iter().find(|other| {
            let key = other.iroh_key.map(PeerId);
            key.is_some() && json!(key) == *peer
        });
        match found {
            _ if *peer == own => "itself".to_owned(),
            Some(found) => find::shown(&found.name),
            None => text_of(peer).chars().take(8).collect(),
        }
    };
    let line = |key: &str| {
        let lines = provenance[key].as_array().into_iter().flatten();
        let lines = lines.map(|one| format!("{} {}", named(&one["peer"]), one["groups"]));
        let lines: Vec<String> = lines.take(LESSONS_SHOWN).collect();
        match lines.is_empty() {
            true => "nobody".to_owned(),
            false => lines.join(", "),
        }
    };
    let mut text = format!(
        "\ntaught by   {}\ntaught      {}\n  groups trained on, as drawn in the newest {rounds} \
         settled rounds kept here\n",
        line("taught_by"),
        line("taught"),
    );
    let points = |ppm: &Value| ppm.as_i64().unwrap_or(0) as f64 / 1e4;
    for one in provenance["together"].as_array().into_iter().flatten() {
        text.push_str(&format!(
            "stands with {}: calls its answers right {:+.0} ± {:.0} points above their other \
             critics, and is called so by {:+.0} ± {:.0}, over {} answers each way\n",
            named(&one["peer"]),
            points(&one["favour_ppm"]),
            3.0 * points(&one["favour_error_ppm"]),
            points(&one["back_ppm"]),
            3.0 * points(&one["back_error_ppm"]),
            one["answers"],
        ));
    }
    text
}

/// The lines of what of a peer's work was not counted.
fn not_counted(judged: &Value) -> String {
    let mut text = String::new();
    for line in judged["not_counted"].as_array().into_iter().flatten() {
        let kind = text_of(&line["kind"]);
        let which = match line["count"].as_u64() {
            Some(0) | None => format!("the {kind} as a whole"),
            Some(count) => format!("{count} {kind}"),
        };
        let because = tui::text::clean(&text_of(&line["because"]));
        text.push_str(&format!("  {which} not counted because: {because}\n"));
    }
    text
}

async fn round(
    args: &RoundArgs,
    source: &Source,
    chronicle: &Chronicle,
    members: &[Reputation],
) -> Result<String> {
    let newest = chronicle.newest();
    let number_of = args.round.or(newest);
    let number_of = number_of.context("no round has settled yet; name one that was opened")?;
    let names = Names::of(members);
    let found = chronicle.rounds.get(&number_of);
    let settled = found.and_then(|round| round.settled.as_ref());
    let cards = match settled {
        Some(settled) => source.swarm.cards(settled).await?,
        None => None,
    };
    let document = document::round(chronicle, number_of, cards.as_deref(), &names);
    let mut document = match document {
        Some(document) => document,
        None => return verify::settled(chronicle, number_of).map(|_| String::new()),
    };
    if let Some(settled) = settled {
        let finality = source.swarm.ledger().finality(settled.block).await?;
        document["settled"]["finality"] = match finality {
            Some(Finality::Finalized) => "finalized",
            Some(Finality::Safe) => "safe",
            Some(Finality::Sequenced) => "sequenced",
            None => "gone: the block is no longer there",
        }
        .into();
        let page = source.swarm.ledger().profile().page_of(settled.tx);
        document["settled"]["page"] = page.into();
        let judged = document::judged_here(source, settled)?;
        document["judged"] = judged.as_ref().map(document::judged).unwrap_or_default();
    }
    if settled.is_none() && document["status"] == "open" {
        document["finality"] = "pending: its settlement is in no block yet".into();
    }
    if args.output.json {
        return pretty(&document);
    }
    let witnesses: Vec<String> = cards
        .iter()
        .flatten()
        .map(|card| names.of_address(card.witness))
        .collect();
    let mut table = Table::new(&[">score", ">judges", ">reputation", "peer", "given by each"]);
    let ppm = |value: &Value| number(value.as_u64().and_then(|ppm| ppm.try_into().ok()));
    for row in document["settled"]["scores"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let given = row["given"].as_array().into_iter().flatten();
        let given: Vec<String> = given.map(|one| ppm(&one["score_ppm"])).collect();
        table.row(vec![
            ppm(&row["score_ppm"]),
            text_of(&row["judges"]),
            ppm(&row["reputation_ppm"]),
            text_of(&row["name"]),
            given.join(" "),
        ]);
    }
    if args.output.csv {
        return Ok(table.csv());
    }
    let mut text = format!(
        "round {number_of}: {}\nbeacon    {}\nopened    block {}, tx {}\n",
        text_of(&document["status"]),
        text_of(&document["beacon"]),
        text_of(&document["opened"]["block"]),
        text_of(&document["opened"]["tx"]),
    );
    if let Some(pending) = document["finality"].as_str() {
        text.push_str(&format!("settled   {pending}\n"));
    }
    for witness in document["committee"].as_array().into_iter().flatten() {
        let signed = match (witness["signed"].as_bool(), &witness["missed_in_a_row"]) {
            (Some(true), _) => "signed".to_owned(),
            (_, Value::Null) => "has not signed".to_owned(),
            (_, count) => format!("did not sign, {count} missed in a row"),
        };
        text.push_str(&format!(
            "witness   {}: {signed}\n",
            text_of(&witness["name"])
        ));
    }
    if let Some(settled) = document["settled"].as_object() {
        text.push_str(&format!(
            "settled   block {}, {}, by {}\ntx        {}\nincluded  {}\nroot      {}\n\n{}",
            settled["block"],
            text_of(&settled["finality"]),
            text_of(&settled["relayer"]["name"]),
            text_of(&settled["tx"]),
            text_of(&settled["included"]),
            text_of(&settled["root"]),
            table.text(),
        ));
        if let Some(page) = settled["page"].as_str() {
            text.push_str(&format!("\nlook at it at {page}\n"));
        }
        text.push_str(&format!("\neach, in order: {}\n", witnesses.join(", ")));
    }
    let peers = document["judged"]["peers"].as_array();
    for judged in peers.into_iter().flatten() {
        let name = document["settled"]["scores"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|row| row["address"] == judged["address"])
            .map_or_else(|| text_of(&judged["peer"]), |row| text_of(&row["name"]));
        text.push_str(&format!("\n{name}: {}\n", text_of(&judged["why"])));
        text.push_str(&not_counted(judged));
    }
    if peers.is_none() {
        text.push_str("\nwhy: the round's transcript is not kept here\n");
    }
    Ok(text)
}

fn swarm(
    output: Output,
    source: &Source,
    chronicle: &Chronicle,
    members: &[Reputation],
) -> Result<String> {
    let document = document::swarm(source, chronicle, members);
    if output.json {
        return pretty(&document);
    }
    let mut table = Table::new(&["what", "value"]);
    for (key, value) in document.as_object().into_iter().flatten() {
        match value.as_object() {
            Some(inner) => {
                for (part, value) in inner {
                    table.row(vec![format!("{key} {part}"), text_of(value)]);
                }
            }
            None => table.row(vec![key.replace('_', " "), text_of(value)]),
        }
    }
    Ok(match output.csv {
        true => table.csv(),
        false => table.text(),
    })
}

fn export(
    output: Output,
    source: &Source,
    chronicle: &Chronicle,
    members: &[Reputation],
) -> Result<String> {
    if !output.csv {
        return pretty(&document::everything(source, chronicle, members));
    }
    let mut table = Table::new(&[
        "round",
        "block",
        "tx",
        "included",
        "relayer",
        "address",
        "peer",
        "name",
        "score_ppm",
        "judges",
        "reputation_ppm",
    ]);
    for (_, settled) in chronicle.settlements() {
        for row in &settled.scores {
            let member = members.iter().find(|member| member.address == row.peer);
            let key = member.and_then(|member| member.iroh_key);
            table.row(vec![
                settled.round.to_string(),
                settled.block.to_string(),
                document::word(settled.tx),
                hex::encode(settled.included),
                rollup::checksummed(settled.relayer),
                rollup::checksummed(row.peer),
                key.map(hex::encode).unwrap_or_default(),
                member.map(|member| member.name.clone()).unwrap_or_default(),
                row.score.map(|score| score.to_string()).unwrap_or_default(),
                row.judges.to_string(),
                row.reputation.to_string(),
            ]);
        }
    }
    Ok(table.csv())
}

async fn verified(
    args: &VerifyArgs,
    source: &Source,
    chronicle: &Chronicle,
    members: &[Reputation],
) -> Result<(String, ExitCode)> {
    let given = match (&args.transcript, &source.manifest) {
        (Some(path), Some(manifest)) => Some(crate::transcripts::read(path, manifest)?),
        (Some(_), None) => anyhow::bail!(
            "a transcript is judged by the swarm's manifest, which is not known here; name the \
             home of one of its peers with --home"
        ),
        (None, _) => None,
    };
    let only = match (args.all, args.round) {
        (true, _) => None,
        (false, Some(round)) => Some(round),
        (false, None) => {
            let given = given.as_ref().map(|transcript| transcript.round);
            let newest = chronicle.newest();
            Some(given.or(newest).context("no round has settled yet")?)
        }
    };
    let checked = verify::verify(source, chronicle, only, given.as_ref()).await?;
    let names = Names::of(members);
    let agrees = checked.iter().all(|one| one.differences.is_empty());
    let text = if args.json {
        let rounds: Vec<Value> = checked
            .iter()
            .map(|one| verify::document(one, &names))
            .collect();
        pretty(&json!({ "agrees": agrees, "rounds": rounds }))?
    } else {
        verify::lines(&checked, &names)
    };
    let code = match agrees {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(DIFFERS),
    };
    Ok((text, code))
}

/// What every number means.
fn words(as_json: bool) -> Result<String> {
    if as_json {
        return pretty(&json!(WORDS));
    }
    let mut text = String::new();
    for word in WORDS {
        text.push_str(&format!("{} ({})\n", word.name, word.unit));
        for (label, value) in [
            ("", word.meaning),
            ("raised by ", word.raises),
            ("lowered by ", word.lowers),
            ("remembers ", word.memory),
        ] {
            for (index, line) in tui::text::wrap(&format!("{label}{value}"), 84)
                .iter()
                .enumerate()
            {
                let indent = if index == 0 { "  " } else { "    " };
                text.push_str(&format!("{indent}{line}\n"));
            }
        }
        text.push('\n');
    }
    Ok(text)
}

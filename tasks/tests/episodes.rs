//! Items of several turns: played, told in one text, and played again by
//! whoever reads it, to the same score.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::collections::BTreeMap;

use tasks::package::{Bundle, Packaged, floors, template};
use tasks::{Environment, Episode, Item, Ppm, Score, Seed, Status, Step, Style, TURN_BREAK};

/// A package as an author writes it: the template, with one text for another.
fn game_with(edits: &[(&str, &str)]) -> Packaged {
    let files: BTreeMap<String, Vec<u8>> = template("game")
        .unwrap()
        .iter()
        .map(|(path, text)| {
            let mut text = text.replace("NAME", "find");
            for (from, to) in edits {
                text = text.replace(from, to);
            }
            ((*path).to_owned(), text.into_bytes())
        })
        .collect();
    Packaged::open(&Bundle::from_folder(files).unwrap()).unwrap()
}

fn item(game: &Packaged, index: u32, level: u8) -> Item {
    let item = game.generate(&Seed::derive(&[b"find", &index.to_le_bytes()]), level);
    assert_eq!(item.fault(), None);
    item
}

fn tagged(answer: impl std::fmt::Display) -> String {
    format!("<answer>{answer}</answer>")
}

fn joined(turns: &[String]) -> String {
    turns.join(&TURN_BREAK.to_string())
}

/// The bounds of an item, as its question says them.
fn bounds(item: &Item) -> (u32, u32) {
    let words: Vec<&str> = item.question.split(' ').collect();
    (words[1].parse().unwrap(), words[3].parse().unwrap())
}

#[test]
fn halving_finds_every_number_and_whoever_reads_the_text_scores_it_alike() {
    let (game, another) = (game_with(&[]), game_with(&[]));
    let mut longest = 0;
    for level in 1..=3 {
        for index in 0..20 {
            let item = item(&game, index, level);
            let (mut low, mut high) = bounds(&item);
            let mut episode = Episode::new(&game, &item);
            while !episode.is_over() {
                let middle = u32::midpoint(low, high);
                episode.play(&tagged(middle));
                match episode.messages().last().unwrap().content.as_str() {
                    "higher" => low = middle + 1,
                    "lower" => high = middle - 1,
                    _ => {}
                }
            }
            longest = longest.max(episode.turns().len());
            let text = episode.text();
            let score = episode.score();
            assert_eq!(
                (score.status, score.reward),
                (Status::Ok, Ppm::ONE),
                "{text}"
            );
            // The same number, reasons and fuel, from the text alone.
            let metered = game.score_metered(&item, &text);
            assert_eq!(metered.0, score);
            assert_eq!(another.score_metered(&item, &text), metered);
            let again = Episode::replay(&game, &item, &text);
            assert_eq!(again.text(), text);
        }
    }
    assert_eq!(longest, 4);
}

#[test]
fn an_episode_that_is_left_or_goes_on_after_its_end_is_worth_nothing() {
    let game = game_with(&[]);
    let item = item(&game, 0, 3);
    let (low, high) = bounds(&item);
    let right = tagged(&item.reference);
    let wrong = tagged(if item.reference == low.to_string() {
        high
    } else {
        low
    });
    let scored = |turns: &[&str]| {
        let turns: Vec<String> = turns.iter().map(|turn| (*turn).to_owned()).collect();
        let score = game.score(&item, &joined(&turns));
        (score.status, score.reward, score.why.into_owned())
    };
    let lost = |status, why: &str| (status, Ppm::ZERO, why.to_owned());
    let (right, wrong) = (right.as_str(), wrong.as_str());
    let left = |turns| {
        lost(
            Status::NoAnswer,
            &format!("left after {turns} of at most 4 turns"),
        )
    };
    assert_eq!(scored(&[wrong]), left(1));
    assert_eq!(scored(&[wrong, wrong, wrong]), left(3));
    let after = lost(
        Status::Invalid,
        "there are turns after the end of the episode",
    );
    assert_eq!(scored(&[right, right]), after);
    assert_eq!(scored(&[wrong, right, ""]), after);
    assert_eq!(scored(&[wrong; 5]), after);
    assert_eq!(scored(&[wrong, right]).1, Ppm::ONE);
    assert_eq!(scored(&[wrong; 4]).1, Ppm::ZERO);
    // A turn that is ill-formed ends the episode.
    assert_eq!(scored(&["no tags"]).0, Status::NoAnswer);
    assert_eq!(scored(&["no tags", right]), after);
    assert_eq!(scored(&[wrong, "<answer>"]).0, Status::Invalid);
}

#[test]
fn length_costs_in_every_turn() {
    let game = game_with(&[(
        "[parts]",
        "[limits]\nfree_bytes = 60\npenalty_bytes = 100\n\n[parts]",
    )]);
    let item = item(&game, 0, 3);
    let right = tagged(&item.reference);
    let wrong = tagged(game.distractor(&item, &Seed::derive(&[b"w"])));
    let long = format!("<think>{}</think>{wrong}", "a".repeat(500));
    let reward = |turns: &[&String]| {
        let turns: Vec<String> = turns.iter().copied().cloned().collect();
        game.score(&item, &joined(&turns)).reward
    };
    assert_eq!(reward(&[&wrong, &right]), Ppm::ONE);
    assert_eq!(reward(&[&long, &right]), Ppm(900_000));
    assert_eq!(reward(&[&right]), Ppm::ONE);
}

#[test]
fn turns_that_run_out_are_wrong_and_what_the_game_says_is_bounded() {
    let endless = game_with(&[(
        "    if guesses == GUESSES[item[\"level\"] - 1]:\n        return {\"correct\": False, \"why\": \"it was \" + item[\"answer\"]}\n",
        "",
    )]);
    let it = item(&endless, 1, 1);
    let wrong = tagged(endless.distractor(&it, &Seed::derive(&[b"w"])));
    let score = endless.score(&it, &joined(&vec![wrong; 4]));
    assert_eq!((score.status, score.reward), (Status::Ok, Ppm::ZERO));
    assert_eq!(score.why, "not done in 4 turns");
    for said in [
        "\"x\" * 5000",
        "\"<answer>1</answer>\"",
        "\"a<|im_end|>\"",
        "\"\\x1b[2J\"",
    ] {
        let loud = game_with(&[("{\"say\": say,", &format!("{{\"say\": {said},"))]);
        let it = item(&loud, 1, 1);
        let wrong = tagged(loud.distractor(&it, &Seed::derive(&[b"w"])));
        let Step::Done(score) = loud.step(&it, b"", &wrong) else {
            panic!("{said} was shown")
        };
        assert_eq!(score.status, Status::Unscored, "{said}");
    }
}

#[test]
fn no_text_of_a_policy_or_a_peer_is_more_than_a_bad_episode() {
    let game = game_with(&[]);
    let item = item(&game, 2, 2);
    let pieces = [
        "<answer>",
        "</answer>",
        "<think>",
        "1",
        "50",
        "\u{1e}",
        "\u{1e}\u{1e}",
        "<|im_end|>",
        "\u{0}",
        "\u{202e}",
        " ",
        "\n",
    ];
    for index in 0..400u32 {
        let mut draw = Seed::derive(&[b"hostile", &index.to_le_bytes()]).draw();
        let text: String = (0..draw.below(14))
            .map(|_| pieces[draw.index(pieces.len())])
            .collect();
        let score = game.score(&item, &text);
        assert_ne!(score.status, Status::Unscored, "{text:?}");
        assert_eq!(game.score(&item, &text), score);
        // What a policy says is one turn, whatever is in it.
        let mut episode = Episode::new(&game, &item);
        episode.play(&text);
        assert_eq!(episode.turns().len(), 1);
        assert!(!episode.text().contains(TURN_BREAK));
    }
    for huge in ["\u{1e}".repeat(1 << 20), "7".repeat(1 << 20)] {
        let Score { status, reward, .. } = game.score(&item, &huge);
        assert!(status != Status::Ok && reward == Ppm::ZERO);
        assert!(Episode::replay(&game, &item, &huge).turns().len() <= 1);
    }
}

#[test]
fn the_template_passes_its_floors_and_a_game_that_pays_for_repeating_does_not() {
    let game = game_with(&[]);
    let chance = game.package().chance;
    let findings = floors::measure(&game, 40, chance);
    assert!(findings.iter().all(floors::Finding::holds), "{findings:?}");
    let generous = game_with(&[(
        "return {\"correct\": False, \"why\": \"it was \" + item[\"answer\"]}",
        "return {\"correct\": 900000}",
    )]);
    let failed: Vec<&str> = floors::measure(&generous, 10, chance)
        .iter()
        .filter(|finding| !finding.holds())
        .map(|finding| finding.name)
        .collect();
    assert!(failed.contains(&"a wrong answer, every turn"), "{failed:?}");
}

#[test]
fn a_reference_of_several_lines_is_an_episode_of_as_many_turns() {
    let game = game_with(&[
        (
            "str(draw.between(low, high)),",
            "\"%d\\n%d\" % (low, high),",
        ),
        (
            "    if answer == item[\"answer\"]:",
            "    if answer == item[\"answer\"].split(\"\\n\")[1]:",
        ),
        ("int(item[\"answer\"])", "0"),
    ]);
    let item = item(&game, 3, 1);
    let text = game.demonstrate(&item, Style::Direct);
    assert_eq!(text.matches(TURN_BREAK).count(), 1);
    assert_eq!(game.score(&item, &text).reward, Ppm::ONE);
}

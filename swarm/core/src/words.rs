//! What the numbers mean: one source for the terminal, the command line, the web page
//! and `SCORES.md`, so that nobody is told two different things.

use serde::Serialize;

/// A number that people are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Word {
    /// Its name.
    pub name: &'static str,
    /// What it is counted in.
    pub unit: &'static str,
    /// What it is, in one line.
    pub meaning: &'static str,
    /// What raises it.
    pub raises: &'static str,
    /// What lowers it.
    pub lowers: &'static str,
    /// How long it remembers.
    pub memory: &'static str,
}

/// All of them, from what is trusted to what it is made of.
pub const WORDS: [Word; 18] = [
    Word {
        name: "reputation",
        unit: "0 to 1; on chain in parts per million",
        meaning: "contribution over all settled rounds, as the ledger has it",
        raises: "a settled round whose score is above it: it moves a sixteenth of the way",
        lowers: "a settled round whose score is below it, by the same rule; a settled round \
                 without the peer takes one part in 64; two cards signed for one round halve it",
        memory: "half of it is from the last 11 rounds that scored the peer; away, it halves \
                 in 44 settled rounds",
    },
    Word {
        name: "uncertainty",
        unit: "0 to 1; on chain in parts per million",
        meaning: "how far a peer's next score may well be from its reputation",
        raises: "scores far from the reputation: it moves a sixteenth of the way to how far; \
                 settled rounds without the peer, toward one",
        lowers: "scores near the reputation",
        memory: "as reputation's; a newcomer's is one: nothing is known",
    },
    Word {
        name: "score",
        unit: "0 to 1; on chain in parts per million",
        meaning: "one round's contribution, signed by witnesses; ± how unsure",
        raises: "half answers, three tenths critiques, two tenths resolutions: see each",
        lowers: "nothing is ever below zero; what was not included counts as not done",
        memory: "one round",
    },
    Word {
        name: "±",
        unit: "percentage points",
        meaning: "standard error of the mean of a peer's newest 16 scores",
        raises: "scores that differ from round to round, and few of them",
        lowers: "many rounds of much the same score",
        memory: "the newest 16 rounds; not told of fewer than 3",
    },
    Word {
        name: "judges",
        unit: "witnesses",
        meaning: "how many others scored the peer; its score is their weighted median",
        raises: "witnesses that sign",
        lowers: "witnesses that are away; a peer's own word about itself is never counted",
        memory: "one round; without any judge the score is \"unscored\", reputation left alone",
    },
    Word {
        name: "answers",
        unit: "0 to 1, half of the score",
        meaning: "right first answers, and wrong ones beside right ones of the same group",
        raises: "right answers; a wrong one counts half where its group has a right one, \
                 since others learn from the two",
        lowers: "wrong answers in a group without a right one; ill-formed ones; doing a share \
                 of what the swarm gives each peer to do counts by its square, more than that \
                 for no more; items that everyone draws can be copied and do not count",
        memory: "one round",
    },
    Word {
        name: "critiques",
        unit: "0 to 1, three tenths of the score",
        meaning: "how much a peer's verdicts tell: 1 - 4 x Brier, not below zero",
        raises: "verdicts that fit the truth, on right and on wrong answers alike",
        lowers: "verdicts that do not; always saying the same, and a coin, are worth zero; \
                 few verdicts are pulled toward zero, and count by their share",
        memory: "one round",
    },
    Word {
        name: "resolutions",
        unit: "0 to 1, two tenths of the score",
        meaning: "second answers: how much of what was wrong before reading peers is right",
        raises: "more right answers than what was read had",
        lowers: "no more right answers than that: zero; doing a share counts by its square",
        memory: "one round",
    },
    Word {
        name: "reward",
        unit: "0 to 1",
        meaning: "what one completion earned; its parts and why: Rollouts (2)",
        raises: "being right, then being short",
        lowers: "being wrong; what is not in the agreed form earns nothing at all",
        memory: "one completion; training looks at differences within its group only",
    },
    Word {
        name: "right",
        unit: "per cent",
        meaning: "share of a peer's answers in the newest round that are right",
        raises: "right answers",
        lowers: "wrong or ill-formed ones",
        memory: "one round",
    },
    Word {
        name: "useful",
        unit: "groups",
        meaning: "groups of answers with right ones among wrong ones",
        raises: "items at the edge of what the peer can do",
        lowers: "items that are always right or always wrong: nothing to compare",
        memory: "one round",
    },
    Word {
        name: "verdict",
        unit: "right or wrong",
        meaning: "a critic's right or wrong, weighed by how often it was right",
        raises: "its weight: a low Brier score on answers whose truth is known",
        lowers: "its weight: a high one; no critic weighs more than three times the median",
        memory: "one round",
    },
    Word {
        name: "Brier",
        unit: "0 to 1, lower is better",
        meaning: "squared distance of a critic's verdicts from the truth; 0.25 is a coin",
        raises: "being surely wrong",
        lowers: "being surely right",
        memory: "one round; the mean over right and over wrong answers, each as heavy",
    },
    Word {
        name: "included",
        unit: "a hash",
        meaning: "the set of batches that more than two thirds of the witnesses received",
        raises: "a batch that reaches the witnesses in time",
        lowers: "lateness; who is late is late for that stage, not out",
        memory: "one round, for ever: it is what the witnesses sign",
    },
    Word {
        name: "witness",
        unit: "peers, at most 16 a round",
        meaning: "a member drawn by the round's beacon to sign what was included and scored",
        raises: "being a member that is not away",
        lowers: "after two missed rounds in a row a member is not drawn until it checks in",
        memory: "one round",
    },
    Word {
        name: "weight",
        unit: "0 to 1; on chain in parts per million",
        meaning: "what a witness's word weighs where a peer's score is taken",
        raises: "scores within 0.1 of the medians on average: a sixteenth of what it lacks",
        lowers: "scores further off: halved; a missed round: a sixteenth; two cards for one \
                 round: to zero",
        memory: "newcomers weigh nothing; until three judges of a peer have earned weight all \
                 count alike; nobody counts for more than three times the median",
    },
    Word {
        name: "missed",
        unit: "rounds in a row",
        meaning: "rounds that a witness was drawn for and did not sign",
        raises: "being drawn and not signing",
        lowers: "signing, or checking in: back to zero. It costs weight, and no reputation",
        memory: "until the next signature",
    },
    Word {
        name: "rounds",
        unit: "settled rounds",
        meaning: "settled rounds that included the peer",
        raises: "taking part",
        lowers: "nothing",
        memory: "for ever",
    },
];

/// A word by its name.
pub fn word(name: &str) -> Option<&'static Word> {
    WORDS.iter().find(|word| word.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words as `SCORES.md` has them.
    fn page() -> String {
        let mut page = String::new();
        for word in WORDS {
            page.push_str(&format!(
                "### {}\n\n{}: {}.\n\n| | |\n| --- | --- |\n| unit | {} |\n\
                 | raised by | {} |\n| lowered by | {} |\n| remembers | {} |\n\n",
                word.name,
                capital(word.name),
                word.meaning.trim_end_matches('.'),
                word.unit,
                word.raises,
                word.lowers,
                word.memory
            ));
        }
        page
    }

    fn capital(text: &str) -> String {
        let mut letters = text.chars();
        let first = letters.next().map(|first| first.to_uppercase().to_string());
        first.unwrap_or_default() + letters.as_str()
    }

    #[test]
    fn the_page_says_what_the_program_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../SCORES.md");
        let kept = std::fs::read_to_string(path).unwrap();
        let expected = page();
        assert!(
            kept.contains(expected.trim_end()),
            "SCORES.md must hold this, word for word:\n\n{expected}"
        );
    }

    // Half-lives follow from the contract's constants: ln 2 / -ln(15/16) and / -ln(63/64).
    #[test]
    fn half_lives_are_those_of_the_ledgers_constants() {
        let half_life = |kept: f64| (0.5f64.ln() / kept.ln()).round();
        let memory = word("reputation").unwrap().memory;
        assert!(memory.contains(&format!("last {} rounds", half_life(15.0 / 16.0))));
        assert!(memory.contains(&format!("in {} settled rounds", half_life(63.0 / 64.0))));
    }
}

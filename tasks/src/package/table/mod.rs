//! Environments without code: rows of questions and answers, and a scorer
//! that comes with the program.

mod expression;
mod number;

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};
use serde::Deserialize;

use crate::contents::Scorer;
use crate::{
    Draw, Ppm,
    dialogue::{Message, Role},
};
use number::Number;

/// The most rows of a table.
const MAX_ROWS: usize = 200_000;
/// The most bytes of one row, as it stands in the file.
const MAX_ROW: usize = 64 << 10;
/// The most choices a question may offer: one letter each.
const MAX_CHOICES: usize = 26;
/// What a compiled regular expression may take, in bytes.
const REGEX_BYTES: usize = 64 << 10;
/// The most rows of a table of patterns.
const MAX_PATTERNS: usize = 1_000;

/// A line of `items.jsonl`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    #[serde(default = "first")]
    level: u8,
    pub(super) question: String,
    pub(super) answer: String,
    #[serde(default)]
    pub(super) system: String,
    #[serde(default)]
    pub(super) working: String,
    #[serde(default)]
    choices: Vec<String>,
    #[serde(default)]
    pub(super) wrong: Vec<String>,
    #[serde(default)]
    pub(super) metadata: BTreeMap<String, String>,
    /// The answer as a pattern; the answer itself is then what is shown.
    #[serde(default)]
    pattern: Option<String>,
    #[serde(skip)]
    compiled: Option<Regex>,
}

fn first() -> u8 {
    1
}

/// A table, checked.
#[derive(Debug)]
pub(super) struct Table {
    scorer: Scorer,
    rows: Vec<Row>,
    levels: BTreeMap<u8, Vec<usize>>,
}

/// What a scorer says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Marked {
    pub(super) correct: Ppm,
    pub(super) why: String,
    /// Whether the answer is of a kind that can be right.
    pub(super) sensible: bool,
}

impl Table {
    /// Reads the rows. An error names the line.
    pub(super) fn read(text: &str, scorer: &Scorer, levels: u8) -> Result<Table, (usize, String)> {
        let mut table = Table {
            scorer: scorer.clone(),
            rows: Vec::new(),
            levels: BTreeMap::new(),
        };
        if let Scorer::Numeric { tolerance, .. } = scorer
            && Number::parse(tolerance).is_none()
        {
            return Err((0, format!("the tolerance {tolerance:?} is not a number")));
        }
        for (index, line) in text.lines().enumerate() {
            let at = |why: String| (index + 1, why);
            if line.trim().is_empty() {
                continue;
            }
            if line.len() > MAX_ROW {
                let bytes = line.len();
                return Err(at(format!(
                    "a row of {bytes} bytes, at most {MAX_ROW} are read"
                )));
            }
            let most = if *scorer == Scorer::Regex {
                MAX_PATTERNS
            } else {
                MAX_ROWS
            };
            if table.rows.len() == most {
                return Err(at(format!("more than {most} rows")));
            }
            let row: Row = serde_json::from_str(line)
                .map_err(|error| at(format!("column {}: {error}", error.column())))?;
            let row = table.check(row, levels).map_err(at)?;
            table
                .levels
                .entry(row.level)
                .or_default()
                .push(table.rows.len());
            table.rows.push(row);
        }
        for level in 1..=levels {
            if !table.levels.contains_key(&level) {
                return Err((0, format!("no row has level {level}")));
            }
        }
        Ok(table)
    }

    fn check(&self, mut row: Row, levels: u8) -> Result<Row, String> {
        if !(1..=levels).contains(&row.level) {
            return Err(format!("level {} of {levels}", row.level));
        }
        row.answer = row.answer.trim().to_owned();
        if row.answer.is_empty() {
            return Err("the answer is empty".to_owned());
        }
        if (self.scorer == Scorer::Choice) == row.choices.is_empty() {
            return Err("choices go with the scorer \"choice\", and it with them".to_owned());
        }
        match &self.scorer {
            Scorer::Choice => {
                let count = row.choices.len();
                let index = letter_index(&row.answer).filter(|index| *index < count);
                if count > MAX_CHOICES || index.is_none() {
                    return Err(format!(
                        "the answer must be the letter of one of at most {MAX_CHOICES} choices"
                    ));
                }
                row.answer = row.answer.to_ascii_uppercase();
                for (index, choice) in row.choices.iter().enumerate() {
                    row.question
                        .push_str(&format!("\n{}) {choice}", letter(index)));
                }
                row.wrong = (0..count)
                    .map(|index| letter(index).to_string())
                    .filter(|wrong| *wrong != row.answer)
                    .collect();
            }
            Scorer::Regex => {
                let pattern = row
                    .pattern
                    .as_deref()
                    .ok_or("the scorer \"regex\" needs a pattern")?;
                let regex = RegexBuilder::new(&format!("^(?:{pattern})$"))
                    .size_limit(REGEX_BYTES)
                    .dfa_size_limit(REGEX_BYTES)
                    .build()
                    .map_err(|error| format!("the pattern: {error}"))?;
                row.compiled = Some(regex);
            }
            Scorer::Numeric { .. } if Number::parse(&row.answer).is_none() => {
                return Err(format!("the answer {:?} is not a number", row.answer));
            }
            Scorer::Math if !expression::is_expression(&row.answer) => {
                return Err(format!("the answer {:?} is no expression", row.answer));
            }
            _ => {}
        }
        let right = self.mark(&row, &row.answer);
        if right.correct != Ppm::ONE {
            return Err(format!(
                "the answer {:?} is not right by its own scorer",
                row.answer
            ));
        }
        Ok(row)
    }

    pub(super) fn space(&self, level: u8) -> u64 {
        self.levels.get(&level).map_or(0, |rows| rows.len() as u64)
    }

    /// A row of a level; its place is what the item keeps.
    pub(super) fn draw(&self, level: u8, draw: &mut Draw) -> Option<(usize, &Row)> {
        let rows = self.levels.get(&level)?;
        let place = *rows.get(draw.index(rows.len()))?;
        Some((place, self.rows.get(place)?))
    }

    pub(super) fn row(&self, place: usize) -> Option<&Row> {
        self.rows.get(place)
    }

    /// Whether an answer to a row is right.
    pub(super) fn mark(&self, row: &Row, answered: &str) -> Marked {
        let answered = answered.trim();
        let verdict = |right: bool| Marked {
            correct: right.into(),
            why: if right { "right" } else { "wrong" }.to_owned(),
            sensible: true,
        };
        let senseless = |why: &str| Marked {
            correct: Ppm::ZERO,
            why: why.to_owned(),
            sensible: false,
        };
        match &self.scorer {
            Scorer::Exact { ignore_case: false } => verdict(answered == row.answer),
            Scorer::Exact { ignore_case: true } => {
                verdict(answered.to_lowercase() == row.answer.to_lowercase())
            }
            Scorer::Numeric {
                tolerance,
                relative_ppm,
            } => {
                let numbers = [answered, &row.answer, tolerance].map(Number::parse);
                match numbers {
                    [Some(number), Some(right), Some(tolerance)] => verdict(
                        number
                            .is_near(right, tolerance, *relative_ppm)
                            .unwrap_or(false),
                    ),
                    _ => senseless("not a number"),
                }
            }
            Scorer::Choice => match letter_index(answered) {
                Some(index) => verdict(row.answer == letter(index).to_string()),
                None => senseless("not the letter of a choice"),
            },
            Scorer::Regex => match &row.compiled {
                Some(regex) => verdict(regex.is_match(answered)),
                None => senseless("there is no pattern"),
            },
            Scorer::Set => verdict(members(answered) == members(&row.answer)),
            Scorer::Math => match expression::same(answered, &row.answer) {
                Some(right) => verdict(right),
                None => senseless("not an expression"),
            },
        }
    }
}

impl Row {
    /// What is said before the question.
    pub(super) fn context(&self) -> Vec<Message> {
        let system = (!self.system.is_empty()).then(|| Message {
            role: Role::System,
            content: self.system.clone(),
        });
        system.into_iter().collect()
    }
}

fn letter(index: usize) -> char {
    char::from(b'A' + u8::try_from(index % MAX_CHOICES).unwrap_or(0))
}

/// `B`, `b`, `(b)` or `B)`.
fn letter_index(text: &str) -> Option<usize> {
    let text = text
        .trim()
        .trim_start_matches('(')
        .trim_end_matches([')', '.']);
    let &[byte] = text.as_bytes() else {
        return None;
    };
    let byte = byte.to_ascii_uppercase();
    byte.is_ascii_uppercase().then(|| usize::from(byte - b'A'))
}

fn members(text: &str) -> Vec<String> {
    let text = text.trim().trim_matches(['{', '}', '[', ']', '(', ')']);
    let mut members: Vec<String> = text
        .split([',', ';', '\n'])
        .map(|member| member.trim().to_lowercase())
        .filter(|member| !member.is_empty())
        .collect();
    members.sort_unstable();
    members.dedup();
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(row: &str, scorer: Scorer) -> Result<Table, (usize, String)> {
        Table::read(row, &scorer, 1)
    }

    fn marks(row: &str, scorer: Scorer, right: &[&str], wrong: &[&str]) {
        let table = one(row, scorer).unwrap();
        for answer in right {
            assert_eq!(
                table.mark(&table.rows[0], answer).correct,
                Ppm::ONE,
                "{answer}"
            );
        }
        for answer in wrong {
            assert_eq!(
                table.mark(&table.rows[0], answer).correct,
                Ppm::ZERO,
                "{answer}"
            );
        }
    }

    #[test]
    fn every_scorer_tells_right_from_wrong() {
        let row = r#"{"question":"q","answer":"Yes"}"#;
        marks(
            row,
            Scorer::Exact { ignore_case: false },
            &["Yes", " Yes "],
            &["yes", ""],
        );
        marks(row, Scorer::Exact { ignore_case: true }, &["YES"], &["no"]);
        let row = r#"{"question":"q","answer":"3.5"}"#;
        let numeric = Scorer::Numeric {
            tolerance: "0.1".into(),
            relative_ppm: 0,
        };
        marks(
            row,
            numeric,
            &["3.5", "7/2", "3.6"],
            &["3.61", "x", "3.5 3.6"],
        );
        let row = r#"{"question":"q","answer":"b","choices":["one","two"]}"#;
        marks(
            row,
            Scorer::Choice,
            &["B", "(b)", "b."],
            &["A", "AB", "A, B", "two"],
        );
        let row = r#"{"question":"q","answer":"ab12","pattern":"[a-z]+\\d{2}"}"#;
        marks(
            row,
            Scorer::Regex,
            &["ab12", "x99"],
            &["ab123", "12", "ab12\nab12"],
        );
        let row = r#"{"question":"q","answer":"a, b"}"#;
        marks(
            row,
            Scorer::Set,
            &["b, a", "{B;A}", "a,b,a"],
            &["a", "a,b,c"],
        );
        let row = r#"{"question":"q","answer":"(x+1)^2"}"#;
        marks(row, Scorer::Math, &["x^2+2x+1"], &["x^2+1", "x", "why not"]);
    }

    #[test]
    fn an_error_names_the_line_and_what_is_wrong_with_it() {
        let exact = Scorer::Exact { ignore_case: false };
        let good = r#"{"question":"q","answer":"a"}"#;
        let said = |text: &str, scorer: &Scorer| Table::read(text, scorer, 1).unwrap_err();
        assert_eq!(said(&format!("{good}\n\n{{"), &exact).0, 3);
        let (line, why) = said(&format!("{good}\n{{\"question\":1}}"), &exact);
        assert!(line == 2 && why.contains("column"), "{why}");
        let (_, why) = said(r#"{"question":"q","answer":"a","anwser":"b"}"#, &exact);
        assert!(why.contains("anwser"), "{why}");
        let (_, why) = said(r#"{"question":"q","answer":"a","level":2}"#, &exact);
        assert!(why.contains("level 2 of 1"), "{why}");
        assert!(said("", &exact).1.contains("no row has level 1"));
        let numeric = Scorer::Numeric {
            tolerance: "0".into(),
            relative_ppm: 0,
        };
        assert!(said(good, &numeric).1.contains("not a number"));
    }

    #[test]
    fn rows_that_would_swell_are_refused() {
        let exact = Scorer::Exact { ignore_case: false };
        let long = format!(r#"{{"question":"{}","answer":"a"}}"#, "q".repeat(MAX_ROW));
        assert!(one(&long, exact).unwrap_err().1.contains("bytes"));
        let bomb = r#"{"question":"q","answer":"a","pattern":"((a{1000}){1000}){1000}"}"#;
        assert!(one(bomb, Scorer::Regex).unwrap_err().1.contains("pattern"));
        let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(one(&deep, Scorer::Set).is_err());
    }
}

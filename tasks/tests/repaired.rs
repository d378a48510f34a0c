//! What upstream pays for and ours does not: each answer here earns something
//! from `rg_NAME` on some item, and nothing from `NAME` on any.

use tasks::{Item, Ppm, Registry, Seed, library::Upstream};

/// A task, what is done, and the answer that does it.
type Exploit = (&'static str, &'static str, fn(&Item) -> String);

fn fact<'a>(item: &'a Item, name: &str) -> &'a str {
    item.metadata.get(name).unwrap_or("")
}

/// The right answer with every number in it moved.
fn moved(item: &Item, by: f64) -> String {
    let (mut text, mut number) = (String::new(), String::new());
    for c in item.reference.chars().chain([' ']) {
        if c.is_ascii_digit() || ".-".contains(c) {
            number.push(c);
            continue;
        }
        if !number.is_empty() {
            let value: f64 = number.parse().expect("digits with a point and a sign");
            text.push_str(&(value + by).to_string());
            number.clear();
        }
        text.push(c);
    }
    text.trim_end().to_owned()
}

/// The right answer with its last two characters changed about.
fn swapped(item: &Item) -> String {
    let mut text: Vec<char> = item.reference.chars().collect();
    let last = text.len() - 1;
    text.swap(last - 1, last);
    text.into_iter().collect()
}

const EXPLOITS: [Exploit; 13] = [
    ("propositional_logic", "a premise, copied", |item| {
        let premises = fact(item, "premises");
        premises.lines().next().unwrap_or_default().to_owned()
    }),
    (
        "fraction_simplification",
        "the fraction as it was",
        |item| format!("{}/{}", fact(item, "numerator"), fact(item, "denominator")),
    ),
    ("prime_factorization", "the number itself", |item| {
        fact(item, "number").to_owned()
    }),
    ("prime_factorization", "other factors", |_| {
        "2 \u{d7} 2".to_owned()
    }),
    ("spell_backward", "most letters in their place", swapped),
    (
        "word_sorting",
        "the same words, in the opposite order",
        |item| {
            let mut words: Vec<&str> = item.reference.split(", ").collect();
            words.reverse();
            words.join(", ")
        },
    ),
    ("game_of_life", "an empty board", |item| {
        item.reference.replace('1', "0")
    }),
    ("mini_sudoku", "all cells but one", |item| {
        let digit = if item.reference.starts_with('1') {
            "2"
        } else {
            "1"
        };
        digit.to_owned() + &item.reference[1..]
    }),
    ("gsm_symbolic", "any number", |_| "123456.5".to_owned()),
    ("number_sorting", "numbers that are off", |item| {
        moved(item, 0.25)
    }),
    ("decimal_arithmetic", "nearly the result", |item| {
        moved(item, 0.0004)
    }),
    ("countdown", "any text", |_| "no idea".to_owned()),
    ("gcd", "the answer, within talk", |item| {
        format!("it may be {} or not", item.reference)
    }),
];

#[test]
fn what_upstream_pays_for_without_a_solution_earns_nothing_here() {
    let library = Registry::library();
    for (name, what, answer) in EXPLOITS {
        let upstream = Upstream::all().find(|task| task.name() == name).unwrap();
        let paid = (0..60)
            .filter_map(|index| upstream.item(0, 3, index))
            .any(|item| {
                let answer = answer(&item);
                answer != item.reference && upstream.score_answer(&item, &answer) > Ppm::ZERO
            });
        assert!(paid, "{name}: upstream pays nothing for {what}");
        let ours = library.by_name(name).unwrap();
        for (level, index) in (1..=3u8).flat_map(|level| (0..20u8).map(move |i| (level, i))) {
            let item = ours.generate(&Seed::derive(&[b"repaired", &[level, index]]), level);
            let answer = answer(&item);
            let score = ours.score(&item, &format!("<answer>{answer}</answer>"));
            assert_eq!(
                score.reward,
                Ppm::ZERO,
                "{name} pays for {what}: {answer:?} to {:?}",
                item.question
            );
        }
    }
}

/// Items of upstream's that have no answer, or whose answer stands in the
/// question, are not asked.
#[test]
fn an_item_that_a_copy_answers_is_never_asked() {
    let library = Registry::library();
    let each = |name: &str, check: &dyn Fn(&Item)| {
        let ours = library.by_name(name).unwrap();
        for index in 0..120u32 {
            let level = (index % 3) as u8 + 1;
            check(&ours.generate(&Seed::derive(&[b"copy", &index.to_le_bytes()]), level));
        }
    };
    each("base_conversion", &|item| {
        assert!(!item.reference.is_empty() && item.reference != "0");
        assert_ne!(fact(item, "decimal_value"), "0");
    });
    each("prime_factorization", &|item| {
        assert!(item.reference.contains('\u{d7}'), "{}", item.question);
    });
    each("spell_backward", &|item| {
        assert_ne!(item.reference, fact(item, "word"));
    });
    each("number_filtering", &|item| {
        assert!(!item.reference.is_empty());
    });
    each("game_of_life", &|item| {
        assert!(item.reference.contains('1'));
    });
    each("rotate_matrix", &|item| {
        assert!(
            !item.question.contains(&item.reference),
            "{}",
            item.question
        );
    });
}

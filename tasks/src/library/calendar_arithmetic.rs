//! `calendar_arithmetic`: weekdays, counts of days, leap years.

use super::{Ask, Puzzle, Random, Task, fact, read};
use crate::{Item, Ppm, item::near};

pub(super) const CALENDAR_ARITHMETIC: Task = Task {
    name: "calendar_arithmetic",
    summary: "weekdays and counts of days",
    levels: [
        ("the weekday of a date, leap years", 1_000),
        ("and so many days on or back", 10_000),
        ("and counts of days over a year", 100_000),
    ],
    alphabet: "-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ",
    answer_chars: 16,
    make: calendar_arithmetic,
    accepts: |item, answer| {
        answer.eq_ignore_ascii_case(&item.reference) || read::number(item, answer)
    },
    upstream: upstream_score,
};

const WEEKDAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const NAME_A_DAY: [&str; 9] = [
    "Answer with the weekday's name (e.g., Monday, Tuesday, etc.).",
    "Provide the full name of the weekday.",
    "State the weekday (Monday through Sunday).",
    "Give the weekday name in full.",
    "Reply with just the weekday name.",
    "Write out the full weekday name.",
    "Respond with the weekday (Monday-Sunday).",
    "Answer using the complete weekday name.",
    "Name the day of the week in full.",
];

const GIVE_A_NUMBER: [&str; 8] = [
    "Answer with a number.",
    "Provide the count as a number.",
    "Respond with just the number.",
    "Write the total number.",
    "Give the count numerically.",
    "State the amount as a number.",
    "Reply with the numerical value.",
    "Express your answer as a number.",
];

#[derive(Clone, Copy)]
enum Kind {
    WeekdayOffset,
    WeekdayOfDate,
    WeekdayFromFirst,
    RecurringEvent,
    CountDays,
    CountBusinessDays,
    IsLeapYear,
}

use Kind::{
    CountBusinessDays, CountDays, IsLeapYear, RecurringEvent, WeekdayFromFirst, WeekdayOfDate,
    WeekdayOffset,
};

struct Configuration {
    kinds: &'static [Kind],
    /// How far apart two days may be.
    offset: i64,
}

/// Upstream's year.
const YEAR: i64 = 2022;

/// A day, counted from 1 January of year 1, which is day 1 and a Monday.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Day(i64);

fn leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn month_length(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl Day {
    fn of(year: i64, month: i64, day: i64) -> Day {
        let before = year - 1;
        let leaps = before / 4 - before / 100 + before / 400;
        let months: i64 = (1..month).map(|month| month_length(year, month)).sum();
        Day(before * 365 + leaps + months + day)
    }

    /// Year, month, day.
    fn date(self) -> (i64, i64, i64) {
        let mut year = (self.0 - 1) / 366 + 1;
        while Day::of(year + 1, 1, 1) <= self {
            year += 1;
        }
        let mut month = 1;
        while month < 12 && Day::of(year, month + 1, 1) <= self {
            month += 1;
        }
        (year, month, self.0 - Day::of(year, month, 1).0 + 1)
    }

    fn weekday(self) -> &'static str {
        WEEKDAYS[usize::try_from((self.0 - 1).rem_euclid(7)).unwrap_or(0)]
    }

    fn month_name(self) -> &'static str {
        MONTHS[usize::try_from(self.date().1 - 1).unwrap_or(0)]
    }

    /// `March 13`.
    fn month_day(self) -> String {
        format!("{} {}", self.month_name(), self.date().2)
    }

    /// `Wednesday, March 13`.
    fn named(self) -> String {
        format!("{}, {}", self.weekday(), self.month_day())
    }
}

fn any_day(random: &mut Random) -> Day {
    let month = random.int(1, 12);
    let day = random.int(1, month_length(YEAR, month));
    Day::of(YEAR, month, day)
}

fn day_between(random: &mut Random, first: Day, last: Day) -> Day {
    Day(first.0 + random.int(0, last.0 - first.0))
}

fn calendar_arithmetic(ask: &Ask, random: &mut Random) -> Option<Puzzle> {
    const fn of(kinds: &'static [Kind], offset: i64) -> Configuration {
        Configuration { kinds, offset }
    }
    const CONFIGURATIONS: [Configuration; 4] = [
        of(
            &[
                WeekdayOffset,
                WeekdayOfDate,
                WeekdayFromFirst,
                RecurringEvent,
                CountDays,
                CountBusinessDays,
                IsLeapYear,
            ],
            100,
        ),
        of(&[WeekdayOfDate, IsLeapYear], 30),
        of(
            &[WeekdayOfDate, IsLeapYear, WeekdayOffset, WeekdayFromFirst],
            100,
        ),
        of(
            &[
                WeekdayOffset,
                WeekdayFromFirst,
                RecurringEvent,
                CountDays,
                CountBusinessDays,
            ],
            365,
        ),
    ];
    let configuration = ask.pick(&CONFIGURATIONS);
    let offset = configuration.offset;
    Some(match *random.choice(configuration.kinds) {
        WeekdayOffset => weekday_offset(random, offset),
        WeekdayOfDate => weekday_of_date(random),
        WeekdayFromFirst => weekday_from_first(random, offset),
        RecurringEvent => recurring_event(random),
        CountDays => count_days(random, offset),
        CountBusinessDays => count_business_days(ask, random, offset),
        IsLeapYear => is_leap_year(random),
    })
}

fn puzzle(kind: &'static str, question: String, answer: String) -> Puzzle {
    Puzzle::new(question, answer)
        .fact("kind", kind)
        .slips(slips)
}

fn slips(item: &Item) -> Vec<String> {
    match item.reference.as_str() {
        "Yes" | "No" => ["Yes", "No"].map(str::to_owned).to_vec(),
        number if number.parse::<i128>().is_ok() => near(item),
        _ => WEEKDAYS.map(str::to_owned).to_vec(),
    }
}

/// One of three ways to ask, and one of the ways to ask for a form.
fn ask_in(random: &mut Random, ways: [String; 3], forms: &[&str]) -> String {
    let way = random.index(ways.len());
    format!("{} {}", ways[way], random.choice(forms))
}

fn weekday_offset(random: &mut Random, most: i64) -> Puzzle {
    let start = any_day(random);
    let days = random.int(1, most);
    let back = *random.choice(&[true, false]);
    let target = Day(if back { start.0 - days } else { start.0 + days });
    let date = format!("{}, {YEAR}", start.named());
    let ways = if back {
        [
            format!("If today is {date}, what day of the week was it {days} days ago?"),
            format!("Starting from {date}, which weekday was it {days} days before?"),
            format!("Count backward {days} days from {date} - what's the weekday?"),
        ]
    } else {
        [
            format!("If today is {date}, what day of the week will it be in {days} days?"),
            format!("Starting from {date}, which weekday falls after a {days}-day jump?"),
            format!("Count forward {days} days from {date} - what's the weekday?"),
        ]
    };
    let question = ask_in(random, ways, &NAME_A_DAY);
    puzzle("weekday_offset", question, target.weekday().to_owned())
}

fn weekday_of_date(random: &mut Random) -> Puzzle {
    let day = any_day(random);
    let (_, month, number) = day.date();
    let ways = [
        format!("What day of the week was {}, {YEAR}?", day.month_day()),
        format!("On which weekday did {}, {YEAR} fall?", day.month_day()),
        format!("Name the day of the week for {month:02}/{number:02}/{YEAR}."),
    ];
    let question = ask_in(random, ways, &NAME_A_DAY);
    puzzle("weekday_of_date", question, day.weekday().to_owned())
}

fn weekday_from_first(random: &mut Random, most: i64) -> Puzzle {
    let first = random.index(7);
    let (start, end) = (Day::of(YEAR, 1, 1), Day::of(YEAR, 12, 31));
    let last = end.min(Day(start.0 + most));
    let target = loop {
        let day = day_between(random, start, last);
        if day != start {
            break day;
        }
    };
    let days = usize::try_from(target.0 - start.0).unwrap_or(0);
    let (name, date) = (WEEKDAYS[first], target.month_day());
    let ways = [
        format!("If the first day of the year was a {name}, what day of the week will {date} be?"),
        format!("Given that January 1 fell on a {name}, which weekday occurs on {date}?"),
        format!("In a year where {name} is January 1st, name the weekday of {date}."),
    ];
    let question = ask_in(random, ways, &NAME_A_DAY);
    let answer = WEEKDAYS[(first + days) % 7].to_owned();
    puzzle("weekday_of_date_from_first_date", question, answer)
}

fn recurring_event(random: &mut Random) -> Puzzle {
    let month = random.int(1, 12);
    let ordinals = ["first", "second", "third", "fourth", "last"];
    let place = random.index(ordinals.len());
    let weekday = WEEKDAYS[random.index(7)];
    let days: Vec<i64> = (1..=month_length(YEAR, month))
        .filter(|day| Day::of(YEAR, month, *day).weekday() == weekday)
        .collect();
    // Every weekday comes at least four times a month.
    let day = if place == 4 {
        days[days.len() - 1]
    } else {
        days[place]
    };
    let ordinal = ordinals[place];
    let name = Day::of(YEAR, month, 1).month_name();
    let ways = [
        format!(
            "If a meeting is scheduled on the {ordinal} {weekday} of {name} {YEAR}, on which day of the month does it occur?"
        ),
        format!(
            "In {name} {YEAR}, if an event recurs on the {ordinal} {weekday}, what is the date (day of the month) of the event?"
        ),
        format!("Determine the day of the month for the {ordinal} {weekday} in {name} {YEAR}."),
    ];
    let question = ask_in(random, ways, &GIVE_A_NUMBER)
        + " Answer with -1 if the ordinal does not exist in the month.";
    puzzle("recurring_event_day", question, day.to_string())
}

fn count_days(random: &mut Random, most: i64) -> Puzzle {
    let (first, last) = (Day::of(YEAR, 1, 1), Day::of(YEAR, 12, 31));
    let start = day_between(random, first, last);
    let end = day_between(random, start, last.min(Day(start.0 + most)));
    let weekday = WEEKDAYS[random.index(7)];
    let count = (start.0..=end.0)
        .filter(|day| Day(*day).weekday() == weekday)
        .count();
    let (from, to) = (start.named(), end.named());
    let ways = [
        format!(
            "How many {weekday}s are there from {from}, {YEAR} to {to}, {YEAR} (inclusive of both dates)?"
        ),
        format!(
            "Count the occurrences of {weekday} from {from} to {to}, {YEAR} (including both start and end dates)."
        ),
        format!(
            "Between {from}, {YEAR} and {to}, {YEAR} (counting both dates), how many times does {weekday} occur?"
        ),
    ];
    let question = ask_in(random, ways, &GIVE_A_NUMBER);
    puzzle("count_days", question, count.to_string())
}

fn count_business_days(ask: &Ask, random: &mut Random, most: i64) -> Puzzle {
    let (first, last) = (Day::of(YEAR, 1, 1), Day::of(YEAR, 12, 31));
    let start = day_between(random, first, last);
    let far = Day(start.0 + most);
    // Upstream goes on into the next year, and calls it this one.
    let end = day_between(
        random,
        start,
        if ask.upstream { far } else { far.min(last) },
    );
    let count = (start.0..=end.0)
        .filter(|day| !Day(*day).weekday().starts_with('S'))
        .count();
    let (from, to) = (start.named(), end.named());
    let ways = [
        format!(
            "How many business days (Monday-Friday) are there from {from}, {YEAR} to {to}, {YEAR} (inclusive of both dates)?"
        ),
        format!(
            "Count the weekdays (excluding weekends) from {from} to {to}, {YEAR} (including both start and end dates)."
        ),
        format!(
            "Between {from}, {YEAR} and {to}, {YEAR} (counting both dates), what's the total count of business days (Monday through Friday)?"
        ),
    ];
    let question = ask_in(random, ways, &GIVE_A_NUMBER);
    puzzle("count_business_days", question, count.to_string())
}

fn is_leap_year(random: &mut Random) -> Puzzle {
    let year = random.int(YEAR - 100, YEAR + 100);
    let ways = [
        format!("Determine if the year {year} is a leap year."),
        format!("Is {year} a leap year?"),
        format!("Tell me whether {year} is a leap year."),
    ];
    let question = format!("{} Answer with Yes or No.", random.choice(&ways));
    let answer = if leap(year) { "Yes" } else { "No" };
    puzzle("is_leap_year", question, answer.to_owned())
}

/// `e^-x` by sums and products alone, so that every machine finds the same.
fn decay(x: f64) -> f64 {
    if x > 700.0 {
        return 0.0;
    }
    let small = x / 1_024.0;
    let mut sum = 1.0;
    for term in (1..=12).rev() {
        sum = 1.0 + sum * small / f64::from(term);
    }
    (0..10).fold(sum, |power, _| power * power).recip()
}

/// Upstream pays a tenth for any weekday, and for a number by how near it is.
fn upstream_score(item: &Item, answer: &str) -> Ppm {
    let (answer, right) = (answer.trim(), item.reference.as_str());
    match fact(item, "kind") {
        "is_leap_year" => Ppm::from(answer.to_lowercase() == right.to_lowercase()),
        "weekday_offset" | "weekday_of_date" | "weekday_of_date_from_first_date" => {
            if answer == right {
                Ppm::ONE
            } else if WEEKDAYS.contains(&answer) {
                Ppm(100_000)
            } else if WEEKDAYS.iter().any(|day| day.eq_ignore_ascii_case(answer)) {
                Ppm(50_000)
            } else {
                Ppm::ZERO
            }
        }
        _ => {
            let Some((answer, right)) = read::python_int(answer).zip(read::python_int(right))
            else {
                return Ppm::ZERO;
            };
            if right == 0 {
                return Ppm::from(answer == 0);
            }
            let error = answer.abs_diff(right) as f64 / right as f64;
            read::ppm(decay(5.0 * error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_agree() {
        for day in (1..1_000_000).step_by(37) {
            let (year, month, number) = Day(day).date();
            assert_eq!(Day::of(year, month, number), Day(day));
        }
        assert_eq!(Day::of(2024, 2, 29).named(), "Thursday, February 29");
        assert!(leap(2000) && !leap(1900) && leap(2024) && !leap(2022));
    }

    #[test]
    fn decay_is_the_exponential() {
        for x in [0.0, 0.1, 1.0, 5.0, 60.0] {
            let error = (decay(x) - (-x).exp()).abs();
            assert!(error < 1e-12, "{x}: {error}");
        }
    }
}

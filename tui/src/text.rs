//! Text at the edge of the terminal: cleaning, measuring, wrapping, numbers.
//!
//! Much of what the screens show was written by other peers. Here it is made
//! harmless: control characters, escape sequences, bidirectional overrides and
//! invisible characters are replaced by something a person can see, so that no
//! text can move the cursor, recolour the screen or reorder a line.

use ratatui::buffer::CellWidth;
use ratatui::style::Style;
use ratatui::text::Span;

/// Combining marks kept on one character. Real scripts need at most two;
/// without a limit one character can hold kilobytes.
const MARKS_PER_CHARACTER: usize = 2;

/// Whether a character must never reach the terminal as it is.
pub fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(u32::from(character),
            // soft hyphen, joiners, fillers: invisible, or of no agreed width
            0xAD | 0x34F | 0x115F | 0x1160 | 0x17B4 | 0x17B5 | 0x180B..=0x180F | 0x3164 | 0xFFA0
            // bidirectional controls, separators, invisible operators
            | 0x61C | 0x200B..=0x200F | 0x2028..=0x202E | 0x2060..=0x206F
            // variation selectors, byte order mark, interlinear annotations
            | 0xFE00..=0xFE0F | 0xFEFF | 0xFFF0..=0xFFFB
            | 0x1BCA0..=0x1BCA3 | 0x1D173..=0x1D17A
            // private use, noncharacters, tags
            | 0xE000..=0xF8FF | 0xFFFE | 0xFFFF | 0xE0000..=0x10FFFF)
}

/// What is shown in the place of an unsafe character: the control pictures
/// where Unicode has one (`␛` for ESC), `�` otherwise.
pub fn stand_in(character: char) -> char {
    match u32::from(character) {
        code @ 0..=0x1F => char::from_u32(0x2400 + code).unwrap_or('\u{FFFD}'),
        0x7F => '␡',
        _ => '\u{FFFD}',
    }
}

/// One line, harmless: line breaks become `⏎`, tabs a space.
pub fn clean(text: &str) -> String {
    clean_with(text, |character| match character {
        '\n' => Some('⏎'),
        '\t' => Some(' '),
        _ => None,
    })
}

/// Several lines, harmless; trailing white space goes.
pub fn clean_lines(text: &str) -> Vec<String> {
    text.trim_end()
        .split('\n')
        .map(|line| {
            clean_with(line.trim_end(), |character| {
                (character == '\t').then_some(' ')
            })
        })
        .collect()
}

fn clean_with(text: &str, special: impl Fn(char) -> Option<char>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut marks = MARKS_PER_CHARACTER;
    for character in text.chars() {
        if let Some(replacement) = special(character) {
            out.push(replacement);
            marks = 0;
        } else if is_unsafe(character) {
            out.push(stand_in(character));
            marks = 0;
        } else if width_of(character) == 0 {
            // A mark with nothing to sit on is dropped, as is a pile of them.
            if !out.is_empty() && marks < MARKS_PER_CHARACTER {
                out.push(character);
            }
            marks += 1;
        } else {
            out.push(character);
            marks = 0;
        }
    }
    out
}

fn width_of(character: char) -> usize {
    if character.is_ascii() {
        return 1;
    }
    usize::from(character.encode_utf8(&mut [0; 4]).cell_width())
}

/// The characters of clean text as a terminal shows them, marks and all, each
/// with the cells it takes: the same measure that drawing uses.
fn graphemes(text: &str) -> Vec<(String, usize)> {
    Span::raw(text)
        .styled_graphemes(Style::new())
        .map(|grapheme| {
            let cells = usize::from(grapheme.symbol.cell_width());
            (grapheme.symbol.to_owned(), cells)
        })
        .collect()
}

/// Terminal cells that clean text takes.
pub fn width(text: &str) -> usize {
    if text.is_ascii() {
        return text.len();
    }
    graphemes(text).iter().map(|(_, cells)| cells).sum()
}

/// Clean text in at most `cells` cells, with `…` where something was cut.
pub fn fit(text: &str, cells: usize) -> String {
    let text = clean(text);
    if width(&text) <= cells {
        return text;
    }
    let mut out = String::new();
    let mut used = 0;
    for (grapheme, wide) in graphemes(&text) {
        if used + wide + 1 > cells {
            break;
        }
        out.push_str(&grapheme);
        used += wide;
    }
    if cells > 0 {
        out.push('…');
    }
    out
}

/// Wraps text, cleaned, into lines of at most `cells` cells: at spaces and
/// before tags; a word longer than a line is cut.
pub fn wrap(text: &str, cells: usize) -> Vec<String> {
    // The widest character takes three.
    let cells = cells.max(3);
    let mut lines = Vec::new();
    for paragraph in clean_lines(text) {
        wrap_line(&paragraph, cells, &mut lines);
    }
    lines
}

fn wrap_line(paragraph: &str, cells: usize, lines: &mut Vec<String>) {
    let mut line = String::new();
    let mut used = 0;
    for word in words(paragraph) {
        let visible = width(word.trim_end_matches(' '));
        if used > 0 && used + visible > cells {
            lines.push(line.trim_end().to_owned());
            line.clear();
            used = 0;
        }
        for (grapheme, wide) in graphemes(word) {
            if used + wide > cells {
                if grapheme == " " {
                    continue;
                }
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            line.push_str(&grapheme);
            used += wide;
        }
    }
    lines.push(line.trim_end().to_owned());
}

/// What a line may be broken between: a word with its space, a tag.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split_inclusive(' ').flat_map(|word| {
        let mut rest = word;
        std::iter::from_fn(move || {
            let first = rest.chars().next()?;
            let after = first.len_utf8();
            let end = rest[after..].find('<').map_or(rest.len(), |at| after + at);
            let (chunk, tail) = rest.split_at(end);
            rest = tail;
            Some(chunk)
        })
    })
}

/// At most `bytes` bytes of `text`, cut between characters.
pub fn clip(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let mut end = bytes.saturating_sub('…'.len_utf8());
    while end > 0 && !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

/// A share from 0 to 1 as a percentage: `63.0%`.
pub fn share(value: f64) -> String {
    if value.is_finite() {
        format!("{:.1}%", 100.0 * value)
    } else {
        "?".to_owned()
    }
}

/// Parts per million as a percentage: `63.0%`.
pub fn ppm(value: u32) -> String {
    share(fraction(value))
}

/// Parts per million as a fraction of one.
pub fn fraction(ppm: u32) -> f64 {
    f64::from(ppm) / 1e6
}

/// A change of a share, in percentage points, with an arrow: `▲ 21.8`.
pub fn change(before: f64, now: f64) -> String {
    let points = 100.0 * (now - before);
    match points {
        points if !points.is_finite() => "?".to_owned(),
        points if points >= 0.05 => format!("▲ {points:.1}"),
        points if points <= -0.05 => format!("▼ {:.1}", -points),
        _ => "= 0.0".to_owned(),
    }
}

/// A number with a fixed number of digits, or `?` where it is not one.
pub fn number(value: f64, digits: usize) -> String {
    if !value.is_finite() {
        "?".to_owned()
    } else if value.abs() >= 1e6 {
        format!("{value:.1e}")
    } else {
        format!("{value:.digits$}")
    }
}

/// A count with thousands set apart: `212,331`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number of bytes: `1.2 MB`.
pub fn bytes(value: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut scaled = value as f64;
    let mut unit = 0;
    while scaled >= 999.5 && unit + 1 < UNITS.len() {
        scaled /= 1000.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{value} B")
    } else if scaled < 9.95 {
        format!("{scaled:.1} {}", UNITS[unit])
    } else {
        format!("{scaled:.0} {}", UNITS[unit])
    }
}

/// A time span: `850 ms`, `12.3 s`, `3 min 20 s`, `2 h 05 min`.
pub fn span(ms: u64) -> String {
    match ms {
        0..=999 => format!("{ms} ms"),
        1_000..=59_999 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        60_000..=3_599_999 => format!("{} min {:02} s", ms / 60_000, ms / 1000 % 60),
        _ => format!("{} h {:02} min", ms / 3_600_000, ms / 60_000 % 60),
    }
}

/// Whole seconds of a time span, for what counts down: `14 s`, `3 min 20 s`.
pub fn seconds(ms: u64) -> String {
    match ms {
        0..=59_999 => format!("{} s", ms / 1000),
        _ => span(ms),
    }
}

/// A round-trip time: `240 µs`, `1.2 ms`.
pub fn round_trip(us: u64) -> String {
    match us {
        0..=999 => format!("{us} µs"),
        1_000..=99_999 => format!("{}.{} ms", us / 1000, us % 1000 / 100),
        _ => format!("{} ms", us / 1000),
    }
}

/// The time of day (UTC) of a moment: `13:42:07`.
pub fn clock(at_ms: u64) -> String {
    let second = at_ms / 1000;
    format!(
        "{:02}:{:02}:{:02}",
        second / 3600 % 24,
        second / 60 % 60,
        second % 60
    )
}

/// A position in a recording: `03:21`, `1:03:21`.
pub fn position(ms: u64) -> String {
    let second = ms / 1000;
    if second < 3600 {
        format!("{:02}:{:02}", second / 60, second % 60)
    } else {
        format!(
            "{}:{:02}:{:02}",
            second / 3600,
            second / 60 % 60,
            second % 60
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escape_sequence_is_shown_and_not_sent() {
        assert_eq!(clean("\u{1b}[31mred\u{7}"), "␛[31mred␇");
        assert_eq!(clean("\u{9b}31m"), "\u{FFFD}31m");
        assert_eq!(clean("a\nb\tc\rd"), "a⏎b c␍d");
    }

    #[test]
    fn text_cannot_turn_around() {
        assert_eq!(clean("abc\u{202e}fed"), "abc\u{FFFD}fed");
        assert_eq!(
            clean("\u{2066}\u{200b}\u{feff}"),
            "\u{FFFD}\u{FFFD}\u{FFFD}"
        );
    }

    #[test]
    fn a_pile_of_marks_becomes_two() {
        let pile = format!("e{}x", "\u{301}".repeat(50));
        assert_eq!(clean(&pile), "e\u{301}\u{301}x");
        assert_eq!(clean("\u{301}x"), "x");
    }

    #[test]
    fn fitting_counts_cells_and_not_characters() {
        assert_eq!(fit("日本語", 6), "日本語");
        assert_eq!(fit("日本語", 5), "日本…");
        assert_eq!(fit("日本語", 4), "日…");
        assert_eq!(fit("abc", 0), "");
    }

    #[test]
    fn wrapping_keeps_every_word() {
        assert_eq!(wrap("the quick brown fox", 10), ["the quick", "brown fox"]);
        assert_eq!(wrap("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(wrap("a\n\nb", 10), ["a", "", "b"]);
        assert_eq!(wrap("日本語日本語", 5), ["日本", "語日", "本語"]);
        assert_eq!(
            wrap("<think>1=1 9=9</think><answer>19</answer>", 22),
            ["<think>1=1 9=9</think>", "<answer>19</answer>"]
        );
    }

    #[test]
    fn no_line_is_wider_than_it_may_be() {
        let pieces = [
            "a",
            " ",
            "日本",
            "e\u{301}",
            "👍🏽",
            "🇩🇪",
            "ﾊﾞ",
            "한",
            "<b>",
            "\u{1b}[2J",
            "لا",
        ];
        let mut seed = 1_u64;
        for _ in 0..2_000 {
            let mut text = String::new();
            for _ in 0..12 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                text.push_str(pieces[(seed >> 33) as usize % pieces.len()]);
            }
            for cells in 4..14 {
                assert!(width(&fit(&text, cells)) <= cells, "{text:?} in {cells}");
                for line in wrap(&text, cells) {
                    assert!(width(&line) <= cells, "{text:?} in {cells}: {line:?}");
                }
            }
        }
    }

    #[test]
    fn clipping_never_splits_a_character() {
        for bytes in 0..12 {
            let clipped = clip("日本語日本語", bytes);
            assert!(clipped.len() <= bytes.max(3));
        }
    }

    #[test]
    fn numbers_read_like_a_person_wrote_them() {
        assert_eq!(share(0.63), "63.0%");
        assert_eq!(share(f64::NAN), "?");
        assert_eq!(change(0.4, 0.618), "▲ 21.8");
        assert_eq!(change(0.4, 0.3), "▼ 10.0");
        assert_eq!(count(212_331), "212,331");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(count(12), "12");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_240), "1.2 kB");
        assert_eq!(bytes(1_000_000), "1.0 MB");
        assert_eq!(span(850), "850 ms");
        assert_eq!(span(200_000), "3 min 20 s");
        assert_eq!(round_trip(240), "240 µs");
        assert_eq!(clock(49_327_000), "13:42:07");
        assert_eq!(position(201_000), "03:21");
        assert_eq!(number(f64::INFINITY, 2), "?");
    }
}

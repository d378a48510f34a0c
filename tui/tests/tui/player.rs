//! Recordings: reading files as they are found, and playing with passed-in time.

use std::io::{self, BufRead, Read};

use swarm_core::event::{Event, Record};
use tui::read_events;
use tui::replay::{Player, SILENCE_MS};
use tui::source::{Control, Source};

use crate::fixture;
use crate::support::{all_screens, fold};

fn lines(records: &[Record]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in records {
        serde_json::to_writer(&mut bytes, record).expect("a record serialises");
        bytes.push(b'\n');
    }
    bytes
}

fn player() -> Player {
    Player::new(fixture::run(), Vec::new())
}

fn position(player: &Player) -> u64 {
    player.transport().expect("a recording").position_ms
}

#[test]
fn a_file_reads_back_as_it_was_written() {
    let records = fixture::run();
    let (read, problems) = read_events(&lines(&records)[..]);
    // Fractions may differ in their last bit, which no screen shows.
    assert_eq!(read.len(), records.len());
    assert_eq!(all_screens(&fold(&read)), all_screens(&fold(&records)));
    assert!(problems.is_empty());
}

#[test]
fn torn_and_corrupt_lines_are_told_and_left_out() {
    let records = fixture::run();
    let mut bytes = lines(&records[..3]);
    bytes.extend(b"{\"at_ms\":1,\"type\":\"from_a_later_version\"}\n\n   \n");
    bytes.extend(b"\xff\xfe\x00garbage\n");
    bytes.extend(lines(&records[3..5]));
    let torn = lines(&records[5..6]);
    bytes.extend(&torn[..torn.len() / 2]);
    let (read, problems) = read_events(&bytes[..]);
    assert_eq!(read, records[..5]);
    assert_eq!(problems.len(), 3);
    for (problem, line) in problems.iter().zip(["line 4: ", "line 7: ", "line 10: "]) {
        assert!(problem.starts_with(line), "{problem}");
    }
}

#[test]
fn any_cut_of_a_file_reads() {
    let bytes = lines(&fixture::run()[..12]);
    for end in 0..bytes.len() {
        let (records, problems) = read_events(&bytes[..end]);
        assert!(records.len() <= 12);
        assert!(problems.len() <= 1, "{problems:?}");
    }
}

#[test]
fn any_flipped_byte_reads() {
    let records = &fixture::run()[..6];
    let bytes = lines(records);
    for at in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x15;
        let (read, _) = read_events(&bytes[..]);
        // At worst a line is split in two or joined with the next.
        assert!(read.len() >= records.len() - 2);
        fold(&read);
    }
}

#[test]
fn a_flood_of_problems_is_summed_up() {
    let bytes = "nonsense\n".repeat(1_000);
    let (records, problems) = read_events(bytes.as_bytes());
    assert!(records.is_empty());
    assert_eq!(problems.len(), 21);
    assert_eq!(problems[20], "and 980 more");
}

#[test]
fn an_endless_line_is_not_kept() {
    let good = lines(&fixture::run()[..1]);
    let endless = io::repeat(b'x').take(9 << 20);
    let reader = io::BufReader::new(endless)
        .chain(&b"\n"[..])
        .chain(&good[..]);
    let (records, problems) = read_events(reader);
    assert_eq!(records.len(), 1);
    assert_eq!(problems, ["line 1: longer than 4194304 bytes"]);
}

#[test]
fn a_disk_that_fails_is_told() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("disk on fire"))
        }
    }
    impl BufRead for Failing {
        fn fill_buf(&mut self) -> io::Result<&[u8]> {
            Err(io::Error::other("disk on fire"))
        }
        fn consume(&mut self, _: usize) {}
    }
    let good = lines(&fixture::run()[..2]);
    let (records, problems) = read_events(good.chain(Failing));
    assert_eq!(records.len(), 2);
    assert_eq!(
        problems,
        ["line 3: disk on fire; nothing after it was read"]
    );
}

#[test]
fn nothing_to_replay_is_an_error_that_says_why() {
    let error = tui::replay(Vec::new(), vec!["line 1: oh".to_owned()]).unwrap_err();
    assert_eq!(error.to_string(), "no events to replay: line 1: oh");
}

#[test]
fn it_plays_at_its_own_pace_and_at_others() {
    let mut player = player();
    assert!(!player.advance(5_000), "the first call only sets the clock");
    assert!(player.advance(6_000));
    assert_eq!(position(&player), 1_000);
    player.control(Control::Faster, 6_000);
    player.advance(7_000);
    assert_eq!(position(&player), 3_000);
    for _ in 0..2 {
        player.control(Control::Slower, 7_000);
    }
    assert_eq!(player.transport().unwrap().half_speeds, 1);
    // Half speed loses no odd millisecond.
    for now in 7_001..=7_100 {
        player.advance(now);
    }
    assert_eq!(position(&player), 3_050);
    for _ in 0..20 {
        player.control(Control::Faster, 7_100);
    }
    assert_eq!(player.transport().unwrap().half_speeds, 128);
    for _ in 0..20 {
        player.control(Control::Slower, 7_100);
    }
    assert_eq!(player.transport().unwrap().half_speeds, 1);
    // A clock that steps back stands still.
    player.advance(100);
    assert_eq!(position(&player), 3_050);
}

#[test]
fn pausing_stands_still_and_the_end_starts_over() {
    let mut player = player();
    player.advance(0);
    player.control(Control::TogglePause, 500);
    assert_eq!(position(&player), 500, "what had played, had played");
    assert!(!player.advance(60_000));
    player.control(Control::TogglePause, 60_000);
    assert!(player.advance(60_100));
    assert_eq!(position(&player), 600);
    player.control(Control::End, 60_100);
    assert!(player.transport().unwrap().at_end);
    assert!(!player.advance(70_000));
    player.control(Control::TogglePause, 70_000);
    assert_eq!(position(&player), 0);
    assert!(!player.transport().unwrap().paused);
}

#[test]
fn rounds_are_marks_to_seek_to() {
    let mut player = player();
    let round = |player: &Player| player.state().round.as_ref().map(|current| current.round);
    assert_eq!(round(&player), None);
    for expected in 1..=12 {
        player.control(Control::NextRound, 0);
        assert_eq!(round(&player), Some(expected));
    }
    player.control(Control::PreviousRound, 0);
    assert_eq!(round(&player), Some(11));
    player.control(Control::Skip(5_000), 0);
    player.control(Control::PreviousRound, 0);
    assert_eq!(round(&player), Some(11), "first to the start of this one");
    player.control(Control::NextRound, 0);
    player.control(Control::NextRound, 0);
    assert!(player.transport().unwrap().at_end);
    player.control(Control::Start, 0);
    assert_eq!(position(&player), 0);
    player.control(Control::Skip(-10_000), 0);
    assert_eq!(position(&player), 0);
}

#[test]
fn seeking_anywhere_shows_what_playing_there_shows() {
    // Long enough for several kept states.
    let records = fixture::rounds(120);
    assert!(records.len() > 3 * 4_096);
    let mut seeking = Player::new(records.clone(), Vec::new());
    let length = seeking.transport().unwrap().length_ms;
    for share in [9, 3, 7, 0, 10, 1, 10, 5] {
        let to = length * share / 10;
        seeking.seek(to);
        let due = records.partition_point(|record| record.at_ms <= records[0].at_ms + to);
        assert_eq!(
            all_screens(seeking.state()),
            all_screens(&fold(&records[..due]))
        );
    }
}

#[test]
fn a_long_silence_is_played_short_and_time_never_runs_backwards() {
    let at = |at_ms| Record {
        at_ms,
        peer: None,
        event: Event::Stopped,
    };
    let night = 10 * 3_600_000;
    let player = Player::new(
        vec![at(1_000), at(3_000), at(night), at(2_000), at(night + 500)],
        vec![],
    );
    assert_eq!(
        player.transport().unwrap().length_ms,
        2_000 + SILENCE_MS + 500
    );
}

#[test]
fn the_time_shown_is_that_of_the_recording() {
    let mut player = player();
    player.advance(0);
    let start = fixture::GENESIS_MS;
    assert_eq!(player.shown_ms(123), start);
    player.advance(100);
    assert_eq!(player.shown_ms(456), start + 100);
}

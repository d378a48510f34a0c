use super::*;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_home_is_made_and_only_its_owner_may_look() {
    let folder = folder();
    let path = folder.path().join("a").join("b");
    let home = Home::open(Some(&path)).unwrap();
    assert!(home.path().is_dir());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
    }
}

#[test]
fn a_second_node_is_refused_by_name_and_the_next_start_works() {
    let folder = folder();
    let path = Some(folder.path());
    let home = Home::open(path).unwrap();
    let refused = Home::open(path).unwrap_err();
    let pid = std::process::id();
    assert_eq!(
        refused.to_string(),
        format!(
            "another murmur (process {pid}) is using {}: stop it, or choose another folder with --home",
            folder.path().display()
        )
    );
    assert!(
        Home::existing(path).unwrap().is_some(),
        "looking is allowed"
    );
    drop(home);
    Home::open(path).unwrap();
}

#[test]
fn what_is_no_home_is_said_to_be_none() {
    let folder = folder();
    let nowhere = folder.path().join("nowhere");
    assert!(Home::existing(Some(&nowhere)).unwrap().is_none());
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(matches!(
        Home::open(Some(&file)),
        Err(HomeError::NotAFolder(_))
    ));
    assert!(matches!(
        Home::existing(Some(&file)),
        Err(HomeError::NotAFolder(_))
    ));
    let below = file.join("below");
    let refused = Home::open(Some(&below)).unwrap_err().to_string();
    assert!(refused.starts_with("cannot create"), "{refused}");
}

#[test]
fn the_default_place_follows_the_environment() {
    let some = |text: &str| Some(OsString::from(text));
    let at = |data, home| default_place(data, home).unwrap();
    assert_eq!(at(None, some("/home/a")), Path::new("/home/a/.murmur"));
    assert_eq!(
        at(some("/data"), some("/home/a")),
        Path::new("/data/murmur")
    );
    assert_eq!(
        at(some("relative"), some("/home/a")),
        Path::new("/home/a/.murmur")
    );
    assert!(matches!(
        default_place(None, some("")),
        Err(HomeError::NoPlace)
    ));
}

#[test]
fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
    let folder = folder();
    let path = folder.path().join("state.json");
    write_atomic(&path, b"one").unwrap();
    write_atomic(&path, b"two").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"two");
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(names.len(), 1);
}

#[test]
fn what_a_crash_left_beside_is_in_nobodys_way() {
    let folder = folder();
    let path = folder.path().join("state.json");
    fs::write(folder.path().join(".state.json.new"), "half").unwrap();
    write_atomic(&path, b"whole").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"whole");
}

#[test]
fn a_write_that_fails_leaves_the_old_file() {
    let folder = folder();
    let path = folder.path().join("state");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("inside"), "x").unwrap();
    assert!(write_atomic(&path, b"new").is_err());
    assert_eq!(fs::read(path.join("inside")).unwrap(), b"x");
    assert!(!folder.path().join(".state.new").exists());
}

#[cfg(unix)]
#[test]
fn a_secret_is_its_owners_alone_even_over_a_public_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let path = folder.path().join("key");
    fs::write(&path, "public").unwrap();
    write_secret(&path, b"secret").unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::read(&path).unwrap(), b"secret");
}

#[test]
fn a_home_stays_in_its_swarm() {
    let folder = folder();
    let home = Home::open(Some(folder.path())).unwrap();
    assert_eq!(home.manifest().unwrap(), None);
    assert!(!home.keep_manifest(b"starlings").unwrap());
    assert!(home.keep_manifest(b"starlings").unwrap());
    assert_eq!(home.manifest().unwrap().as_deref(), Some(&b"starlings"[..]));
    assert!(matches!(
        home.keep_manifest(b"crows"),
        Err(HomeError::OtherSwarm { .. })
    ));
    assert!(home.keep_manifest(b"starlings").unwrap());
}

#[test]
fn peers_are_listed_in_their_order() {
    let folder = folder();
    let home = Home::open(Some(folder.path())).unwrap();
    assert_eq!(home.peers().unwrap(), Vec::<PathBuf>::new());
    let made: Vec<PathBuf> = [0, 2, 10].map(|n| home.peer(n).unwrap()).into();
    fs::create_dir(folder.path().join(PEERS).join("not-a-peer")).unwrap();
    assert_eq!(home.peers().unwrap(), made);
}

#[test]
fn small_facts_are_remembered() {
    let folder = folder();
    let home = Home::open(Some(folder.path())).unwrap();
    assert_eq!(home.rpc().unwrap(), None);
    home.write(RPC, b"http://127.0.0.1:8545\n").unwrap();
    assert_eq!(
        home.rpc().unwrap().as_deref(),
        Some("http://127.0.0.1:8545")
    );
    home.keep_seed(Some(7)).unwrap();
    assert_eq!(home.seed().unwrap(), Some(7));
    home.keep_seed(None).unwrap();
    home.keep_seed(None).unwrap();
    assert_eq!(home.seed().unwrap(), None);
    home.write(SEED, b"seven").unwrap();
    assert!(matches!(home.seed(), Err(HomeError::Content { .. })));
}

/// Writes `before` as the log, opens it, and returns what is left of it.
fn opened(before: &[u8]) -> (Vec<u8>, Option<String>) {
    let folder = folder();
    let path = folder.path().join(EVENTS);
    fs::write(&path, before).unwrap();
    let home = Home::open(Some(folder.path())).unwrap();
    let (mut file, notice) = home.events().unwrap();
    let kept = fs::read(&path).unwrap();
    file.write_all(b"{\"next\":1}\n").unwrap();
    let after = fs::read(&path).unwrap();
    assert_eq!(after, [&kept[..], b"{\"next\":1}\n"].concat());
    (kept, notice)
}

#[test]
fn a_whole_log_is_left_alone() {
    for whole in [&b""[..], b"{}\n", b"{\"a\":1}\n{\"b\":2}\n"] {
        assert_eq!(opened(whole), (whole.to_vec(), None));
    }
}

#[test]
fn a_log_cut_at_any_byte_keeps_its_whole_lines() {
    let log = b"{\"a\":1}\n{\"b\":22}\n{\"c\":333}\n";
    for end in 0..log.len() {
        let whole = log[..end]
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let (kept, notice) = opened(&log[..end]);
        assert_eq!(kept, log[..whole], "cut at {end}");
        assert_eq!(notice.is_some(), whole < end, "cut at {end}");
    }
}

#[test]
fn zeros_and_garbage_at_the_end_are_removed_with_a_notice() {
    let mut log = b"{\"a\":1}\n{\"b\":".to_vec();
    log.extend([0; 100_000]);
    log.extend(b"\nnonsense\n\n");
    let (kept, notice) = opened(&log);
    assert_eq!(kept, b"{\"a\":1}\n");
    let cut = log.len() - kept.len();
    assert!(notice.unwrap().contains(&format!("last {cut} bytes")));
}

#[test]
fn lines_longer_than_a_block_are_whole_too() {
    let long = format!("{{\"text\":\"{}\"}}\n", "x".repeat(3 * BLOCK as usize));
    let log = format!("{{}}\n{long}");
    assert_eq!(opened(log.as_bytes()), (log.clone().into_bytes(), None));
    let torn = format!("{log}{{\"text\":\"{}", "y".repeat(2 * BLOCK as usize));
    assert_eq!(opened(torn.as_bytes()).0, log.as_bytes());
}

#[test]
fn a_file_that_is_no_log_is_not_destroyed() {
    let line = "It was a dark and stormy night.\n";
    let log_at_first = format!("{{}}\n{}", line.repeat(200_000));
    for novel in [line.repeat(3), log_at_first] {
        let folder = folder();
        let path = folder.path().join(EVENTS);
        fs::write(&path, &novel).unwrap();
        let home = Home::open(Some(folder.path())).unwrap();
        assert!(matches!(home.events(), Err(HomeError::Damaged(_))));
        assert_eq!(fs::metadata(&path).unwrap().len(), novel.len() as u64);
    }
}

#[test]
fn a_log_of_zeros_begins_anew() {
    let (kept, notice) = opened(&[0; 5_000]);
    assert_eq!(kept, b"");
    assert!(notice.is_some());
}

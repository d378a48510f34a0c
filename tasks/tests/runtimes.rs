//! The committed modules are what their sources make, as far as that can be
//! told without their compiler: `runtimes/build` writes down what it used.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Every file under a folder, by its path within the first.
fn files(root: &Path, folder: &Path, found: &mut BTreeMap<String, PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files(root, &path, found)?;
        } else if let Ok(name) = path.strip_prefix(root) {
            found.insert(name.display().to_string(), path.clone());
        }
    }
    Ok(())
}

#[test]
fn no_source_of_a_module_and_no_module_has_changed_alone() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("runtimes");
    let written = std::fs::read_to_string(root.join("SOURCES")).unwrap();
    let written: BTreeMap<&str, &str> = written
        .lines()
        .filter_map(|line| line.split_once("  "))
        .map(|(hash, name)| (name.trim_start_matches("./"), hash))
        .collect();
    let mut found = BTreeMap::new();
    files(&root, &root, &mut found).unwrap();
    found.remove("SOURCES");
    let here: BTreeMap<&str, String> = found
        .iter()
        .map(|(name, path)| {
            let bytes = std::fs::read(path).unwrap();
            (name.as_str(), hex::encode(Sha256::digest(bytes)))
        })
        .collect();
    let wrong: Vec<&&str> = here
        .iter()
        .filter(|(name, hash)| written.get(*name) != Some(&hash.as_str()))
        .map(|(name, _)| name)
        .collect();
    assert!(
        wrong.is_empty() && written.len() == here.len(),
        "{wrong:?} is not what runtimes/SOURCES says: run tasks/runtimes/build"
    );
}

//! What `murmur task new` writes: a small whole environment of each kind.

/// The files of a template, by path; `NAME` stands for the environment's name.
#[must_use]
pub fn template(kind: &str) -> Option<&'static [(&'static str, &'static str)]> {
    match kind {
        "table" => Some(&[
            ("task.toml", include_str!("../../templates/table/task.toml")),
            (
                "items.jsonl",
                include_str!("../../templates/table/items.jsonl"),
            ),
        ]),
        "starlark" => Some(&[
            (
                "task.toml",
                include_str!("../../templates/starlark/task.toml"),
            ),
            (
                "task.star",
                include_str!("../../templates/starlark/task.star"),
            ),
        ]),
        "game" => Some(&[
            ("task.toml", include_str!("../../templates/game/task.toml")),
            ("task.star", include_str!("../../templates/game/task.star")),
        ]),
        "rust" => Some(&[
            ("task.toml", include_str!("../../templates/rust/task.toml")),
            (
                "Cargo.toml",
                include_str!("../../templates/rust/Cargo.toml.in"),
            ),
            (
                "src/lib.rs",
                include_str!("../../templates/rust/src/lib.rs"),
            ),
        ]),
        "assemblyscript" => Some(&[
            (
                "task.toml",
                include_str!("../../templates/assemblyscript/task.toml"),
            ),
            (
                "package.json",
                include_str!("../../templates/assemblyscript/package.json"),
            ),
            (
                "assembly/index.ts",
                include_str!("../../templates/assemblyscript/assembly/index.ts"),
            ),
        ]),
        _ => None,
    }
}

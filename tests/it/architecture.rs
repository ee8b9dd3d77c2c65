//! The floors of the house: who may import whom, where `async` lives, and where a clock is read.
//!
//! The sources are read as text, without comments and without their own tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms by floor. A module imports from lower floors and from its own room.
const FLOORS: [&[&str]; 7] = [
    &["time", "rng", "sync", "unwind", "bug"],
    // What events, decisions, facts and errors are made of refers to each other: siblings may.
    &["backend", "facts", "event", "decision", "budget", "shape", "registry"],
    &["limit", "prefix", "signal", "recover"],
    &["fleet"],
    &["policy"],
    &["router"],
    &["adapt", "sim"],
];

/// The floor whose rooms may import each other.
const SIBLINGS: usize = 1;

/// The lowest floor that awaits.
const ASYNC: usize = 5;

/// One file of `src/`.
struct Source {
    path: String,
    /// The path of its module, without `crate`.
    module: Vec<String>,
    /// Its code; empty lines stand for what was left out.
    code: Vec<String>,
}

impl Source {
    fn room(&self) -> &str {
        &self.module[0]
    }

    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.code.iter().map(String::as_str))
    }

    /// The rooms that its code names, each with its line.
    fn imports(&self, exports: &BTreeMap<String, String>) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for (line, code) in self.lines() {
            for at in words(code, "crate::") {
                // Not a macro's `$crate::`, and not the end of another word.
                let name = word(&code[at + "crate::".len()..]);
                assert!(!name.is_empty(), "{}:{line}: an import that this test does not read: {code}", self.path);
                found.push((line, exports.get(name).cloned().unwrap_or_else(|| name.to_owned())));
            }
            for at in words(code, "super::") {
                // The last of `super::super::` says how far it goes.
                let before = code[..at].strip_suffix("super::").map_or(0, |_| 1);
                let more = code[at + "super::".len()..].starts_with("super::");
                let ups = 1 + before;
                if !more && ups == self.module.len() {
                    found.push((line, word(&code[at + "super::".len()..]).to_owned()));
                }
                assert!(ups <= self.module.len(), "{}:{line}: climbs out of the crate: {code}", self.path);
            }
        }
        found
    }
}

/// Where `pattern` begins as a word.
fn words<'c>(code: &'c str, pattern: &'c str) -> impl Iterator<Item = usize> + 'c {
    let begins = |at: &usize| !code[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$');
    code.match_indices(pattern).map(|(at, _)| at).filter(begins)
}

/// The identifier at the start of `text`.
fn word(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.extension() {
            _ if path.is_dir() => files(&path, found),
            Some(extension) if extension == "rs" => found.push(path),
            _ => {}
        }
    }
}

/// The code of a file without comments and without what stands behind `#[cfg(test)]` at the margin.
fn code(text: &str) -> Vec<String> {
    let tests = text.find("\n#[cfg(test)]\nmod ").unwrap_or(text.len());
    let bare = |line: &str| match line.find("//") {
        // The slashes of an address in a string are no comment.
        Some(at) if !line[..at].ends_with(':') => line[..at].to_owned(),
        _ => line.to_owned(),
    };
    text[..tests].lines().map(bare).collect()
}

fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    files(&root(), &mut paths);
    paths.sort();
    let source = |path: PathBuf| {
        let name = path.strip_prefix(root()).unwrap().with_extension("");
        let mut module: Vec<_> = name.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        if module.last().is_some_and(|last| last == "mod") {
            module.pop();
        }
        let code = code(&fs::read_to_string(&path).unwrap());
        Source { path: path.strip_prefix(root()).unwrap().display().to_string(), module, code }
    };
    let sources: Vec<_> = paths.into_iter().map(source).collect();
    assert!(sources.len() > 40, "{} files are not the crate", sources.len());
    sources
}

/// What the crate's root re-exports, by name, and the room that it comes from.
fn exports(root: &Source) -> BTreeMap<String, String> {
    let mut exports = BTreeMap::new();
    for line in &root.code {
        let Some((room, names)) = line.strip_prefix("pub use ").and_then(|rest| rest.split_once("::")) else {
            continue;
        };
        for name in names.trim_matches(|c: char| "{};".contains(c)).split(", ") {
            exports.insert(name.to_owned(), room.to_owned());
        }
    }
    exports
}

fn floor(room: &str) -> usize {
    FLOORS.iter().position(|rooms| rooms.contains(&room)).unwrap_or_else(|| panic!("{room} stands on no floor"))
}

/// The sources of the rooms, and what the root re-exports.
fn house() -> (Vec<Source>, BTreeMap<String, String>) {
    let (roots, rooms): (Vec<_>, Vec<_>) = sources().into_iter().partition(|source| source.room() == "lib");
    (rooms, exports(&roots[0]))
}

#[test]
fn every_room_stands_on_one_floor() {
    let rooms: BTreeSet<_> = house().0.iter().map(|source| source.room().to_owned()).collect();
    let table: Vec<_> = FLOORS.iter().flat_map(|rooms| rooms.iter().map(|room| (*room).to_owned())).collect();
    assert_eq!(rooms.len(), table.len());
    assert_eq!(rooms, table.into_iter().collect());
}

#[test]
fn a_module_imports_from_lower_floors_and_its_own_room_only() {
    let (sources, exports) = house();
    let mut seen = 0;
    let mut upward = Vec::new();
    for source in &sources {
        let own = floor(source.room());
        for (line, room) in source.imports(&exports) {
            seen += 1;
            let other = floor(&room);
            let allowed = room == source.room() || other < own || (other == own && own == SIBLINGS);
            if !allowed {
                upward.push(format!("{}:{line}: floor {own} imports {room}, floor {other}", source.path));
            }
        }
    }
    assert!(seen > 100, "{seen} imports are not those of the crate");
    assert!(upward.is_empty(), "{}", upward.join("\n"));
}

#[test]
fn adapters_use_public_rooms_only() {
    let (sources, exports) = house();
    let root = fs::read_to_string(root().join("lib.rs")).unwrap();
    let public: BTreeSet<_> = root.lines().filter_map(|line| line.strip_prefix("pub mod ")).map(word).collect();
    for source in sources.iter().filter(|source| source.room() == "adapt") {
        for (line, room) in source.imports(&exports) {
            assert!(public.contains(&*room), "{}:{line}: {room} is not public", source.path);
        }
        assert!(!source.code.iter().any(|code| code.contains("pub(crate)")), "{}", source.path);
    }
}

#[test]
fn only_the_router_and_backends_await() {
    let mut found = Vec::new();
    for source in house().0.iter().filter(|source| floor(source.room()) < ASYNC && source.room() != "backend") {
        for (line, code) in source.lines() {
            if ["async ", ".await", "futures::"].iter().any(|word| code.contains(word)) {
                found.push(format!("{}:{line}: {}", source.path, code.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn only_time_reads_a_clock() {
    let mut found = Vec::new();
    for source in house().0.iter().filter(|source| source.room() != "time") {
        for (line, code) in source.lines() {
            let clock =
                ["Instant::now", "SystemTime::now", "quanta", "futures_timer", "std::time::Instant", ".elapsed()"];
            // Of a recorded attempt, `elapsed` is a subtraction.
            let recorded = code.contains("self.elapsed()") || code.contains("attempt.elapsed()");
            if clock.iter().any(|word| code.contains(word)) && !recorded {
                found.push(format!("{}:{line}: {}", source.path, code.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn nothing_below_the_router_blocks_spawns_or_prints() {
    let mut found = Vec::new();
    // What loom tries is a test.
    for source in house().0.iter().filter(|source| !source.path.ends_with("models.rs")) {
        for (line, code) in source.lines() {
            // The one door to files: `registry` keeps its snapshots behind a trait, and this is its directory.
            let files = source.path.ends_with("registry/store/directory.rs");
            let deeds = ["thread::spawn", "thread::sleep", "println!", "eprintln!", "std::fs", "std::net", "unsafe "];
            if deeds.iter().any(|deed| code.contains(deed) && !(files && *deed == "std::fs")) {
                found.push(format!("{}:{line}: {}", source.path, code.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_file_has_one_idea() {
    for source in sources() {
        assert!(source.code.len() <= 450, "{} has {} lines of code", source.path, source.code.len());
    }
}

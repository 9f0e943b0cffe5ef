//! The house is in order: floors look down only, one file names the primitives, files stay short.

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms and their floors. `pool` and `heap` share one, and don't see each other.
const FLOORS: &[(&str, u32)] = &[
    ("primitive", 1),
    ("panics", 1),
    ("os", 2),
    ("sync", 2),
    ("block", 3),
    ("task", 3),
    ("cache", 4),
    ("pool", 5),
    ("heap", 5),
    ("shm", 5),
    ("allocator", 6),
    ("ipc", 6),
    ("thread", 7),
    ("process", 8),
    ("lib", 10),
];

fn floor_of(room: &str) -> u32 {
    let found = FLOORS.iter().find(|(name, _)| *name == room);
    found.unwrap_or_else(|| panic!("'{room}' is in no room of the house: give it a floor")).1
}

/// Every source file, with its path below `src` and its lines.
fn sources() -> Vec<(PathBuf, Vec<String>)> {
    fn walk(folder: &Path, into: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                into.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    paths.sort();
    assert!(paths.len() > 20, "the sources were not found");
    let read = |path: PathBuf| {
        let lines = fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
        (path.strip_prefix(&root).unwrap().to_owned(), lines)
    };
    paths.into_iter().map(read).collect()
}

fn room_of(path: &Path) -> String {
    let first = path.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

/// Lines without comments and without the file's tests, which end it, numbered.
fn code(lines: &[String]) -> impl Iterator<Item = (usize, &str)> {
    let tests = lines.iter().position(|line| line.contains("mod tests")).unwrap_or(lines.len());
    lines[..tests].iter().enumerate().map(|(n, line)| (n + 1, line.as_str())).filter(|(_, line)| !is_comment(line))
}

/// The names right behind each `crate::` of a line or of a `use` that goes on over lines.
fn rooms_named(text: &str) -> Vec<String> {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut rooms = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        if text[..at].ends_with('$') {
            continue;
        }
        let rest = &text[at + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            // `crate::{a, b::{c, d}}`: the names at depth one.
            let mut depth = 1;
            let mut start = true;
            for (index, letter) in list.char_indices() {
                match letter {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 1 => start = true,
                    letter if start && !letter.is_whitespace() => {
                        rooms.push(name(&list[index..]));
                        start = false;
                    }
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
        } else {
            rooms.push(name(rest));
        }
    }
    // What the root re-exports belongs to the room it comes from.
    let home = |room: String| match room.as_str() {
        "BlockPool" | "Pool" | "PoolStats" | "Recycler" => "pool".to_owned(),
        "Heap" | "HeapStats" | "HeapConfig" => "heap".to_owned(),
        "MemoryError" | "HugePages" => "block".to_owned(),
        "tasks" | "test_support" => "process".to_owned(),
        _ => room,
    };
    rooms.into_iter().filter(|room| !room.is_empty()).map(home).collect()
}

#[test]
fn floors_look_down_only() {
    let mut looks = 0;
    for (path, lines) in sources() {
        let room = room_of(&path);
        if room == "lib" {
            continue;
        }
        let text: String = code(&lines).map(|(_, line)| format!("{line}\n")).collect();
        for seen in rooms_named(&text).into_iter().filter(|seen| *seen != room) {
            looks += 1;
            let (from, to) = (floor_of(&room), floor_of(&seen));
            assert!(to < from, "{}: {room} (floor {from}) looks at {seen} (floor {to})", path.display());
        }
    }
    assert!(looks > 20, "this test sees too little: {looks}");
}

#[test]
fn the_reader_of_paths_finds_rooms_in_every_form() {
    let named = |text: &str| rooms_named(text).join(" ");
    assert_eq!(named("use crate::os::{self, Lock};"), "os");
    assert_eq!(named("use crate::{\n  block::{A, B},\n  os::Lock, primitive,\n};"), "block os primitive");
    assert_eq!(named("let x = crate::heap::Heap; crate::pool::thread::flush()"), "heap pool");
    assert_eq!(named("pub(crate) use imp::*; use crate::{BlockPool, Heap};"), "pool heap");
    assert!(floor_of("primitive") < floor_of("os") && floor_of("heap") == floor_of("pool"));
}

#[test]
fn one_file_names_the_primitives() {
    let forbidden = [
        "sync::atomic",
        "loom::",
        "std::thread::spawn",
        "std::thread::park",
        "std::sync::Mutex",
        "parking_lot",
        "shuttle::",
        "hint::spin_loop",
        "cell::UnsafeCell",
    ];
    for (path, lines) in sources() {
        // The switch itself, the models, and the two faces of the one lock.
        let name = path.to_str().unwrap().to_owned();
        if name.starts_with("primitive")
            || name.contains("/tests/")
            || name.contains("models")
            || name.contains("schedules")
        {
            continue;
        }
        let mut modelled = false;
        let mut depth = 0_isize;
        for (number, line) in code(&lines) {
            let opens = isize::try_from(line.matches('{').count()).unwrap();
            let closes = isize::try_from(line.matches('}').count()).unwrap();
            // An item behind the models' switch: to the end of its braces, or its semicolon.
            let switch = line.contains("cfg(millpond_loom)");
            let exempt = switch || modelled || (name == "os/lock.rs" && line.contains("cell::UnsafeCell"));
            if let Some(word) = forbidden.iter().find(|word| line.contains(**word) && !exempt) {
                panic!("{name}:{number} names '{word}': take it from crate::primitive\n{line}");
            }
            if switch {
                (modelled, depth) = (true, 0);
            } else if modelled && !line.trim_start().starts_with("#[") {
                depth += opens - closes;
                modelled = depth > 0 || !(line.trim_end().ends_with([';', '}', ',']));
            }
        }
    }
}

#[test]
fn unsafe_code_is_on_the_map() {
    // Only files whose module is declared with a reason for it contain any.
    let all = sources();
    for (path, lines) in &all {
        let uses = code(lines).any(|(_, line)| {
            let bare = line.replace("unsafe_code", "").replace("unsafe_op", "");
            bare.contains("unsafe {") || bare.contains("unsafe fn") || bare.contains("unsafe impl")
        });
        if !uses {
            continue;
        }
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let parent = path.parent().unwrap();
        let declares = |candidate: &Path| {
            all.iter().filter(|(other, _)| other == candidate).any(|(_, lines)| {
                let declared = format!("mod {stem};");
                lines.iter().enumerate().any(|(n, line)| {
                    line.trim_end().ends_with(&declared)
                        && lines[n.saturating_sub(3)..n]
                            .iter()
                            .any(|above| above.contains("expect(unsafe_code, reason"))
                })
            })
        };
        let mapped = declares(&parent.join("mod.rs")) || declares(&parent.join("lib.rs"));
        assert!(mapped, "{} has unsafe code, but its module's declaration says no reason", path.display());
    }
}

#[test]
fn every_file_says_what_it_is_and_none_is_long() {
    for (path, lines) in sources() {
        let first = lines.first().map(String::as_str).unwrap_or_default();
        assert!(
            first.starts_with("//!") || first.starts_with("#![doc"),
            "{} does not begin with what it is",
            path.display()
        );
        let length = code(&lines).count();
        if length > 300 {
            eprintln!("{}: {length} lines of code, {} in all", path.display(), lines.len());
        }
        assert!(length <= 500, "{} has {length} lines of code: it wants to be two", path.display());
    }
}

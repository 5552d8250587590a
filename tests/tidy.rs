//! The shape of the source: who may import whom, names, limits, and that every known attack has its test.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

const CRATES: [&str; 4] = ["storage", "auth", "gateway", "tests"];

/// Words that say nothing in a name.
const BANNED: [&str; 7] = ["manager", "helper", "util", "common", "data", "info", "misc"];

/// What each module of the gateway may import from the gateway. [`ASSEMBLY`] puts the parts together and may import all.
const GATEWAY: [(&str, &[&str]); 24] = [
    ("secrecy", &[]),
    ("clock", &[]),
    ("limits", &[]),
    ("units", &[]),
    ("telemetry", &["limits"]),
    ("outbound", &["limits"]),
    ("config", &["limits", "outbound", "units"]),
    ("witness", &["config", "limits", "outbound", "units"]),
    ("escrow", &["limits", "units"]),
    ("backup", &["config", "limits", "units"]),
    ("maintenance", &["config", "limits"]),
    ("scrub", &["limits"]),
    ("line", &["limits"]),
    ("session", &["clock", "limits", "line"]),
    ("tls", &["limits", "units"]),
    ("vfs", &["clock", "limits", "session"]),
    ("accounts", &["clock", "limits", "line", "session", "units", "vfs"]),
    ("sftp", &["clock", "limits", "line", "session", "vfs"]),
    ("exec", &["limits", "line", "session", "vfs"]),
    ("ssh", &["accounts", "clock", "exec", "limits", "line", "session", "sftp", "vfs"]),
    ("webdav", &["accounts", "config", "limits", "line", "session", "tls", "vfs"]),
    // Reads vaults of the past itself, with a record for each file; writes outside of the store.
    ("export", &["limits", "units"]),
    (
        "admin",
        &[
            "accounts", "backup", "clock", "config", "escrow", "export", "limits", "session", "units", "vfs",
            "wiring", "witness",
        ],
    ),
    ("cli", &["admin", "escrow", "export", "limits", "units"]),
];

/// Modules that put the parts together: what a server is made of, and how it is made.
const ASSEMBLY: [&str; 6] = ["disaster", "main", "reload", "serve", "setup", "wiring"];

fn root() -> Result<PathBuf> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace")?.to_owned())
}

fn rust_files(below: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in walkdir::WalkDir::new(below).sort_by_file_name() {
        let entry = entry?;
        let built = entry.path().components().any(|part| part.as_os_str() == "target");
        if !built && entry.path().extension().is_some_and(|ending| ending == "rs") {
            files.push(entry.into_path());
        }
    }
    Ok(files)
}

fn all_rust_files() -> Result<Vec<PathBuf>> {
    let root = root()?;
    let mut all = Vec::new();
    for name in CRATES {
        all.extend(rust_files(&root.join(name))?);
    }
    ensure!(all.len() > 50, "the sources are there");
    Ok(all)
}

/// The text without comments and without what strings and characters hold.
fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(hashes) = raw_string_hashes(rest) {
            let open = hashes + 2;
            let close = format!("\"{}", "#".repeat(hashes));
            rest[open..].find(&close).map_or(rest.len(), |end| open + end + close.len())
        } else if first == '"' {
            string_len(rest)
        } else if rest.starts_with("'\"'") {
            3
        } else if rest.starts_with("'\\\"'") {
            4
        } else {
            code.push(first);
            first.len_utf8()
        };
        rest = &rest[skipped..];
    }
    code
}

fn raw_string_hashes(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix('r')?;
    let hashes = after.chars().take_while(|letter| *letter == '#').count();
    after[hashes..].starts_with('"').then_some(hashes)
}

fn string_len(rest: &str) -> usize {
    let mut escaped = false;
    for (at, letter) in rest.char_indices().skip(1) {
        match letter {
            '"' if !escaped => return at + 1,
            '\\' if !escaped => escaped = true,
            _ => escaped = false,
        }
    }
    rest.len()
}

/// The code that ships: unit tests are at the bottom of a file.
fn shipped(text: &str) -> String {
    let code = code_only(text);
    let end = code
        .match_indices("#[cfg(test)]")
        .find(|(at, found)| code[at + found.len()..].trim_start().starts_with("mod tests"))
        .map_or(code.len(), |(at, _)| at);
    code[..end].to_owned()
}

/// A file of a crate as a module path, outermost first; empty for `lib.rs` and `main.rs`.
fn module_path(source: &Path, file: &Path) -> Result<Vec<String>> {
    let relative = file.strip_prefix(source)?.with_extension("");
    let mut parts: Vec<String> =
        relative.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    if matches!(parts.last().map(String::as_str), Some("mod" | "lib" | "main")) && parts.last().is_some() {
        let is_main = parts.last().is_some_and(|last| last == "main");
        parts.pop();
        if is_main && parts.is_empty() {
            parts.push("main".to_owned());
        }
    }
    Ok(parts)
}

/// Every path that begins with one of the words `crate`, `super`, `self` or a crate of ours, groups opened up.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for head in ["crate", "super", "self", "coffre", "coffre_auth", "coffre_storage", "coffre_tests"] {
        let wanted = format!("{head}::");
        for (at, _) in code.match_indices(&wanted) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_' || letter == ':') {
                continue;
            }
            expand(&code[at + wanted.len()..], &[head.to_owned()], &mut found);
        }
    }
    found
}

/// Reads `a::b::{c, d::e}` after a prefix; returns how many bytes it took.
fn expand(rest: &str, prefix: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut path = prefix.to_vec();
    let mut at = 0;
    loop {
        at += rest[at..].len() - rest[at..].trim_start().len();
        if rest[at..].starts_with('{') {
            return at + expand_group(&rest[at..], &path, found);
        }
        let word: String =
            rest[at..].chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
        at += word.len();
        if !word.is_empty() {
            path.push(word);
        }
        if !rest[at..].starts_with("::") {
            found.push(path);
            return at;
        }
        at += 2;
    }
}

fn expand_group(rest: &str, prefix: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut at = 1;
    while at < rest.len() {
        let next = rest[at..].chars().next().unwrap_or('}');
        match next {
            '}' => return at + 1,
            letter if letter.is_alphanumeric() || letter == '_' || letter == '{' => {
                at += expand(&rest[at..], prefix, found).max(1);
            }
            other => at += other.len_utf8(),
        }
    }
    at
}

/// One crate's modules and what each file mentions, as paths from the crate's root.
struct Sources {
    modules: BTreeSet<Vec<String>>,
    mentions: BTreeMap<Vec<String>, BTreeSet<Vec<String>>>,
    foreign: BTreeMap<Vec<String>, BTreeSet<String>>,
}

fn sources(name: &str) -> Result<Sources> {
    let source = root()?.join(name).join("src");
    let mut read = Sources { modules: BTreeSet::new(), mentions: BTreeMap::new(), foreign: BTreeMap::new() };
    for file in rust_files(&source)? {
        let module = module_path(&source, &file)?;
        for path in paths(&shipped(&fs::read_to_string(&file)?)) {
            match absolute(&module, &path) {
                Some(path) => {
                    read.mentions.entry(module.clone()).or_default().insert(path);
                }
                None => {
                    read.foreign.entry(module.clone()).or_default().insert(path.join("::"));
                }
            }
        }
        read.modules.insert(module);
    }
    Ok(read)
}

/// A mentioned path from the crate's root; nothing for another crate's.
fn absolute(module: &[String], path: &[String]) -> Option<Vec<String>> {
    let climbed = path.iter().take_while(|word| *word == "super").count();
    match path.first().map(String::as_str) {
        Some("crate") => Some(path[1..].to_vec()),
        Some("self") => Some([module, &path[1..]].concat()),
        Some("super") => Some([&module[..module.len().saturating_sub(climbed)], &path[climbed..]].concat()),
        Some(_) | None => None,
    }
}

/// Edges between the children of one module: child -> children it mentions.
fn edges(read: &Sources, parent: &[String]) -> BTreeMap<String, BTreeSet<String>> {
    let depth = parent.len();
    let child = |path: &[String]| (path.starts_with(parent)).then(|| path.get(depth).cloned()).flatten();
    let children: BTreeSet<String> = read.modules.iter().filter_map(|module| child(module)).collect();
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, mentioned) in &read.mentions {
        let Some(from) = child(module) else { continue };
        let to =
            mentioned.iter().filter_map(|path| child(path)).filter(|to| children.contains(to) && *to != from);
        edges.entry(from.clone()).or_default().extend(to);
    }
    edges
}

/// Every edge from whose end a way leads back to its beginning.
fn on_circles(edges: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    edges
        .iter()
        .flat_map(|(from, nexts)| nexts.iter().map(move |to| (from, to)))
        .filter(|(from, to)| way(edges, &mut BTreeSet::new(), to, from).is_some())
        .map(|(from, to)| format!("{from} -> {to}"))
        .collect()
}

/// The way from one node to another, both included.
fn way(
    edges: &BTreeMap<String, BTreeSet<String>>,
    seen: &mut BTreeSet<String>,
    from: &str,
    to: &str,
) -> Option<Vec<String>> {
    let nexts = edges.get(from)?;
    if nexts.contains(to) {
        return Some(vec![from.to_owned(), to.to_owned()]);
    }
    nexts.iter().find_map(|next| {
        let rest = seen.insert(next.clone()).then(|| way(edges, seen, next, to)).flatten()?;
        Some([vec![from.to_owned()], rest].concat())
    })
}

#[test]
fn crates_depend_in_one_direction_only() -> Result<()> {
    for (name, forbidden) in [
        ("storage", &["coffre::", "coffre_auth::", "coffre_tests::"][..]),
        ("auth", &["coffre::", "coffre_storage::", "coffre_tests::"]),
        ("gateway", &["coffre_tests::"]),
    ] {
        for (module, mentioned) in sources(name)?.foreign {
            let wrong = mentioned.iter().find(|path| forbidden.iter().any(|start| path.starts_with(start)));
            ensure!(wrong.is_none(), "{name}: {} imports {wrong:?}", module.join("::"));
        }
        let manifest = fs::read_to_string(root()?.join(name).join("Cargo.toml"))?;
        for line in manifest.lines() {
            let key = line.split(['.', ' ', '=']).next().unwrap_or_default().replace('-', "_");
            ensure!(
                !forbidden.contains(&format!("{key}::").as_str()) || line.starts_with("name"),
                "{name}: {line}"
            );
        }
    }
    Ok(())
}

#[test]
fn protocols_reach_files_through_the_one_door_only() -> Result<()> {
    let read = sources("gateway")?;
    let edges = edges(&read, &[]);
    let allowed: BTreeMap<&str, &[&str]> = GATEWAY.into_iter().collect();
    let mut wrong = Vec::new();
    for (from, mentioned) in edges.iter().filter(|(from, _)| !ASSEMBLY.contains(&from.as_str())) {
        let may =
            allowed.get(from.as_str()).with_context(|| format!("gateway/src/{from} is not in the table"))?;
        wrong.extend(
            mentioned.iter().filter(|to| !may.contains(&to.as_str())).map(|to| format!("{from} -> {to}")),
        );
    }
    ensure!(wrong.is_empty(), "the gateway's modules may not import:\n{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn protocols_take_types_from_storage_but_no_vault_and_no_store() -> Result<()> {
    for (module, mentioned) in sources("gateway")?.foreign {
        let top = module.first().map_or("", String::as_str);
        if !["exec", "sftp", "ssh", "webdav"].contains(&top) {
            continue;
        }
        let wrong = mentioned.iter().find(|path| {
            let words: Vec<&str> = path.split("::").collect();
            words[0] == "coffre_storage" && (words.contains(&"Store") || words.contains(&"Vault"))
        });
        ensure!(wrong.is_none(), "gateway/src/{}: {wrong:?} goes past the door", module.join("/"));
    }
    Ok(())
}

#[test]
fn concrete_back_ends_are_named_where_the_parts_are_put_together() -> Result<()> {
    for (module, mentioned) in sources("gateway")?.foreign {
        let top = module.first().map_or("", String::as_str);
        let named = mentioned.iter().find(|path| {
            ["coffre_storage::blob::disk", "coffre_storage::index::redb", "coffre_storage::blob::memory"]
                .iter()
                .any(|concrete| path.starts_with(concrete))
        });
        ensure!(named.is_none() || ASSEMBLY.contains(&top), "gateway/src/{}: {named:?}", module.join("/"));
    }
    Ok(())
}

#[test]
fn no_modules_import_each_other_in_a_circle() -> Result<()> {
    let mut circles = Vec::new();
    for name in ["storage", "auth", "gateway"] {
        let read = sources(name)?;
        let mut parents: BTreeSet<Vec<String>> = read.modules.clone();
        parents.insert(Vec::new());
        for parent in parents {
            let edges = edges(&read, &parent);
            let shown = parent.join("/");
            circles.extend(on_circles(&edges).into_iter().map(|edge| format!("{name}/src/{shown}: {edge}")));
        }
    }
    ensure!(circles.is_empty(), "imports that lie on a circle:\n{}", circles.join("\n"));
    Ok(())
}

#[test]
fn the_search_for_circles_finds_one() {
    let graph = |pairs: &[(&str, &str)]| {
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in pairs {
            edges.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        edges
    };
    let back = |edges| way(&edges, &mut BTreeSet::new(), "b", "b");
    assert!(back(graph(&[("a", "b"), ("b", "c"), ("a", "c")])).is_none());
    assert_eq!(
        back(graph(&[("a", "b"), ("b", "c"), ("c", "b")])),
        Some(["b", "c", "b"].map(str::to_owned).into())
    );
}

#[test]
fn imports_are_read_as_the_compiler_reads_them() {
    let code = shipped(
        "use crate::{a::{b, C}, d};\n// use crate::comment;\nlet s = \"crate::string\"; x(super::super::e::f(1));\n\
         use coffre_storage::id::*;\n#[cfg(test)]\nmod tests { use crate::only_tests; }",
    );
    let found: BTreeSet<String> = paths(&code).iter().map(|path| path.join("::")).collect();
    let expected = ["coffre_storage::id", "crate::a::C", "crate::a::b", "crate::d", "super::super::e::f"];
    assert_eq!(found, expected.map(str::to_owned).into());
}

#[test]
fn file_names_say_what_is_inside() -> Result<()> {
    for file in all_rust_files()? {
        let stem = file.file_stem().context("a name")?.to_string_lossy().into_owned();
        let wrong = stem
            .split('_')
            .find(|word| BANNED.contains(word) || BANNED.contains(&word.trim_end_matches('s')));
        ensure!(wrong.is_none() && !stem.starts_with("handle_"), "{}", file.display());
    }
    Ok(())
}

#[test]
fn nothing_is_left_to_do_and_no_test_is_ignored() -> Result<()> {
    for file in all_rust_files()? {
        let code = code_only(&fs::read_to_string(&file)?);
        for forbidden in ["todo!(", "unimplemented!(", "#[ignore", "dbg!("] {
            ensure!(!code.contains(forbidden), "{} holds {forbidden}", file.display());
        }
    }
    Ok(())
}

#[test]
fn every_file_begins_with_what_it_is() -> Result<()> {
    for file in all_rust_files()? {
        let text = fs::read_to_string(&file)?;
        let first = text.lines().next().unwrap_or_default();
        ensure!(first.starts_with("//! ") && first.len() > 12, "{} begins with {first:?}", file.display());
    }
    Ok(())
}

#[test]
fn every_limit_has_its_reason_and_is_used() -> Result<()> {
    for name in ["storage", "auth", "gateway"] {
        let source = root()?.join(name).join("src");
        let limits = fs::read_to_string(source.join("limits.rs"))?;
        let mut elsewhere = String::new();
        for file in rust_files(&source)?.into_iter().filter(|file| !file.ends_with("limits.rs")) {
            elsewhere += &shipped(&fs::read_to_string(file)?);
        }
        let own = code_only(&limits);
        let mut before = "";
        for line in limits.lines() {
            if let Some((_, rest)) = line.split_once("const ") {
                let limit = rest.split(':').next().unwrap_or_default();
                ensure!(before.starts_with("/// "), "{name}: {limit} has no reason");
                let used = elsewhere.contains(limit) || own.matches(limit).count() > 1;
                ensure!(used, "{name}: {limit} bounds nothing");
            }
            before = line.trim();
        }
    }
    Ok(())
}

/// Names of all functions that carry a test attribute.
fn tests_there_are() -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for file in all_rust_files()? {
        let code = code_only(&fs::read_to_string(&file)?);
        for (at, _) in code.match_indices("test]") {
            let Some((_, after)) = code[at..].split_once("fn ") else { continue };
            names.insert(after.split(['(', '<']).next().unwrap_or_default().to_owned());
        }
        // proptest writes its attribute inside a macro.
        for (at, _) in code.match_indices("proptest!") {
            for piece in code[at..].split("fn ").skip(1) {
                names.insert(piece.split(['(', '<']).next().unwrap_or_default().to_owned());
            }
        }
    }
    Ok(names)
}

#[test]
fn every_known_attack_has_the_test_that_the_table_names() -> Result<()> {
    let table = fs::read_to_string(root()?.join("tests/attacks.md"))?;
    let there = tests_there_are()?;
    let mut rows = 0;
    for line in table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| defect")) {
        let cell = line.trim_end_matches([' ', '|']).rsplit('|').next().unwrap_or_default();
        let named: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        ensure!(!named.is_empty(), "no test is named in: {line}");
        for name in named {
            ensure!(there.contains(name), "there is no test {name}, named in: {line}");
        }
        rows += 1;
    }
    ensure!(rows > 25, "the table has its rows: {rows}");
    Ok(())
}

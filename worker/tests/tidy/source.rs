//! The tree as the rules see it: every Rust file with its comments and literals blanked, and with its tests blanked.

use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The folders that hold crates.
pub(crate) const CRATES: [&str; 4] = ["crds", "operator", "worker/protocol", "worker"];

/// A Rust file. All its texts have the same lines.
pub(crate) struct Source {
    /// Relative to the workspace, with `/`.
    pub(crate) path: String,
    /// As it is written.
    pub(crate) text: String,
    /// With spaces instead of comments and of the insides of literals.
    pub(crate) code: String,
    /// The code without what is compiled for tests alone.
    pub(crate) product: String,
    /// Whether the whole file is for tests, benches or examples.
    pub(crate) is_test: bool,
}

impl Source {
    /// The line of a byte of any of the texts, from 1.
    pub(crate) fn line(&self, offset: usize) -> usize {
        line_of(&self.code, offset)
    }
}

/// The workspace.
pub(crate) struct Tree {
    root: PathBuf,
    /// The Rust files of all crates, by path.
    pub(crate) sources: Vec<Source>,
    /// How many files each folder of the crates holds.
    pub(crate) folders: BTreeMap<String, usize>,
    /// The Rust files that no `mod` leads to.
    pub(crate) unreachable: Vec<String>,
}

impl Tree {
    /// Reads the workspace around this crate.
    pub(crate) fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf();
        let mut tree = Self { root, sources: Vec::new(), folders: BTreeMap::new(), unreachable: Vec::new() };
        for folder in ["crds", "operator", "worker"] {
            tree.visit(folder);
        }
        tree.sources.sort_by(|a, b| a.path.cmp(&b.path));
        tree.follow_modules();
        tree
    }

    /// The text of any file of the workspace.
    pub(crate) fn text(&self, path: &str) -> String {
        std::fs::read_to_string(self.root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Whether there is a file or folder.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.root.join(path.trim_start_matches('/')).exists()
    }

    /// The names in a folder of the workspace, sorted.
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.root.join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
        let names: BTreeSet<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.into_iter().collect()
    }

    fn visit(&mut self, folder: &str) {
        for name in self.names(folder).into_iter().filter(|name| !name.starts_with('.') && name != "target") {
            let path = format!("{folder}/{name}");
            if self.root.join(&path).is_dir() {
                self.visit(&path);
                continue;
            }
            *self.folders.entry(folder.to_owned()).or_default() += 1;
            if path.ends_with(".rs") {
                let text = self.text(&path);
                let code = without_literals(&text);
                let product = without_tests(&code);
                let is_test = is_beside_the_product(&path) || product.trim().is_empty();
                self.sources.push(Source { path, text, code, product, is_test });
            }
        }
    }

    /// Follows the `mod` declarations from every root: what they reach is alive, what they reach for tests is a test.
    fn follow_modules(&mut self) {
        let declaration = Regex::new(r"(?m)^[ \t]*(?:pub(?:\([^)]*\))?[ \t]+)?mod[ \t]+(\w+)[ \t]*;").unwrap();
        let index: BTreeMap<String, usize> =
            self.sources.iter().enumerate().map(|(i, file)| (file.path.clone(), i)).collect();
        let mut reached = BTreeSet::new();
        let mut waiting: Vec<String> = index.keys().filter(|path| is_root(path)).cloned().collect();
        while let Some(path) = waiting.pop() {
            let at = index[&path];
            reached.insert(at);
            let folder = module_folder(&path);
            let (code, product, is_test) =
                (self.sources[at].code.clone(), &self.sources[at].product, self.sources[at].is_test);
            let mut tests = Vec::new();
            for found in declaration.captures_iter(&code) {
                let name = found.get(1).unwrap();
                let for_tests = is_test || product[name.range()].trim().is_empty();
                for candidate in
                    [format!("{folder}/{}.rs", name.as_str()), format!("{folder}/{}/mod.rs", name.as_str())]
                {
                    if let Some(child) = index.get(&candidate) {
                        tests.extend(for_tests.then_some(*child));
                        waiting.push(candidate);
                    }
                }
            }
            for child in tests {
                self.sources[child].is_test = true;
            }
        }
        let files = self.sources.iter().enumerate();
        self.unreachable = files.filter(|(i, _)| !reached.contains(i)).map(|(_, file)| file.path.clone()).collect();
    }
}

/// The line of a byte, from 1.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count() + 1
}

fn is_beside_the_product(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.split('/').any(|part| ["tests", "benches", "examples"].contains(&part))
}

/// Whether cargo compiles this file by itself.
fn is_root(path: &str) -> bool {
    let Some(name) =
        CRATES.iter().filter_map(|folder| path.strip_prefix(&format!("{folder}/"))).min_by_key(|name| name.len())
    else {
        return false;
    };
    let parts: Vec<&str> = name.split('/').collect();
    match parts[..] {
        ["build.rs"] => true,
        ["src", file] => file == "lib.rs" || file == "main.rs",
        ["tests" | "benches" | "examples", _] | ["tests" | "benches" | "examples", _, "main.rs"] => true,
        _ => false,
    }
}

/// The folder of the modules that a file declares.
fn module_folder(path: &str) -> String {
    let (folder, name) = path.rsplit_once('/').unwrap();
    let stem = name.trim_end_matches(".rs");
    if is_root(path) || stem == "mod" { folder.to_owned() } else { format!("{folder}/{stem}") }
}

/// Puts spaces in place of comments and of the insides of strings and characters.
fn without_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(bytes, at);
        let end = (end.max(at + 1)..).find(|end| text.is_char_boundary(*end)).unwrap();
        if end == at + 1 && bytes[at].is_ascii() {
            code.push(char::from(bytes[at]));
        } else {
            blank(&bytes[at..end], &mut code);
        }
        at = end;
    }
    code
}

fn blank(bytes: &[u8], into: &mut String) {
    into.extend(bytes.iter().map(|byte| if *byte == b'\n' { '\n' } else { ' ' }));
}

/// Where the comment or literal that begins at `at` ends; `at` itself if none begins there.
fn literal_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let in_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    match rest {
        [b'/', b'/', ..] => at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => at + block_comment(rest),
        [b'"', ..] => at + quoted(rest),
        [b'r', b'"' | b'#', ..] if !in_word => at + raw_string(rest),
        [b'b' | b'c', b'r', b'"' | b'#', ..] if !in_word => at + 1 + raw_string(&rest[1..]),
        [b'\'', b'\\', ..] => at + 3 + rest[3..].iter().position(|byte| *byte == b'\'').map_or(0, |end| end + 1),
        [b'\'', first, ..] => {
            let width =
                [1, 2, 3, 4][usize::from(*first >= 0xC0) + usize::from(*first >= 0xE0) + usize::from(*first >= 0xF0)];
            if rest.get(1 + width) == Some(&b'\'') { at + 2 + width } else { at }
        }
        _ => at,
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] if depth == 1 => return at + 2,
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    at
}

fn quoted(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != b'"' {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// The length of `r#"…"#`; 0 for a raw identifier.
fn raw_string(rest: &[u8]) -> usize {
    let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return 0;
    }
    let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    let body = &rest[2 + hashes..];
    let end = body.windows(close.len()).position(|part| part == close).map_or(body.len(), |end| end + close.len());
    2 + hashes + end
}

/// Puts spaces in place of every item below `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    let mut product = code.as_bytes().to_vec();
    for (start, inner) in [("#![cfg(test)]", true), ("#[cfg(test)]", false)]
        .into_iter()
        .flat_map(|(mark, inner)| code.match_indices(mark).map(move |(start, _)| (start, inner)))
    {
        let end = if inner { code.len() } else { item_end(code, start).unwrap_or(code.len()) };
        for byte in &mut product[start..end] {
            *byte = if *byte == b'\n' { b'\n' } else { b' ' };
        }
    }
    String::from_utf8(product).unwrap()
}

/// Where the item that begins at `start` ends: behind its first `;`, or behind the partner of its first `{`.
pub(crate) fn item_end(code: &str, start: usize) -> Option<usize> {
    let (mut round, mut curly) = (0_i32, 0_i32);
    for (at, byte) in code.bytes().enumerate().skip(start) {
        match byte {
            b'(' | b'[' => round += 1,
            b')' | b']' => round -= 1,
            b'{' => curly += 1,
            b'}' if curly == 1 => return Some(at + 1),
            b'}' => curly -= 1,
            b';' if round == 0 && curly == 0 => return Some(at + 1),
            _ => {}
        }
    }
    None
}

//! The rules of STYLE.md that a machine can check: who may depend on whom, which library has which door, lengths, dead
//! files, words that do not belong here. A violation reads `file:line: what is wrong and what to do`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod source;

use regex::Regex;
use source::{Source, Tree};
use std::collections::BTreeSet;
use std::sync::LazyLock;

static TREE: LazyLock<Tree> = LazyLock::new(Tree::read);

/// Violations that are known and must go: the rule's test and the file or folder. One that no longer holds fails too,
/// so that this list only gets shorter.
const KNOWN: &[(&str, &str)] = &[
    // The columns, the tables and the windows of aggregation are three folders in one.
    ("a_folder_holds_fewer_than_15_files", "worker/src/operator/aggregate"),
    // Each of these decides one thing about a job.
    ("a_folder_holds_fewer_than_15_files", "operator/src/decide"),
    // Claiming and looking back belong together.
    ("a_folder_holds_fewer_than_15_files", "worker/protocol/src/leader"),
];

/// A library and the folders or files that may name it. Everything else goes through what these offer.
const DOORS: &[(&str, &[&str])] = &[
    ("axum", &["worker/src/api/", "operator/src/telemetry/"]),
    ("prometheus", &["worker/src/api/", "operator/src/telemetry/"]),
    ("hyper", &["worker/src/api/"]),
    ("hyper_util", &["worker/src/api/", "worker/src/checkpoint/store/s3/", "operator/src/leader_client/"]),
    ("rustls", &["worker/src/tls/", "worker/src/checkpoint/store/s3/", "operator/src/leader_client/"]),
    ("tokio_rustls", &["worker/src/tls/"]),
    (
        "rustls_pki_types",
        &[
            "worker/src/tls/",
            "worker/src/checkpoint/store/s3/",
            "operator/src/leader_client/",
            "operator/src/certificates/",
        ],
    ),
    ("rcgen", &["worker/src/tls/", "operator/src/certificates/"]),
    ("x509_parser", &["worker/src/tls/", "operator/src/certificates/"]),
    ("socket2", &["worker/src/exchange/reach.rs"]),
    ("clap", &["worker/src/cli/", "operator/src/cli.rs", "operator/src/telemetry/mod.rs"]),
    ("clap_complete", &["worker/src/cli/"]),
    ("signal_hook", &["worker/src/cli/"]),
    ("tracing_subscriber", &["worker/src/cli/", "operator/src/telemetry/"]),
    ("sqlparser", &["worker/src/sql/"]),
    ("datafusion_sql", &["worker/src/sql/"]),
    ("datafusion_optimizer", &["worker/src/sql/"]),
    ("datafusion_expr", &["worker/src/sql/", "worker/src/plan/"]),
    ("datafusion_functions", &["worker/src/sql/"]),
    ("datafusion_functions_nested", &["worker/src/sql/"]),
    ("datafusion_functions_aggregate", &["worker/src/sql/"]),
    ("datafusion_functions_window", &["worker/src/sql/"]),
    ("parquet", &["worker/src/format/", "worker/src/connector/filesystem/"]),
    ("zstd", &["worker/src/format/", "worker/src/connector/filesystem/", "worker/src/state/file.rs"]),
    ("flate2", &["worker/src/format/", "worker/src/connector/filesystem/"]),
    ("arrow_ipc", &["worker/src/state/", "worker/src/exchange/rows/"]),
    ("aws_config", &["worker/src/checkpoint/store/s3/"]),
    ("aws_credential_types", &["worker/src/checkpoint/store/s3/"]),
    ("aws_sdk_s3", &["worker/src/checkpoint/store/s3/"]),
    ("aws_smithy_http_client", &["worker/src/checkpoint/store/s3/"]),
    ("tikv_jemallocator", &["worker/src/main.rs", "operator/src/main.rs"]),
    ("hyper_rustls", &["operator/src/leader_client/"]),
    (
        "kube",
        &[
            "crds/src/",
            "operator/src/apply/",
            "operator/src/cli.rs",
            "operator/src/cluster/",
            "operator/src/controller/",
            "operator/src/events.rs",
            "operator/src/lease.rs",
            "operator/src/observe/",
            "operator/src/report.rs",
        ],
    ),
    ("k8s_openapi", &["crds/src/", "operator/src/"]),
];

/// What the protocol may not name. Its clippy.toml bans more, with types resolved; this is the part that reads well.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::thread",
    "std::process",
    "std::env",
    "std::time::Instant",
    "std::time::SystemTime",
    "HashMap",
    "HashSet",
    "rand",
    "tokio",
    "async",
    "unsafe",
];

/// Words that name nothing.
const EMPTY_NAMES: [&str; 8] = ["utils", "util", "common", "helpers", "manager", "base", "impl", "v2"];

struct Violation {
    path: String,
    line: usize,
    what: String,
}

impl Violation {
    fn of(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into() }
    }
}

/// Runs a rule over the tree and fails with all its violations, and with the known ones that are gone.
#[track_caller]
fn check(rule: &str, find: impl Fn(&Tree) -> Vec<Violation>) {
    let known: BTreeSet<&str> = KNOWN.iter().filter(|(of, _)| *of == rule).map(|(_, path)| *path).collect();
    let (excused, new): (Vec<_>, Vec<_>) =
        find(&TREE).into_iter().partition(|found| known.contains(found.path.as_str()));
    let excused: BTreeSet<&str> = excused.iter().map(|found| found.path.as_str()).collect();
    let mut lines: Vec<String> =
        new.iter().map(|found| format!("{}:{}: {}", found.path, found.line, found.what)).collect();
    lines.extend(
        known.difference(&excused).map(|path| format!("{path}:1: is mended; take it out of KNOWN in the tidy test")),
    );
    assert!(lines.is_empty(), "{rule}\n{}\n", lines.join("\n"));
}

/// A rule that looks at one file after another.
#[track_caller]
fn check_each(rule: &str, find: impl Fn(&Source) -> Vec<Violation>) {
    check(rule, |tree| tree.sources.iter().flat_map(&find).collect());
}

/// A pattern that a rule looks for.
fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap()
}

/// Every place where a pattern occurs in one of a file's texts.
fn places(file: &Source, text: &str, pattern: &Regex, what: &str) -> Vec<Violation> {
    pattern.find_iter(text).map(|found| Violation::of(&file.path, file.line(found.end() - 1), what)).collect()
}

#[test]
fn crates_depend_only_on_those_below_them() {
    check("crates_depend_only_on_those_below_them", |tree| {
        let banned: [(&str, &[&str]); 4] = [
            ("crds/Cargo.toml", &["weir-protocol", "weir-worker", "arrow", "datafusion", "tokio"]),
            (
                "worker/protocol/Cargo.toml",
                &["weir-crds", "weir-worker", "kube", "k8s-openapi", "arrow", "tokio", "axum"],
            ),
            ("worker/Cargo.toml", &["kube", "k8s-openapi"]),
            ("operator/Cargo.toml", &["weir-protocol", "weir-worker", "arrow", "datafusion"]),
        ];
        banned.into_iter().flat_map(|(path, names)| dependencies(path, &tree.text(path), names)).collect()
    });
}

fn dependencies(path: &str, manifest: &str, banned: &[&str]) -> Vec<Violation> {
    let lines = manifest.lines().enumerate().skip_while(|(_, line)| !line.contains("dependencies]"));
    let names = lines.filter_map(|(at, line)| Some((at + 1, line.split(['.', ' ', '=']).next()?)));
    names
        .filter(|(_, name)| banned.iter().any(|banned| name == banned || name.starts_with(&format!("{banned}-"))))
        .map(|(line, name)| {
            Violation::of(path, line, format!("this crate does not use {name}: see the layers in ARCHITECTURE.md"))
        })
        .collect()
}

#[test]
fn a_library_is_named_only_behind_its_door() {
    let doors: Vec<_> = DOORS
        .iter()
        .map(|(library, doors)| {
            let what = format!("{library} is used only in {}: go through what that offers", doors.join(" and "));
            (pattern(&format!(r"(?m)(?:^|[^:\w])(?:use[ \t]+)?{library}(?:::|;|[ \t]+as\b)")), what, *doors)
        })
        .collect();
    check_each("a_library_is_named_only_behind_its_door", |file| {
        let product = if file.is_test { "" } else { &file.product };
        let closed = doors.iter().filter(|(_, _, doors)| !doors.iter().any(|door| file.path.starts_with(door)));
        closed.flat_map(|(library, what, _)| places(file, product, library, what)).collect()
    });
}

#[test]
fn the_protocol_neither_acts_nor_looks_outside() {
    let impure = IMPURE.iter().map(|name| {
        let what = format!("the protocol decides without {name}: let the caller say it or do it");
        (pattern(&format!(r"\b{name}\b")), what)
    });
    let impure: Vec<_> = impure.collect();
    check_each("the_protocol_neither_acts_nor_looks_outside", |file| {
        let product = if file.path.starts_with("worker/protocol/src/") { &file.product } else { "" };
        impure.iter().flat_map(|(name, what)| places(file, product, name, what)).collect()
    });
}

#[test]
fn a_file_has_at_most_500_lines_without_its_tests() {
    check_each("a_file_has_at_most_500_lines_without_its_tests", |file| {
        let test_lines = file.code.lines().zip(file.product.lines()).filter(|(code, product)| code != product).count();
        let lines = file.text.lines().count() - test_lines;
        let long = !file.is_test && lines > 500;
        long.then(|| Violation::of(&file.path, 1, format!("{lines} lines: split it by what it holds, at most 500")))
            .into_iter()
            .collect()
    });
}

#[test]
fn a_function_has_at_most_70_lines() {
    let head = pattern(r"\bfn\s+(\w+)");
    check_each("a_function_has_at_most_70_lines", |file| {
        let product = if file.is_test { "" } else { &file.product };
        let functions = head.captures_iter(product).filter_map(|found| {
            let name = found.get(1).unwrap();
            let (first, last) = (file.line(name.start()), file.line(source::item_end(&file.code, name.end())? - 1));
            let lines = last - first + 1;
            (lines > 70).then(|| {
                Violation::of(&file.path, first, format!("fn {} has {lines} lines, at most 70", name.as_str()))
            })
        });
        functions.collect()
    });
}

#[test]
fn only_tests_unwrap() {
    let unwrap = pattern(r"\.unwrap(?:_err)?\(\)");
    check_each("only_tests_unwrap", |file| {
        let product = if file.is_test { "" } else { &file.product };
        places(file, product, &unwrap, "no unwrap: return the error, or expect() the invariant")
    });
}

#[test]
fn every_file_is_reached_by_a_mod() {
    check("every_file_is_reached_by_a_mod", |tree| {
        let dead = tree.unreachable.iter();
        dead.map(|path| Violation::of(path, 1, "no mod leads here: declare it or delete it")).collect()
    });
}

#[test]
fn nothing_is_left_for_later() {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")].join("|");
    let words = pattern(&format!(r"\b(?:{words})\b"));
    let macros = pattern(r"\b(?:todo|unimplemented)!\s*[({\[]");
    check_each("nothing_is_left_for_later", |file| {
        let mut found = places(file, &file.text, &words, "do it now, or write down that it is absent");
        found.extend(places(file, &file.code, &macros, "no unwritten branches: refuse the case by name"));
        found
    });
}

#[test]
fn tests_run_always_and_do_not_wait() {
    let (ignored, panicking) = (pattern(r"#\[ignore"), pattern(r"#\[should_panic"));
    let sleep = pattern(r"thread::sleep\s*\(");
    check_each("tests_run_always_and_do_not_wait", |file| {
        let mut found = places(file, &file.code, &ignored, "a test always runs, or does not exist");
        found.extend(places(file, &file.code, &panicking, "assert on the error instead of a panic"));
        let tests = if file.is_test { &file.code } else { "" };
        found.extend(places(file, tests, &sleep, "a test waits for an event, not for the clock"));
        found
    });
}

#[test]
fn an_exception_from_a_lint_has_its_reason() {
    let attribute = pattern(r"#!?\[\s*(?:allow|expect)\s*\(");
    check_each("an_exception_from_a_lint_has_its_reason", |file| {
        let without = attribute.find_iter(&file.code).filter(|found| {
            let end = file.code[found.start()..].find(']').map_or(file.code.len(), |end| found.start() + end);
            !file.code[found.start()..end].contains("reason")
        });
        let what = "say why: #[expect(lint, reason = \"…\")]";
        without.map(|found| Violation::of(&file.path, file.line(found.start()), what)).collect()
    });
}

#[test]
fn a_folder_holds_fewer_than_15_files() {
    check("a_folder_holds_fewer_than_15_files", |tree| {
        let full = tree.folders.iter().filter(|(_, count)| **count >= 15);
        full.map(|(folder, count)| {
            Violation::of(folder, 1, format!("{count} files, fewer than 15: what belongs together?"))
        })
        .collect()
    });
}

#[test]
fn a_file_is_named_for_what_it_holds() {
    check("a_file_is_named_for_what_it_holds", |tree| {
        let named = tree.sources.iter().filter(|file| {
            let mut parts = file.path.trim_end_matches(".rs").split('/');
            parts.any(|part| EMPTY_NAMES.contains(&part))
        });
        named.map(|file| Violation::of(&file.path, 1, "this name says nothing: name the one thing it holds")).collect()
    });
}

#[test]
fn what_the_programs_include_is_sent_to_the_build_of_the_images() {
    let include = pattern(r#"include_(?:str|bytes)!\("([^"]+)"\)"#);
    check("what_the_programs_include_is_sent_to_the_build_of_the_images", |tree| {
        let rules = ignore_rules(&tree.text(".dockerignore"));
        let mut missing = Vec::new();
        for file in tree.sources.iter().filter(|file| !file.is_test) {
            for found in include.captures_iter(&file.text) {
                let path = beside(&file.path, &found[1]);
                let last = rules.iter().rfind(|(pattern, _)| pattern.is_match(&path));
                if last.is_some_and(|(_, is_ignored)| *is_ignored) {
                    let what = format!(".dockerignore keeps {path} out of the build");
                    missing.push(Violation::of(&file.path, file.line(found.get(0).unwrap().start()), what));
                }
            }
        }
        missing
    });
}

/// What each line of a .dockerignore matches, a file or a folder above it, and whether it is ignored then.
fn ignore_rules(text: &str) -> Vec<(Regex, bool)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let rule = |line: &str| {
        let (path, is_ignored) = line.strip_prefix('!').map_or((line, true), |path| (path, false));
        let parts = regex::escape(path).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*");
        (pattern(&format!("^{parts}(?:/|$)")), is_ignored)
    };
    lines.map(rule).collect()
}

/// A path that is relative to the folder of a file, from the workspace.
fn beside(file: &str, relative: &str) -> String {
    let mut parts: Vec<&str> = file.split('/').collect();
    parts.pop();
    for part in relative.split('/') {
        match part {
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[test]
fn the_readme_links_every_page() {
    check("the_readme_links_every_page", |tree| {
        let readme = tree.text("README.md");
        let pages = tree.names("docs").into_iter().map(|name| format!("docs/{name}"));
        let pages = pages.chain(["ARCHITECTURE.md".to_owned(), "STYLE.md".to_owned(), "LICENSE".to_owned()]);
        let missing = pages.filter(|page| !readme.contains(&format!("({page})")));
        missing.map(|page| Violation::of(&page, 1, "the README does not link to this page")).collect()
    });
}

#[test]
fn a_link_between_pages_leads_somewhere() {
    let link = pattern(r"\]\(([^)#:]+)(?:#[^)]*)?\)");
    check("a_link_between_pages_leads_somewhere", |tree| {
        let pages = tree.names("docs").into_iter().map(|name| format!("docs/{name}"));
        let mut broken = Vec::new();
        for page in pages.chain(["README.md".to_owned(), "ARCHITECTURE.md".to_owned()]) {
            let text = tree.text(&page);
            let folder = page.rsplit_once('/').map_or("", |(folder, _)| folder);
            for found in link.captures_iter(&text) {
                let to = found.get(1).unwrap();
                if !tree.has(&format!("{folder}/{}", to.as_str())) {
                    broken.push(Violation::of(
                        &page,
                        source::line_of(&text, to.start()),
                        format!("nothing is at {}", to.as_str()),
                    ));
                }
            }
        }
        broken
    });
}

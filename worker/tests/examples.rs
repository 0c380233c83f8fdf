//! Every example can be read as a job of its own name.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let files = [folder.clone(), folder.join("nexmark")].into_iter().flat_map(|folder| folder.read_dir().unwrap());
    let files = files.map(|entry| entry.unwrap().path());
    let of_a_cluster = folder.join("kubernetes/channels.yaml");
    files.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).chain([of_a_cluster]).collect()
}

#[test]
fn each_example_is_a_sound_manifest_of_its_own_name() {
    let mut names = BTreeSet::new();
    let examples = examples();
    assert!(examples.len() >= 8, "{examples:?}");
    for path in examples {
        let text = std::fs::read_to_string(&path).unwrap();
        let job = weir_crds::parse(&text).unwrap_or_else(|mistakes| panic!("{}: {mistakes:?}", path.display()));
        assert!(names.insert(job.name.clone()), "{}: another example has the name {}", path.display(), job.name);
    }
}

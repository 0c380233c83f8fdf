//! Prints the CRDs, or with `--write` writes them to where they are committed: `crds/yaml` and the chart's files.
//!
//! `cargo run -p weir-crds --example crd -- --write`

use std::path::Path;

fn main() -> std::io::Result<()> {
    let write = std::env::args().any(|argument| argument == "--write");
    for (file, yaml) in weir_crds::definitions() {
        if !write {
            std::io::Write::write_all(&mut std::io::stdout(), yaml.as_bytes())?;
            continue;
        }
        for folder in ["yaml", "../charts/weir/files/crds"] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
            std::fs::create_dir_all(&folder)?;
            std::fs::write(folder.join(file), &yaml)?;
        }
    }
    Ok(())
}

//! Prints the CRDs, or writes them into `crds/yaml` with `--write`.
//!
//! `cargo run -p weir-crds --example crd -- --write`

use std::path::Path;

fn main() -> std::io::Result<()> {
    let write = std::env::args().any(|argument| argument == "--write");
    for (file, yaml) in weir_crds::definitions() {
        if write {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("yaml").join(file);
            std::fs::write(path, yaml)?;
        } else {
            std::io::Write::write_all(&mut std::io::stdout(), yaml.as_bytes())?;
        }
    }
    Ok(())
}

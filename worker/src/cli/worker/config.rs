//! Options in a file: lines `option: value` in YAML, by the options' long names.

use super::super::exit::Refusal;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The process's arguments with what the file of options adds to them: what neither an argument nor the environment says.
/// Arguments that are not of `weir worker` stay as they are.
pub(in super::super) fn with_config(
    arguments: impl Iterator<Item = OsString>,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Vec<OsString>, Refusal> {
    let mut arguments: Vec<OsString> = arguments.collect();
    if arguments.get(1).is_none_or(|command| command != "worker") {
        return Ok(arguments);
    }
    let Some(file) = file(&arguments).or_else(|| environment("WEIR_CONFIG").map(PathBuf::from)) else {
        return Ok(arguments);
    };
    for (option, value) in read(&file)? {
        let variable = format!("WEIR_{}", option.to_ascii_uppercase().replace('-', "_"));
        if given(&arguments, &option) || environment(&variable).is_some() {
            continue;
        }
        match (option.as_str(), value.as_str()) {
            (flag, "true") => arguments.push(format!("--{flag}").into()),
            (_, "false") => {}
            (option, value) => arguments.push(format!("--{option}={value}").into()),
        }
    }
    Ok(arguments)
}

fn file(arguments: &[OsString]) -> Option<PathBuf> {
    arguments.iter().enumerate().find_map(|(place, argument)| {
        let argument = argument.to_str()?;
        match argument.strip_prefix("--config=") {
            Some(file) => Some(PathBuf::from(file)),
            None if argument == "--config" => arguments.get(place + 1).map(PathBuf::from),
            None => None,
        }
    })
}

fn given(arguments: &[OsString], option: &str) -> bool {
    let long = format!("--{option}");
    arguments.iter().any(|argument| {
        let argument = argument.to_string_lossy();
        // The only short one.
        let short = option == "quiet" && argument == "-q";
        short || argument == long || argument.strip_prefix(&long).is_some_and(|rest| rest.starts_with('='))
    })
}

fn read(file: &Path) -> Result<Vec<(String, String)>, Refusal> {
    let shown = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| Refusal::user(format!("error: the file of options {shown} could not be read: {error}")))?;
    let values: BTreeMap<String, serde_json::Value> = serde_yaml::from_str(&text).map_err(|error| {
        Refusal::user(format!("error: {shown} is no file of options, one `option: value` a line: {error}"))
    })?;
    let plain = |(option, value): (String, serde_json::Value)| match value {
        serde_json::Value::String(text) => Ok((option, text)),
        serde_json::Value::Number(number) => Ok((option, number.to_string())),
        serde_json::Value::Bool(flag) => Ok((option, flag.to_string())),
        _ => Err(Refusal::user(format!("error: {shown}: {option} has to be text, a number, true or false"))),
    };
    values.into_iter().map(plain).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use proptest::prelude::*;

    fn check(arguments: &[&str], variables: &[&str], expected: &[&str]) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("options.yaml");
        std::fs::write(
            &file,
            "manifest: job.yaml\nordinal: 2\ninsecure: true\nquiet: true\nfresh: false\nleader: a:1\n",
        )
        .unwrap();
        let named: Vec<OsString> =
            arguments.iter().map(|text| text.replace("FILE", file.to_str().unwrap()).into()).collect();
        let environment = |name: &str| variables.contains(&name).then(|| OsString::from("x"));
        let all = with_config(named.clone().into_iter(), environment).unwrap();
        let added: Vec<&OsString> = all.iter().filter(|argument| !named.contains(argument)).collect();
        assert_eq!(added, expected, "{arguments:?} {variables:?}");
    }

    #[test]
    fn what_is_said_otherwise_wins_over_the_file() {
        check(&["weir", "run", "--config", "FILE"], &[], &[]);
        check(&["weir", "worker"], &[], &[]);
        check(
            &["weir", "worker", "--config=FILE"],
            &[],
            &["--insecure", "--leader=a:1", "--manifest=job.yaml", "--ordinal=2", "--quiet"],
        );
        check(
            &["weir", "worker", "--config", "FILE", "--ordinal", "7", "-q"],
            &["WEIR_LEADER", "WEIR_MANIFEST"],
            &["--insecure"],
        );
        check(
            &["weir", "worker", "--config", "FILE"],
            &["WEIR_INSECURE", "WEIR_QUIET", "WEIR_MANIFEST"],
            &["--leader=a:1", "--ordinal=2"],
        );
    }

    proptest! {
        #[test]
        fn no_file_makes_the_options_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            lines in r#"([a-z-]{0,8}: ?(\{|\[|"|'|&a|\*a|!!int|[a-z0-9.]{0,6}|- )\n){0,6}"#,
        ) {
            let folder = tempfile::tempdir().unwrap();
            for body in [bytes.as_slice(), lines.as_bytes()] {
                let file = folder.path().join("options.yaml");
                std::fs::write(&file, body).unwrap();
                let named = ["weir".into(), "worker".into(), "--config".into(), file.into_os_string()];
                match with_config(named.clone().into_iter(), |_| None) {
                    Ok(all) => prop_assert_eq!(&all[..4], &named[..]),
                    Err(refusal) => prop_assert!(refusal.to_string().contains("options.yaml"), "{}", refusal),
                }
            }
        }
    }

    #[test]
    fn a_file_that_is_none_is_refused() {
        let arguments = ["weir", "worker", "--config=/no/such/file"].map(OsString::from);
        let refusal = with_config(arguments.into_iter(), |_| None).unwrap_err();
        assert!(refusal.to_string().contains("/no/such/file could not be read"), "{refusal}");
    }
}

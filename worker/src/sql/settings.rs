//! `SET 'key' = 'value'`: the settings of Flink that mean something here.

use super::lower::Settings;
use super::syntax::Setting;
use crate::connector::options::parse_duration;
use crate::diagnostic::{Diagnostic, nearest};

/// What a setting does.
enum Effect {
    StateTtl,
    IdleTimeout,
    /// It is what happens anyway, or has its place in the job's manifest.
    Nothing,
    /// Only this value is possible.
    Only(&'static str),
}

const SETTINGS: [(&str, Effect); 5] = [
    ("table.exec.state.ttl", Effect::StateTtl),
    ("table.exec.source.idle-timeout", Effect::IdleTimeout),
    ("pipeline.name", Effect::Nothing),
    ("execution.runtime-mode", Effect::Only("streaming")),
    ("table.local-time-zone", Effect::Only("UTC")),
];

/// Applies one `SET`.
pub(super) fn apply(setting: &Setting, settings: &mut Settings) -> Result<(), Diagnostic> {
    let Setting { key, value, position } = setting;
    let Some((_, effect)) = SETTINGS.iter().find(|(known, _)| known == key) else {
        let hint = match nearest(key, SETTINGS.iter().map(|(known, _)| *known)) {
            Some(near) => format!("did you mean '{near}'?"),
            None => format!("known here: {}", SETTINGS.each_ref().map(|(known, _)| *known).join(", ")),
        };
        return Err(Diagnostic::new(format!("there is no setting '{key}'")).at(*position).hint(hint));
    };
    let duration = || {
        let parsed = parse_duration(value);
        parsed.map_err(|wanted| Diagnostic::new(format!("'{value}' is no value for '{key}': {wanted}")).at(*position))
    };
    match effect {
        Effect::StateTtl => settings.state_ttl = Some(duration()?).filter(|ttl| !ttl.is_zero()),
        Effect::IdleTimeout => settings.idle_timeout = Some(duration()?).filter(|timeout| !timeout.is_zero()),
        Effect::Nothing => {}
        Effect::Only(possible) if value.eq_ignore_ascii_case(possible) => {}
        Effect::Only(possible) => {
            let message = format!("'{value}' is no value for '{key}' in this version");
            return Err(Diagnostic::new(message).at(*position).hint(format!("only '{possible}' is possible")));
        }
    }
    Ok(())
}

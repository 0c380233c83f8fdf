//! Each rule is there because without it rows are lost or repeated: with the rule off, some history shows it.

use crate::history;
use weir_protocol::leader::Rule;

/// Histories in which a broken rule must show itself.
const HISTORIES: u64 = 20_000;

#[test]
fn without_any_one_rule_a_row_is_lost_or_repeated() {
    let rules = [
        Rule::ConditionalClaim,
        Rule::DecideAnew,
        Rule::LookBackAfterStart,
        Rule::LookBackAfterManifest,
        Rule::CommitWhatTheHeadLeft,
        Rule::FencedTouchesNothing,
        Rule::AllAcknowledge,
        Rule::UnknownIsNotDone,
        Rule::UnknownIsNotFailed,
        Rule::AbortedLoseNothing,
        Rule::CarryUnconfirmed,
        Rule::PinSavepoints,
        Rule::ObeyStops,
        Rule::SpareReferenced,
        Rule::SpareOwnFiles,
        Rule::ClaimInOrder,
        Rule::AwaitTheStop,
        Rule::RestoreOnce,
        Rule::StateFits,
        Rule::CarryOnRestore,
        Rule::SavepointOnce,
        Rule::CompletePointers,
        Rule::CopyStops,
        Rule::DropForeign,
        Rule::LeaveForeign,
        Rule::HoldOrigin,
    ];
    let shows = |rule: &Rule| (0..HISTORIES).any(|seed| history(seed, Some(*rule)).is_err());
    let harmless: Vec<Rule> = rules.into_iter().filter(|rule| !shows(rule)).collect();
    assert_eq!(harmless, [], "these rules make no difference");
}

//! Each rule is there because without it rows are lost or repeated: with the rule off, some history shows it.

use crate::{Rule as Off, history};
use weir_protocol::leader::Rule;
use weir_protocol::members;

/// Histories in which a broken rule must show itself.
const HISTORIES: u64 = 20_000;

#[test]
fn without_any_one_rule_a_row_is_lost_or_repeated() {
    let rules = [
        Rule::ConditionalClaim,
        Rule::OwnLinksOnly,
        Rule::DecideAnew,
        Rule::LookBackAfterStart,
        Rule::LookBackAfterManifest,
        Rule::AskForDeletion,
        Rule::CommitWhatTheHeadLeft,
        Rule::FencedTouchesNothing,
        Rule::AllAcknowledge,
        Rule::UnknownIsNotDone,
        Rule::UnknownIsNotFailed,
        Rule::AbortedLoseNothing,
        Rule::CarryUnconfirmed,
        Rule::StoreInFlight,
        Rule::ReplayOnce,
        Rule::AlignStops,
        Rule::PinSavepoints,
        Rule::ObeyStops,
        Rule::SpareReferenced,
        Rule::SpareOwnFiles,
        Rule::ClaimInOrder,
        Rule::OnePodPerAttempt,
        Rule::AwaitTheStop,
        Rule::RestoreOnce,
        Rule::GoBackToWhatWasLeft,
        Rule::StateFits,
        Rule::CarryOnRestore,
        Rule::SavepointOnce,
        Rule::CompletePointers,
        Rule::CopyStops,
        Rule::DropForeign,
        Rule::LeaveForeign,
        Rule::HoldOrigin,
    ];
    let of_members = [members::Rule::NewerStays, members::Rule::RefuseStrangers];
    let rules = rules.into_iter().map(Off::Leader).chain(of_members.map(Off::Members));
    let shows = |rule: &Off| (0..HISTORIES).any(|seed| history(seed, Some(*rule)).is_err());
    let harmless: Vec<Off> = rules.filter(|rule| !shows(rule)).collect();
    assert_eq!(harmless, [], "these rules make no difference");
}

//! A decision in short words.

use weir_operator::model::{Action, Against, Finalizer, LeaderRequest};

use crate::cluster::Cluster;

/// The actions that change something.
fn words(cluster: &Cluster) -> Vec<String> {
    let decision = cluster.decide();
    decision.actions.iter().filter_map(word).collect()
}

fn word(action: &Action) -> Option<String> {
    Some(match action {
        Action::Certificates | Action::Prepare { .. } | Action::Serve { .. } | Action::Activate { .. } => return None,
        Action::Record { number, content } => format!("record {number} of {}", content.program),
        Action::Mark { number, mark } => format!("mark {number} {:?}", mark.annotation().0),
        Action::Forget { number } => format!("forget {number}"),
        Action::Lead { program, attempt, .. } => format!("lead {program}-{attempt}"),
        Action::CreatePod(new) => format!("create w{}-{}-{}", new.ordinal, new.program, new.attempt),
        Action::CreateCheck { revision, against, .. } => match against {
            Against::Own => format!("check {revision}"),
            Against::Restored(from) => format!("check {revision} with {from}"),
            Against::Nothing => format!("check {revision} with nothing"),
        },
        Action::CreateMaintenance(work) => format!("maintain: {}", work.arguments.join(" ")),
        Action::DeletePod { pod, .. } => format!("delete {}", pod.trim_start_matches("bids-")),
        Action::Ask(ask) => match &ask.request {
            LeaderRequest::Assign(assign) => {
                let force = if assign.force { " by force" } else { "" };
                format!("assign {}{force} to {}", assign.revision, ask.pod.trim_start_matches("bids-"))
            }
            LeaderRequest::TakeSavepoint { name, then, .. } => format!("savepoint {name}, then {then:?}"),
            LeaderRequest::ReleaseSavepoint { name } => format!("release {name}"),
        },
        Action::Finalizer(Finalizer::Set) => "hold".to_owned(),
        Action::Finalizer(Finalizer::Removed) => "let go".to_owned(),
        Action::SavepointFinalizer { name, finalizer, .. } => format!("finalizer of {name} {finalizer:?}"),
        Action::SavepointStatus { name, status, .. } => format!("{name} is {:?}", status.state.unwrap()),
    })
}

#[track_caller]
pub(crate) fn check(cluster: &Cluster, wanted: &[&str]) {
    assert_eq!(words(cluster), wanted);
}

/// The reason of a condition, if it holds.
pub(crate) fn holds(cluster: &Cluster, kind: &str) -> Option<String> {
    let decision = cluster.decide();
    let condition = decision.status.conditions.into_iter().find(|condition| condition.type_ == kind).unwrap();
    (condition.status == "True").then_some(condition.reason)
}

/// The reason and the message of a condition, which has this status.
#[track_caller]
pub(crate) fn condition(cluster: &Cluster, kind: &str, status: &str) -> (String, String) {
    let decision = cluster.decide();
    let condition = decision.status.conditions.into_iter().find(|condition| condition.type_ == kind).unwrap();
    assert_eq!(condition.status, status, "{}: {}", condition.reason, condition.message);
    (condition.reason, condition.message)
}

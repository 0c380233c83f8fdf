//! Images: those of another program, those that are not there, and the one of jobs that name none.

use weir_operator::model::name;

use crate::cluster::{Cluster, crashing, fits, over};
use crate::words::{check, condition, holds};

/// A job that runs on two workers.
fn running() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.rounds(12);
    assert_eq!(holds(&cluster, "Ready").as_deref(), Some("Running"));
    cluster
}

#[test]
fn only_the_words_of_a_check_count_and_one_that_says_nothing_is_given_up_at_the_deadline() {
    let ends = [
        (0, "hello", "the check could not be done: hello"),
        (0, "", "it ended with exit code 0"),
        (2, "error: unexpected argument '--against'", "unexpected argument"),
        (101, "panicked at plan.rs", "panicked at plan.rs"),
        (1, r#"{"verdict": "unknown", "message": "the bucket is away"}"#, "could not be done: the bucket is away"),
    ];
    for (code, message, words) in ends {
        let mut cluster = running();
        cluster.edit(|job| job.spec.rollback.deadline = weir_crds::Duration::from_secs(40));
        cluster.check = (code, message.to_owned());
        cluster.sql("INSERT INTO a SELECT x FROM b");
        cluster.rounds(30);
        let (reason, told) = condition(&cluster, "Reconciling", "True");
        assert!(reason == "CrashLooping" && told.contains(words), "{reason}: {told}");
        assert_eq!(holds(&cluster, "Ready").as_deref(), Some("Running"));
        cluster.rounds(30);
        let (reason, told) = condition(&cluster, "Stalled", "True");
        assert!(reason == "UpgradeFailed" && told.contains(words), "{reason}: {told}");
        cluster.rounds(30);
        assert_eq!((cluster.store.begun.as_slice(), cluster.fleet().len(), cluster.pods.len()), (&[1][..], 2, 2));
        check(&cluster, &[]);
        cluster.check = fits();
        cluster.sql("INSERT INTO a SELECT y FROM b");
        cluster.rounds(15);
        assert_eq!((holds(&cluster, "Stalled"), cluster.store.in_force), (None, 3), "{words}");
    }
}

#[test]
fn a_check_that_cannot_look_yet_is_made_again_until_it_can() {
    let mut cluster = running();
    cluster.check = (1, r#"{"verdict": "unknown", "message": "the bucket is away"}"#.to_owned());
    cluster.sql("INSERT INTO a SELECT x FROM b");
    cluster.rounds(15);
    cluster.check = fits();
    cluster.rounds(25);
    assert_eq!((cluster.fleet(), holds(&cluster, "Stalled")), (vec!["2/0".to_owned(), "2/1".to_owned()], None));
}

#[test]
fn an_image_of_another_program_is_no_finished_job_and_is_healed_by_a_corrected_one() {
    for (code, message) in [(0, "done"), (3, ""), (5, "")] {
        let mut cluster = Cluster::new();
        let now = cluster.now;
        cluster.pending = Some(crashing(code, message, now));
        for _ in 0..30 {
            cluster.round(usize::MAX);
            assert_eq!((holds(&cluster, "Ready"), cluster.store.in_force), (None, 0), "exit code {code}");
            // A container that has ended and was not started again yet.
            cluster.pending = Some(over(code, message, cluster.now));
            cluster.round(usize::MAX);
            assert_eq!((holds(&cluster, "Ready"), cluster.store.in_force), (None, 0), "exit code {code}");
            cluster.pending = Some(crashing(code, message, cluster.now));
        }
        let (reason, told) = condition(&cluster, "Ready", "False");
        assert!(reason != "Finished" && reason != "Suspended", "{reason}: {told}");
        cluster.pending = None;
        cluster.edit(|job| job.spec.worker.image = Some("weir:2".to_owned()));
        cluster.rounds(20);
        assert_eq!((holds(&cluster, "Ready").as_deref(), cluster.fleet().len()), (Some("Running"), 2), "{code}");
    }
}

/// A job that names no image.
fn without_image() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.job.spec.worker.image = None;
    cluster
}

/// The images of the live workers.
fn images(cluster: &Cluster) -> Vec<String> {
    let live = cluster.seen_pods().into_iter().filter(|pod| pod.ready == Some(true) && !pod.deleting);
    let image = |name: &str| cluster.pods[name].spec.as_ref().unwrap().containers[0].image.clone().unwrap();
    live.map(|pod| image(&pod.name)).collect()
}

#[test]
fn a_job_that_runs_keeps_the_default_image_until_it_changes_or_is_restarted() {
    type Edit = fn(&mut Cluster);
    let edits: [(Edit, &str); 4] = [
        (|_| {}, "weir:default"),
        (|cluster| cluster.parallelism(1), "weir:default"),
        (|cluster| cluster.sql("INSERT INTO a SELECT x FROM b"), "weir:new"),
        (
            |cluster| {
                cluster
                    .edit(|job| job.metadata.annotations = Some([(name::RESTART.to_owned(), "1".to_owned())].into()));
            },
            "weir:new",
        ),
    ];
    for (edit, image) in edits {
        let mut cluster = without_image();
        cluster.rounds(12);
        cluster.default_image = "weir:new".to_owned();
        cluster.rounds(3);
        check(&cluster, &[]);
        edit(&mut cluster);
        cluster.rounds(20);
        assert!(images(&cluster).iter().all(|of| of == image), "{:?}, not {image}", images(&cluster));
        assert_eq!(holds(&cluster, "Ready").as_deref(), Some("Running"));
        check(&cluster, &[]);
    }
}

#[test]
fn a_default_image_that_is_not_there_is_healed_by_another_one() {
    // A first start, an upgrade that waits, and one that was given up; then with a width that has changed since.
    for (runs, rounds, width) in [(false, 5, 2), (true, 5, 2), (true, 60, 2), (true, 60, 3)] {
        let mut cluster = without_image();
        cluster.edit(|job| job.spec.rollback.deadline = weir_crds::Duration::from_secs(30));
        if runs {
            cluster.rounds(12);
            cluster.sql("INSERT INTO a SELECT x FROM b");
        }
        cluster.default_image = "weir:missing".to_owned();
        cluster.no_image.insert("weir:missing".to_owned());
        cluster.rounds(rounds);
        assert_eq!(cluster.store.in_force, u64::from(runs));
        cluster.parallelism(width);
        cluster.rounds(10);
        cluster.default_image = "weir:new".to_owned();
        cluster.rounds(20);
        let what = format!("runs: {runs}, after {rounds}, {width} wide: {:#?}", cluster.status());
        assert_eq!(images(&cluster), vec!["weir:new"; width as usize], "{what}");
        assert_eq!(
            (holds(&cluster, "Ready").as_deref(), holds(&cluster, "Stalled")),
            (Some("Running"), None),
            "{what}"
        );
        check(&cluster, &[]);
    }
}

#[test]
fn a_version_that_has_run_and_failed_is_not_tried_again_with_another_default_image() {
    let mut cluster = without_image();
    cluster.rounds(12);
    cluster.edit(|job| job.spec.rollback.deadline = weir_crds::Duration::from_secs(20));
    cluster.sql("INSERT INTO a SELECT broken FROM b");
    while cluster.store.assignments.len() < 2 {
        cluster.round(usize::MAX);
    }
    let code = cluster.store.assignments[&2].code.clone();
    cluster.store.bad.insert(code);
    cluster.rounds(50);
    assert_eq!(
        (cluster.store.begun.as_slice(), holds(&cluster, "Stalled").as_deref()),
        (&[1, 2, 3][..], Some("UpgradeFailed"))
    );
    cluster.default_image = "weir:new".to_owned();
    cluster.rounds(20);
    assert_eq!((cluster.store.begun.len(), images(&cluster)), (3, vec!["weir:default".to_owned(); 2]));
}

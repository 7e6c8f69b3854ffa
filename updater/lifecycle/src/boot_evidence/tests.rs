use super::*;

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

fn hash(byte: u8) -> RootHash {
    RootHash([byte; 32])
}

fn tries(text: &str) -> Option<Tries> {
    (!text.is_empty()).then(|| text.parse().unwrap())
}

/// Release N has the root hash N.
fn candidate(number: u8, count: &str) -> Candidate {
    Candidate {
        version: version(&format!("{number}.0")),
        root_hash: hash(number),
        tries: tries(count),
    }
}

fn seen(boot_id: &str, number: u8, ended: Ended) -> BootSeen {
    BootSeen {
        boot_id: boot_id.into(),
        version: version(&format!("{number}.0")),
        root_hash: Some(hash(number)),
        ended,
    }
}

/// A machine on which nothing ever happened: 1.0 runs in its boot "now".
fn nothing() -> Evidence {
    Evidence {
        boot_id: "now".into(),
        running: Some(candidate(1, "")),
        others: vec![],
        seen: None,
        staged: None,
        left: vec![],
        failed: vec![],
        credits: 0,
        panic: None,
        watchdog_reset: false,
        trial_expired: None,
    }
}

/// 1.0 runs after 2.0 has used its tries up.
fn after_a_failure(count: &str) -> Evidence {
    Evidence {
        others: vec![candidate(2, count)],
        seen: Some(seen("before", 1, Ended::Asked)),
        staged: Some((version("2.0"), hash(2))),
        ..nothing()
    }
}

/// 2.0 runs on trial for the second time.
fn second_try(ended: Ended) -> Evidence {
    Evidence {
        running: Some(candidate(2, "+1-2")),
        others: vec![candidate(1, "")],
        seen: Some(seen("before", 2, ended)),
        staged: Some((version("2.0"), hash(2))),
        ..nothing()
    }
}

fn unhealthy(reason: &str, only_server: bool) -> Ended {
    Ended::Unhealthy {
        reason: reason.into(),
        only_server,
    }
}

fn fallback_reason(evidence: &Evidence) -> Option<String> {
    conclude(evidence).fell_back.map(|it| it.reason)
}

#[test]
fn on_a_machine_where_nothing_happened_nothing_follows() {
    assert_eq!(conclude(&nothing()), Findings::default());
    let nowhere = Evidence {
        running: None,
        ..after_a_failure("+0-3")
    };
    assert_eq!(conclude(&nowhere), Findings::default());
}

#[test]
fn why_a_release_gave_way_is_the_best_that_is_known() {
    let unhealthy = || Some(seen("before", 2, self::unhealthy("web failed", false)));
    let reached = || Some(seen("before", 2, Ended::Unknown));
    let panic = || Some("Attempted to kill init!".to_owned());
    let expired = || Some("nobody confirmed within 1200 s".to_owned());
    let ill_before = self::unhealthy("old story", false);
    type Seen = Option<BootSeen>;
    type Case = (Seen, Option<String>, Option<String>, bool, &'static str);
    let cases: Vec<Case> = vec![
        (None, None, None, false, "it did not come up"),
        (
            None,
            None,
            None,
            true,
            "it hung, and the hardware watchdog reset the machine",
        ),
        (
            None,
            None,
            panic(),
            true,
            "the kernel panicked: Attempted to kill init!",
        ),
        (
            None,
            expired(),
            panic(),
            false,
            "nobody confirmed within 1200 s",
        ),
        (unhealthy(), expired(), panic(), true, "web failed"),
        (
            reached(),
            None,
            None,
            false,
            "its boots ended before it had proven itself, for no known reason",
        ),
        // What was seen last is the old release: it says nothing of the new one.
        (
            Some(seen("before", 1, ill_before)),
            None,
            None,
            false,
            "it did not come up",
        ),
    ];
    for (seen, trial_expired, panic, watchdog_reset, reason) in cases {
        let evidence = Evidence {
            seen,
            trial_expired,
            panic,
            watchdog_reset,
            ..after_a_failure("+0-3")
        };
        let found = conclude(&evidence).fell_back.unwrap();
        assert_eq!(found.reason, reason, "{evidence:?}");
        assert_eq!((found.version, found.was_blessed), (version("2.0"), false));
    }
}

#[test]
fn a_blessed_release_whose_guard_ran_out_gave_way_too() {
    let found = conclude(&after_a_failure("+0-7")).fell_back.unwrap();
    assert!(found.was_blessed);
}

#[test]
fn what_was_left_on_purpose_or_is_known_did_not_give_way() {
    let left = Evidence {
        left: vec![hash(2)],
        ..after_a_failure("+0-7")
    };
    assert_eq!(fallback_reason(&left), None);
    let known = Evidence {
        failed: vec![version("2.0")],
        ..after_a_failure("+0-3")
    };
    assert_eq!(fallback_reason(&known), None);
}

#[test]
fn a_release_that_the_loader_still_tries_did_not_give_way() {
    for count in ["", "+3-0", "+1-2", "+4-3"] {
        assert_eq!(fallback_reason(&after_a_failure(count)), None, "{count}");
    }
}

#[test]
fn an_older_release_without_tries_gave_way_only_where_it_was_to_boot() {
    let older = Evidence {
        running: Some(candidate(3, "")),
        staged: None,
        ..after_a_failure("+0-3")
    };
    assert_eq!(fallback_reason(&older), None);
    let downgrade = Evidence {
        staged: Some((version("2.0"), hash(2))),
        ..older
    };
    assert!(fallback_reason(&downgrade).is_some());
}

#[test]
fn a_release_whose_entry_vanished_gave_way() {
    let evidence = Evidence {
        others: vec![],
        ..after_a_failure("+0-3")
    };
    assert_eq!(
        fallback_reason(&evidence).as_deref(),
        Some("its boot entry is gone")
    );
    // It runs: nothing is missing.
    let runs = Evidence {
        running: Some(candidate(2, "+2-1")),
        ..evidence
    };
    assert_eq!(fallback_reason(&runs), None);
}

#[test]
fn a_try_is_given_back_for_what_the_release_did_not_do() {
    let back = tries("+2-1");
    let unhealthy = unhealthy("web failed", false);
    for (ended, panic, watchdog_reset, expired, credit) in [
        (Ended::Asked, false, false, false, back),
        // Whoever asked has seen more than the kernel's old record.
        (Ended::Asked, true, false, false, back),
        (Ended::Unknown, false, false, false, back),
        (Ended::Unknown, true, false, false, None),
        (Ended::Unknown, false, true, false, None),
        (Ended::Unknown, false, false, true, None),
        (unhealthy, false, false, false, None),
    ] {
        let evidence = Evidence {
            panic: panic.then(|| "panic".into()),
            watchdog_reset,
            trial_expired: expired.then(|| "expired".into()),
            ..second_try(ended)
        };
        let found = conclude(&evidence);
        assert_eq!(found.credit, credit, "{evidence:?}");
        assert!(found.on_trial);
        assert_eq!(found.fell_back, None);
    }
}

#[test]
fn a_try_is_not_given_back_for_ever_nor_for_another_release() {
    let again = Evidence {
        credits: MOST_CREDITS,
        ..second_try(Ended::Asked)
    };
    assert_eq!(conclude(&again).credit, None);
    let of_another = Evidence {
        seen: Some(seen("before", 1, Ended::Asked)),
        ..second_try(Ended::Asked)
    };
    assert_eq!(conclude(&of_another).credit, None);
    let first = Evidence {
        running: Some(candidate(2, "+2-1")),
        ..second_try(Ended::Asked)
    };
    assert_eq!(conclude(&first).credit, None);
    let blessed = Evidence {
        running: Some(candidate(2, "+5-2")),
        ..second_try(Ended::Asked)
    };
    assert_eq!(conclude(&blessed).credit, None);
}

#[test]
fn a_restart_of_the_daemon_alone_says_nothing_new() {
    let mut evidence = second_try(Ended::Asked);
    evidence.seen = Some(seen("now", 2, Ended::Unknown));
    evidence.others = vec![candidate(3, "+0-3")];
    let found = conclude(&evidence);
    assert_eq!((found.credit, found.fell_back), (None, None));
    assert!(found.on_trial);
}

#[test]
fn a_release_that_only_missed_the_server_need_not_be_at_fault() {
    let evidence = |only_server| Evidence {
        seen: Some(seen("before", 2, unhealthy("no answer", only_server))),
        ..after_a_failure("+0-3")
    };
    assert!(conclude(&evidence(true)).fell_back.unwrap().only_server);
    assert!(!conclude(&evidence(false)).fell_back.unwrap().only_server);
}

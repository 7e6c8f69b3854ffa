use release::{Manifest, Wave};

use super::*;
use crate::Wish;

/// An offer to everyone; what it consists of does not matter here.
pub(crate) fn offer(version: &str, min_version: Option<&str>) -> Offer {
    let artifact = |name: &str| {
        serde_json::json!({
            "path": format!("releases/{version}/{name}"), "length": 1, "sha256": "00".repeat(32)
        })
    };
    let mut manifest = serde_json::json!({
        "version": version, "root_hash": "00".repeat(32),
        "verity": { "salt": "00", "uuid": "00".repeat(16), "data_blocks": 1 },
        "loader_version": "257", "published": "2026-11-01T00:00:00Z"
    });
    for name in [
        "root",
        "root_index",
        "tree",
        "uki",
        "uki_index",
        "loader",
        "sbom",
        "disk",
    ] {
        manifest[name] = artifact(name);
    }
    let mut manifest: Manifest = serde_json::from_value(manifest).unwrap();
    manifest.min_version = min_version.map(|min| min.parse().unwrap());
    Offer {
        manifest,
        waves: Vec::new(),
        halted: None,
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

const NOW: &str = "2026-11-21T12:00:00Z";

/// A table's row: what is on offer, what the machine remembers, what is chosen.
struct Row {
    standing: Standing,
    channel: Channel,
    config: Config,
}

/// Offers are written `2.0`, `3.0>=2.0` (a barrier), `4.0!` (halted), `5.0@` (the
/// machine's wave is tomorrow), `6.0@never`.
fn row(running: &str, offers: &str) -> Row {
    let mut channel = Channel::new("stable");
    for text in offers.split_whitespace() {
        let (text, wave) = text
            .split_once('@')
            .map_or((text, None), |(a, b)| (a, Some(b)));
        let (text, halted) = text
            .strip_suffix('!')
            .map_or((text, false), |text| (text, true));
        let (version, min) = text
            .split_once(">=")
            .map_or((text, None), |(a, b)| (a, Some(b)));
        let mut offer = offer(version, min);
        offer.halted = halted.then(|| "it smokes".to_owned());
        let wave = wave.map(|wave| match wave {
            "" => (100, "2026-11-22T00:00:00Z"),
            "today" => (100, "2026-11-21T13:00:00Z"),
            _ => (1, "2026-11-01T00:00:00Z"),
        });
        offer.waves.extend(wave.map(|(percent, start)| Wave {
            percent,
            start: start.to_owned(),
        }));
        channel.offers.push(offer);
    }
    Row {
        standing: Standing::new(running.parse().unwrap()),
        channel,
        config: Config::default(),
    }
}

impl Row {
    fn with(mut self, change: impl FnOnce(&mut Standing)) -> Self {
        change(&mut self.standing);
        self
    }

    fn pin(self, version: &str) -> Self {
        self.with(|standing| standing.pin = Some(version.parse().unwrap()))
    }

    fn failed(self, version: &str) -> Self {
        self.with(|standing| {
            standing.failed.push(Failure {
                version: version.parse().unwrap(),
                reason: "network never healthy".to_owned(),
                at: at("2026-11-20T08:00:00Z"),
                again: None,
            });
        })
    }

    fn unreachable(self, again: &str) -> Self {
        self.with(|standing| {
            standing.failed.push(Failure {
                version: "2.0".parse().unwrap(),
                reason: "server not reached".to_owned(),
                at: at("2026-11-20T08:00:00Z"),
                again: Some(at(again)),
            });
        })
    }

    fn wish(self, version: &str) -> Self {
        self.with(|standing| {
            standing.wish = Some(Wish {
                version: Some(version.parse().unwrap()),
                ..Wish::default()
            });
        })
    }

    fn wish_newest(self) -> Self {
        self.with(|standing| standing.wish = Some(Wish::default()))
    }

    fn down(self, version: &str) -> Self {
        self.with(|standing| {
            standing.wish = Some(Wish {
                version: Some(version.parse().unwrap()),
                allow_downgrade: true,
                now: false,
            });
        })
    }

    fn manual(mut self) -> Self {
        self.config.mode = Mode::Manual;
        self
    }

    /// The choice as a person would read it.
    fn choice(&self) -> String {
        // In none of the waves of one percent that the table has.
        let machine = MachineId::from(0x1234_5678);
        let choice = choose(
            &self.config,
            &self.standing,
            &self.channel,
            &machine,
            at(NOW),
        );
        let list = |passed: &[Passed]| -> String {
            passed.iter().map(|passed| format!("; {passed}")).collect()
        };
        match choice {
            Choice::UpToDate => "up to date".to_owned(),
            Choice::Take {
                offer,
                reason,
                passed,
            } => format!("take {}: {reason}{}", offer.manifest.version, list(&passed)),
            Choice::Available { offer, passed } => {
                format!("available {}{}", offer.manifest.version, list(&passed))
            }
            Choice::Wait {
                version,
                until,
                passed,
            } => format!("wait for {version} until {until}{}", list(&passed)),
            Choice::Nothing { cause, passed } => format!("nothing: {cause}{}", list(&passed)),
        }
    }
}

#[test]
fn each_rule_decides_as_the_table_says() {
    let newest = ": the newest release for this machine";
    let halted = "halted by the fleet's operator: it smokes";
    let failed = "failed on this machine at 2026-11-20T08:00:00Z: network never healthy (`wherry \
                  update apply 2.0` tries it again)";
    let tomorrow = "its wave reaches this machine at 2026-11-22T00:00:00Z";
    let never = "none of its waves reaches this machine yet";
    let barrier = |min: &str| format!("{min} or a newer release must run first");
    let down =
        |min: &str| format!("a release in between does not allow going below {min} in one step");
    let pinned =
        |pin: &str| format!("this machine is pinned to {pin} (`wherry update unpin` ends that)");
    let none = "nothing: no newer release is for this machine now";
    let table = [
        // What is offered.
        (row("1.0", ""), "up to date".to_owned()),
        (row("1.0", "0.9 1.0"), "up to date".to_owned()),
        (row("1.0", "1.0 2.0 1.5"), format!("take 2.0{newest}")),
        (row("1.0", "1.0 2.0~rc1"), format!("take 2.0~rc1{newest}")),
        (row("2.0", "1.0 2.0~rc1"), "up to date".to_owned()),
        // Halted, failed.
        (row("1.0", "2.0!"), format!("{none}; 2.0: {halted}")),
        (
            row("1.0", "1.5 2.0!"),
            format!("take 1.5{newest}; 2.0: {halted}"),
        ),
        (
            row("1.0", "2.0").failed("2.0"),
            format!("{none}; 2.0: {failed}"),
        ),
        (
            row("1.0", "1.5 2.0").failed("2.0"),
            format!("take 1.5{newest}; 2.0: {failed}"),
        ),
        (
            row("1.0", "2.0 3.0").failed("2.0"),
            format!("take 3.0{newest}"),
        ),
        (
            row("1.0", "2.0").failed("2.0").wish("2.0"),
            "take 2.0: asked for by hand".to_owned(),
        ),
        (
            row("1.0", "2.0").failed("2.0").wish_newest(),
            format!("{none}; 2.0: {failed}"),
        ),
        (
            row("1.0", "2.0!").wish("2.0"),
            format!("nothing: 2.0: {halted}"),
        ),
        (
            row("1.0", "2.0").unreachable("2026-11-21T12:00:01Z"),
            format!(
                "{none}; 2.0: failed on this machine at 2026-11-20T08:00:00Z: server not reached \
                 (it is tried again at 2026-11-21T12:00:01Z, or by `wherry update apply 2.0`)"
            ),
        ),
        (
            row("1.0", "2.0").unreachable(NOW),
            format!("take 2.0{newest}"),
        ),
        (
            row("1.0", "2.0").unreachable(NOW).failed("2.0"),
            format!("{none}; 2.0: {failed}"),
        ),
        // Waves.
        (
            row("1.0", "2.0@"),
            format!("wait for 2.0 until 2026-11-22T00:00:00Z; 2.0: {tomorrow}"),
        ),
        (
            row("1.0", "2.0@today 3.0@"),
            format!(
                "wait for 2.0 until 2026-11-21T13:00:00Z; 3.0: {tomorrow}; 2.0: its wave reaches \
                 this machine at 2026-11-21T13:00:00Z"
            ),
        ),
        (
            row("1.0", "2.0 3.0@"),
            format!("take 2.0{newest}; 3.0: {tomorrow}"),
        ),
        (row("1.0", "2.0@never"), format!("{none}; 2.0: {never}")),
        (
            row("1.0", "2.0@").wish_newest(),
            "take 2.0: asked for by hand".to_owned(),
        ),
        (
            row("1.0", "2.0@").wish("2.0"),
            "take 2.0: asked for by hand".to_owned(),
        ),
        // Barriers.
        (row("1.0", "2.0>=1.0"), format!("take 2.0{newest}")),
        (
            row("1.0", "1.5 2.0 3.0>=2.0 4.0>=3.0"),
            format!(
                "take 2.0: on the way to 4.0; 4.0: {}; 3.0: {}",
                barrier("3.0"),
                barrier("2.0")
            ),
        ),
        (
            row("2.0", "1.5 2.0 3.0>=2.0 4.0>=3.0"),
            format!("take 3.0: on the way to 4.0; 4.0: {}", barrier("3.0")),
        ),
        (
            row("1.0", "3.0>=2.0"),
            format!("{none}; 3.0: {}", barrier("2.0")),
        ),
        (
            row("1.0", "2.0@ 3.0>=2.0").wish("3.0"),
            format!("take 2.0: on the way to 3.0; 3.0: {}", barrier("2.0")),
        ),
        (
            row("1.0", "2.0! 3.0>=2.0").wish("3.0"),
            format!("nothing: 3.0: {}", barrier("2.0")),
        ),
        (
            row("1.0", "2.0 3.0>=2.0").failed("2.0").wish("3.0"),
            format!("nothing: 3.0: {}", barrier("2.0")),
        ),
        // Pins.
        (
            row("1.0", "2.0 3.0").pin("2.0"),
            format!(
                "take 2.0: this machine is pinned to it; 3.0: {}",
                pinned("2.0")
            ),
        ),
        (
            row("1.0", "2.0@").pin("2.0"),
            "take 2.0: this machine is pinned to it".to_owned(),
        ),
        (row("2.0", "2.0 3.0").pin("2.0"), "up to date".to_owned()),
        (
            row("1.0", "3.0").pin("2.0"),
            format!("{none}; 3.0: {}", pinned("2.0")),
        ),
        (
            row("1.0", "1.0").pin("2.0"),
            "nothing: the channel does not offer 2.0".to_owned(),
        ),
        (
            row("1.0", "1.5 3.0").pin("2.0"),
            format!("take 1.5{newest}; 3.0: {}", pinned("2.0")),
        ),
        (
            row("1.0", "2.0 3.0").pin("2.0").wish("3.0"),
            format!("nothing: 3.0: {}", pinned("2.0")),
        ),
        (row("3.0", "2.0 3.0").pin("2.0"), "up to date".to_owned()),
        // Never older, unless the operator says so, and barriers even then.
        (
            row("2.0", "1.0 2.0").wish("1.0"),
            "nothing: 1.0: older than 2.0, which runs (`--allow-downgrade` takes it anyway)"
                .to_owned(),
        ),
        (
            row("2.0", "1.0 2.0").down("1.0"),
            "take 1.0: asked for by hand".to_owned(),
        ),
        (
            row("3.0", "1.0 1.5 2.0 2.5 3.0>=2.0").down("1.0"),
            format!("take 2.0: on the way to 1.0; 1.0: {}", down("2.0")),
        ),
        (
            row("2.0", "1.0 1.5 2.0 2.5 3.0>=2.0").down("1.0"),
            "take 1.0: asked for by hand".to_owned(),
        ),
        (
            row("3.0", "1.0 3.0>=2.0").down("1.0"),
            format!("nothing: 1.0: {}", down("2.0")),
        ),
        (
            row("4.0", "1.0 2.0 3.0>=2.0 4.0").down("1.0"),
            format!("take 2.0: on the way to 1.0; 1.0: {}", down("2.0")),
        ),
        (
            row("2.0", "1.0!").down("1.0"),
            format!("nothing: 1.0: {halted}"),
        ),
        (
            row("2.0", "1.0 2.0").with(|standing| {
                standing.wish = Some(Wish {
                    allow_downgrade: true,
                    ..Wish::default()
                });
            }),
            "up to date".to_owned(),
        ),
        // Wishes that cannot be.
        (
            row("1.0", "2.0").wish("9.0"),
            "nothing: the channel does not offer 9.0".to_owned(),
        ),
        (row("1.0", "2.0").wish("1.0"), "up to date".to_owned()),
        // The mode.
        (row("1.0", "2.0").manual(), "available 2.0".to_owned()),
        (
            row("1.0", "2.0").manual().wish_newest(),
            "take 2.0: asked for by hand".to_owned(),
        ),
    ];
    for (row, expected) in table {
        assert_eq!(row.choice(), expected, "{:?}", row.standing);
    }
}

#[test]
fn on_hold_not_even_a_wish_is_followed_until_the_hold_ends() {
    let hold = |until: Option<&str>| Hold {
        since: at("2026-11-01T00:00:00Z"),
        until: until.map(at),
        reason: None,
    };
    let held = row("1.0", "2.0")
        .wish("2.0")
        .with(|standing| standing.hold = Some(hold(None)));
    assert_eq!(
        held.choice(),
        "nothing: updates are on hold since 2026-11-01T00:00:00Z (`wherry update resume` ends that)"
    );
    let over = held.with(|standing| standing.hold = Some(hold(Some(NOW))));
    assert_eq!(over.choice(), "take 2.0: asked for by hand");
}

#[test]
fn a_release_that_is_staged_is_withdrawn_with_its_offer() {
    let row = row("1.0", "2.0 3.0!");
    let of = |version: &str| withdrawn(&row.channel, &version.parse().unwrap());
    assert_eq!(of("2.0"), None);
    assert_eq!(of("3.0").unwrap(), "3.0 was halted: it smokes");
    assert_eq!(
        of("4.0").unwrap(),
        "channel 'stable' does not offer 4.0 any more"
    );
}

#[test]
fn what_is_remembered_is_read_as_it_was_written() {
    let row = row("1.0", "")
        .failed("2.0")
        .pin("3.0")
        .wish_newest()
        .with(|standing| {
            standing.hold = Some(Hold {
                since: at(NOW),
                until: None,
                reason: Some("audit".to_owned()),
            });
        });
    let text = serde_json::to_string(&row.standing).unwrap();
    assert_eq!(
        serde_json::from_str::<Standing>(&text).unwrap(),
        row.standing
    );
}

mod paths {
    use proptest::prelude::*;

    use super::*;

    fn number(version: u8) -> Version {
        version.to_string().parse().unwrap()
    }

    proptest! {
        /// Whatever is offered: each step is allowed by the manifest's barrier, goes
        /// up, ends, and never runs what is halted.
        #[test]
        fn every_way_up_keeps_the_barriers_and_ends(
            offers in proptest::collection::btree_map(1u8..20, (0u8..20, any::<bool>()), 1..12),
            start in 0u8..20,
        ) {
            let mut channel = Channel::new("stable");
            for (version, (min, halted)) in &offers {
                let mut offer = offer(&version.to_string(), None);
                offer.manifest.min_version = (min < version).then(|| number(*min));
                offer.halted = halted.then(String::new);
                channel.offers.push(offer);
            }
            let config = Config::default();
            let machine = MachineId::from(9);
            let mut standing = Standing::new(number(start));
            let mut steps = 0;
            while let Choice::Take { offer, .. } =
                choose(&config, &standing, &channel, &machine, at(NOW))
            {
                let manifest = &offer.manifest;
                prop_assert!(manifest.version > standing.running && offer.halted.is_none());
                prop_assert!(manifest.min_version.as_ref().is_none_or(|min| *min <= standing.running));
                standing.running = manifest.version.clone();
                steps += 1;
            }
            prop_assert!(steps <= offers.len());
            // Nothing that is left could be taken directly.
            for offer in &channel.offers {
                let takable = offer.halted.is_none()
                    && offer.manifest.version > standing.running
                    && offer.manifest.min_version.as_ref().is_none_or(|min| *min <= standing.running);
                prop_assert!(!takable);
            }
        }

        /// On the way down no release is left for one below its barrier.
        #[test]
        fn every_way_down_keeps_the_barriers_and_ends(
            mins in proptest::collection::vec(0u8..12, 12),
            to in 1u8..12,
        ) {
            let mut channel = Channel::new("stable");
            for (version, min) in (1u8..).zip(&mins) {
                let mut offer = offer(&version.to_string(), None);
                offer.manifest.min_version = (*min < version).then(|| number(*min));
                channel.offers.push(offer);
            }
            let config = Config::default();
            let machine = MachineId::from(9);
            let mut standing = Standing::new(number(12));
            standing.wish = Some(Wish {
                version: Some(number(to)),
                allow_downgrade: true,
                now: false,
            });
            let mut steps = 0;
            while let Choice::Take { offer, .. } =
                choose(&config, &standing, &channel, &machine, at(NOW))
            {
                let next = &offer.manifest.version;
                prop_assert!(*next < standing.running && *next >= number(to));
                for left in &channel.offers {
                    let left = &left.manifest;
                    if left.version > *next && left.version <= standing.running {
                        prop_assert!(left.min_version.as_ref().is_none_or(|min| min <= next));
                    }
                }
                standing.running = next.clone();
                steps += 1;
                prop_assert!(steps <= 12);
            }
        }
    }
}

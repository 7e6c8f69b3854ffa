//! What of a channel is taken, and what is refused by which name.

use proptest::prelude::*;
use release::{Channel, ChannelError, MAX_CHANNEL};
use serde_json::{Value, json};

fn artifact(name: &str, length: u64) -> Value {
    json!({ "path": format!("releases/1.0/{name}"), "length": length, "sha256": "0".repeat(64) })
}

/// A channel with one release of nine blocks.
fn channel() -> Value {
    json!({
        "format": 1,
        "name": "stable",
        "mirrors": ["https://mirror.test/wherry"],
        "offers": [{
            "manifest": {
                "version": "1.0",
                "root_hash": "1".repeat(64),
                "verity": { "salt": "2".repeat(64), "uuid": "3".repeat(32), "data_blocks": 9 },
                "root": artifact("wherry_1.0.root", 9 * 4096),
                "root_index": artifact("wherry_1.0.root.index", 16 + 9 * 8),
                "tree": artifact("wherry_1.0.verity", 2 * 4096),
                "uki": artifact("wherry_1.0.efi", 10_000),
                "uki_index": artifact("wherry_1.0.efi.index", 32 + 8 + 4 * 8),
                "loader": artifact("wherry_1.0.loader.efi", 100_000),
                "loader_version": "257.9-1",
                "min_version": "0.9",
                "sbom": artifact("wherry_1.0.spdx.json", 5000),
                "disk": artifact("wherry_1.0.raw", 1 << 20),
                "notes": "The first.",
                "published": "2026-11-21T12:00:00Z"
            },
            "waves": [
                { "percent": 1, "start": "2026-11-21T12:00:00Z" },
                { "percent": 100, "start": "2026-11-22T12:00:00Z" }
            ]
        }]
    })
}

fn parse(value: &Value) -> Result<Channel, ChannelError> {
    Channel::parse(value.to_string().as_bytes())
}

#[test]
fn a_channel_is_read_as_it_is_written() {
    let read = parse(&channel()).unwrap();
    assert_eq!(Channel::parse(&read.encode().unwrap()).unwrap(), read);
    assert_eq!(serde_json::to_value(&read).unwrap(), channel());
}

#[test]
fn each_absurd_field_is_refused_by_its_name() {
    let long = "x".repeat(9000);
    let waves = vec![json!({ "percent": 1, "start": "2026-11-21T12:00:00Z" }); 33];
    let mirrors = vec!["https://mirror.test"; 17];
    let manifest = "/offers/0/manifest";
    let cases: Vec<(String, Value, &str)> = vec![
        ("/name".into(), json!("../x"), "name"),
        ("/name".into(), json!(""), "name"),
        (
            "/mirrors/0".into(),
            json!("ftp://mirror.test"),
            "mirrors[0]",
        ),
        ("/mirrors".into(), json!(mirrors), "mirrors"),
        (
            format!("{manifest}/version"),
            json!("v1"),
            "offers[0].manifest.version",
        ),
        (
            format!("{manifest}/root_hash"),
            json!("00"),
            "offers[0].manifest.root_hash",
        ),
        (
            format!("{manifest}/verity/salt"),
            json!("0"),
            "offers[0].manifest.verity.salt",
        ),
        (
            format!("{manifest}/verity/salt"),
            json!("0".repeat(514)),
            "offers[0].manifest.verity",
        ),
        (
            format!("{manifest}/verity/uuid"),
            json!("00"),
            "offers[0].manifest.verity.uuid",
        ),
        (
            format!("{manifest}/verity/data_blocks"),
            json!(0),
            "offers[0].manifest.verity",
        ),
        (
            format!("{manifest}/verity/data_blocks"),
            json!(u64::MAX),
            "offers[0].manifest.verity",
        ),
        (
            format!("{manifest}/verity/data_blocks"),
            json!(-1),
            "offers[0].manifest.verity.data_blocks",
        ),
        (
            format!("{manifest}/root/length"),
            json!(8 * 4096),
            "offers[0].manifest.root.length",
        ),
        (
            format!("{manifest}/root_index/length"),
            json!(16),
            "offers[0].manifest.root_index.length",
        ),
        (
            format!("{manifest}/tree/length"),
            json!(1u64 << 60),
            "offers[0].manifest.tree.length",
        ),
        (
            format!("{manifest}/uki/length"),
            json!(u64::MAX),
            "offers[0].manifest.uki.length",
        ),
        (
            format!("{manifest}/uki/length"),
            json!(0),
            "offers[0].manifest.uki.length",
        ),
        (
            format!("{manifest}/uki_index/length"),
            json!(50),
            "offers[0].manifest.uki_index.length",
        ),
        (
            format!("{manifest}/uki_index/length"),
            json!(50_000),
            "offers[0].manifest.uki_index.length",
        ),
        (
            format!("{manifest}/loader/length"),
            json!(5 << 20),
            "offers[0].manifest.loader.length",
        ),
        (
            format!("{manifest}/sbom/length"),
            json!(1u64 << 40),
            "offers[0].manifest.sbom.length",
        ),
        (
            format!("{manifest}/disk/length"),
            json!(1u64 << 50),
            "offers[0].manifest.disk.length",
        ),
        (
            format!("{manifest}/root/path"),
            json!("../root"),
            "offers[0].manifest.root.path",
        ),
        (
            format!("{manifest}/root/path"),
            json!("a/../../b"),
            "offers[0].manifest.root.path",
        ),
        (
            format!("{manifest}/root/path"),
            json!("/etc/passwd"),
            "offers[0].manifest.root.path",
        ),
        (
            format!("{manifest}/root/path"),
            json!("http://x.test/a"),
            "offers[0].manifest.root.path",
        ),
        (
            format!("{manifest}/root/path"),
            json!("a//b"),
            "offers[0].manifest.root.path",
        ),
        (
            format!("{manifest}/root/path"),
            json!("a?b#c"),
            "offers[0].manifest.root.path",
        ),
        (
            format!("{manifest}/root/path"),
            json!("a%2e%2e"),
            "offers[0].manifest.root.path",
        ),
        (
            format!("{manifest}/root/path"),
            json!(""),
            "offers[0].manifest.root.path",
        ),
        (
            format!("{manifest}/root/path"),
            json!(long),
            "offers[0].manifest.root.path",
        ),
        (
            format!("{manifest}/root/sha256"),
            json!("FF"),
            "offers[0].manifest.root.sha256",
        ),
        (
            format!("{manifest}/min_version"),
            json!("1.1"),
            "offers[0].manifest.min_version",
        ),
        (
            format!("{manifest}/notes"),
            json!(long),
            "offers[0].manifest.notes",
        ),
        (
            format!("{manifest}/published"),
            json!("yesterday"),
            "offers[0].manifest.published",
        ),
        (
            "/offers/0/waves/0/percent".into(),
            json!(0),
            "offers[0].waves[0].percent",
        ),
        (
            "/offers/0/waves/1/percent".into(),
            json!(101),
            "offers[0].waves[1].percent",
        ),
        (
            "/offers/0/waves/1/percent".into(),
            json!(1),
            "offers[0].waves[1].percent",
        ),
        (
            "/offers/0/waves/1/percent".into(),
            json!(300),
            "offers[0].waves[1].percent",
        ),
        (
            "/offers/0/waves/1/start".into(),
            json!("2026-11-21T11:00:00Z"),
            "offers[0].waves[1].start",
        ),
        (
            "/offers/0/waves/1/start".into(),
            json!("2026-13-21T11:00:00Z"),
            "offers[0].waves[1].start",
        ),
        ("/offers/0/waves".into(), json!(waves), "offers[0].waves"),
        ("/offers/0/waves".into(), json!("all"), "offers[0].waves"),
    ];
    for (place, wrong, field) in cases {
        let mut value = channel();
        *value.pointer_mut(&place).unwrap() = wrong;
        match parse(&value) {
            Err(ChannelError::Field {
                field: named,
                problem,
            }) => {
                assert_eq!(named, field, "{problem}");
            }
            other => panic!("{place}: {other:?}"),
        }
    }
    let mut value = channel();
    value["offers"][0]["halted"] = json!("x".repeat(600));
    let said = parse(&value).unwrap_err().to_string();
    assert!(said.contains("offers[0].halted"), "{said}");
}

#[test]
fn releases_are_few_and_each_is_offered_once() {
    let mut value = channel();
    let offer = value["offers"][0].clone();
    value["offers"] = json!([offer, offer]);
    let said = parse(&value).unwrap_err().to_string();
    assert!(said.contains("offers[1].manifest.version"), "{said}");

    let mut small = offer;
    small["waves"] = json!([]);
    let offers: Vec<Value> = (0..65)
        .map(|number| {
            let mut offer = small.clone();
            offer["manifest"]["version"] = json!(format!("1.{number}"));
            offer
        })
        .collect();
    value["offers"] = json!(offers);
    let said = parse(&value).unwrap_err().to_string();
    assert!(said.contains("offers: 65 releases"), "{said}");
    value["offers"] = json!(offers[..64]);
    assert_eq!(parse(&value).unwrap().offers.len(), 64);
}

#[test]
fn unknown_keys_formats_and_endings_are_refused() {
    let mut value = channel();
    value["offers"][0]["manifest"]["magic"] = json!(1);
    let said = parse(&value).unwrap_err().to_string();
    assert!(
        said.contains("offers[0].manifest") && said.contains("magic"),
        "{said}"
    );

    value["format"] = json!(2);
    assert_eq!(parse(&value), Err(ChannelError::Format(2)));

    let mut text = channel().to_string();
    text.push_str("{}");
    assert!(Channel::parse(text.as_bytes()).is_err());
    let space = vec![b' '; MAX_CHANNEL as usize + 1];
    assert_eq!(
        Channel::parse(&space),
        Err(ChannelError::Length(MAX_CHANNEL + 1))
    );
}

#[test]
fn what_would_be_refused_is_not_written() {
    let mut good = parse(&channel()).unwrap();
    good.offers[0].manifest.uki.length = 1 << 40;
    assert!(good.encode().is_err());
}

proptest! {
    #[test]
    fn a_damaged_channel_is_read_without_harm(place: prop::sample::Index, byte: u8) {
        let mut text = channel().to_string().into_bytes();
        let at = place.index(text.len());
        text[at] = byte;
        if let Ok(channel) = Channel::parse(&text) {
            prop_assert!(channel.encode().is_ok());
        }
    }
}

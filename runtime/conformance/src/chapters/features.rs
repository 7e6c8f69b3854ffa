//! features.md: the features document.

use std::fs;

use serde_json::{Value, json};

use crate::bench::{Bench, text};
use crate::clause::{Check, Clause, Try, demand, must};
use crate::needs::Need;
use crate::probe::{self};

pub const CLAUSES: &[Clause] = &[
    must(
        "features.md",
        "the features document has ociVersionMin and ociVersionMax, and follows the schema",
        &[],
        features,
    ),
    must(
        "features.md#specification-version",
        "ociVersionMin and ociVersionMax are accepted as ociVersion of a configuration",
        &[],
        features_versions,
    ),
    must(
        "features.md#hooks",
        "the hooks that are named are called",
        &[],
        features_hooks,
    ),
    must(
        "features.md#mount-options",
        "the mount options that are named are recognized",
        &[],
        features_mount_options,
    ),
    must(
        "features-linux.md#namespaces",
        "the namespaces that are named can be made",
        &[Need::UserNamespace],
        features_namespaces,
    ),
];

fn document(bench: &Bench) -> Try<Value> {
    let output = bench.must(&["features"])?;
    Ok(serde_json::from_str(&output.stdout)?)
}

fn features(bench: &Bench) -> Check {
    let output = bench.must(&["features"])?;
    let document: Value = serde_json::from_str(&output.stdout)?;
    for key in ["ociVersionMin", "ociVersionMax"] {
        demand!(!text(&document, key).is_empty(), "there is no {key}");
    }
    let typed: Result<oci_spec::runtime::Features, _> = serde_json::from_str(&output.stdout);
    demand!(typed.is_ok(), "it does not follow the schema: {typed:?}");
    Ok(())
}

fn features_versions(bench: &Bench) -> Check {
    let document = document(bench)?;
    for key in ["ociVersionMin", "ociVersionMax"] {
        let mut bundle = bench.bundle()?;
        bundle.set("/ociVersion", document[key].clone());
        let created = bench.try_create(&bundle)?;
        demand!(created.is_ok(), "{} is refused", document[key]);
    }
    Ok(())
}

/// A list of the document, as texts.
fn list(document: &Value, pointer: &str) -> Vec<String> {
    document
        .pointer(pointer)
        .and_then(|value| serde_json::from_value(value.clone()).ok())
        .unwrap_or_default()
}

fn features_hooks(bench: &Bench) -> Check {
    let mut named = list(&document(bench)?, "/hooks");
    demand!(!named.is_empty(), "none is named");
    let log = bench.path("hooks");
    let mut bundle = bench.bundle()?;
    bundle.steps(&[]);
    for kind in &named {
        let inside = kind == "startContainer";
        let path = if inside {
            "/probe".into()
        } else {
            bench.program()
        };
        let log = if inside { "/hooks".into() } else { log.clone() };
        bundle.push(
            &format!("/hooks/{kind}"),
            json!({ "path": path, "args": ["hook", "hook", log, kind] }),
        );
    }
    let container = bench.start(&bundle)?;
    container.wait()?;
    container.delete()?;
    let mut called = Vec::new();
    for path in [log, bundle.root().join("hooks")] {
        for line in fs::read_to_string(path).unwrap_or_default().lines() {
            called.push(serde_json::from_str::<probe::hook::Note>(line)?.name);
        }
    }
    called.sort();
    named.sort();
    demand!(
        called == named,
        "named are {named:?}, called were {called:?}"
    );
    Ok(())
}

fn features_mount_options(bench: &Bench) -> Check {
    let named = list(&document(bench)?, "/mountOptions");
    demand!(!named.is_empty(), "none is named");
    let mut refused = Vec::new();
    for option in &named {
        let mut bundle = bench.bundle()?;
        let source = bench.directory("source")?;
        // Options that make no sense on every mount are told from unknown ones
        // by how a file system answers to those.
        if option == "remount" || option == "idmap" || option == "ridmap" {
            continue;
        }
        let on_tmpfs = [
            "tmpcopyup",
            "sync",
            "async",
            "dirsync",
            "lazytime",
            "nolazytime",
            "iversion",
            "noiversion",
            "mand",
            "nomand",
            "silent",
            "loud",
            "acl",
            "noacl",
            "defaults",
        ];
        if on_tmpfs.contains(&option.as_str()) {
            bundle.mount("/data", "tmpfs", "tmpfs", &[option]);
        } else {
            bundle.bind("/data", &source, &["rbind", option]);
        }
        if let Err(message) = bench.try_create(&bundle)? {
            refused.push(format!("{option} ({})", message.trim()));
        }
    }
    demand!(refused.is_empty(), "refused are {}", refused.join("; "));
    Ok(())
}

fn features_namespaces(bench: &Bench) -> Check {
    let named = list(&document(bench)?, "/linux/namespaces");
    demand!(!named.is_empty(), "none is named");
    for kind in named {
        let mut bundle = bench.bundle()?;
        if kind == "user" {
            bundle.user_namespace(300_000)?;
        } else {
            bundle.namespace(&kind, None);
        }
        let name = match kind.as_str() {
            "network" => "net",
            "mount" => "mnt",
            other => other,
        };
        let world = bench.world(&mut bundle)?;
        let host = fs::read_link(format!("/proc/self/ns/{name}"))?;
        demand!(
            world.namespaces.get(name).map(String::as_str) != host.to_str(),
            "{kind} is the runtime's"
        );
    }
    Ok(())
}

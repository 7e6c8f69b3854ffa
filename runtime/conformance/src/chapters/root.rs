//! config.md: version, root, names of the machine, annotations, unknown
//! properties.

use std::fs;

use nix::errno::Errno;
use serde_json::json;

use crate::bench::Bench;
use crate::clause::{Check, Clause, demand, must};
use crate::probe::Step;

pub const CLAUSES: &[Clause] = &[
    must(
        "config.md#specification-version",
        "a configuration of each known 1.x version is accepted",
        &[],
        known_versions,
    ),
    must(
        "config.md#specification-version",
        "an ociVersion that is not in SemVer format is an error",
        &[],
        broken_version,
    ),
    must(
        "config.md#specification-version",
        "an ociVersion of another major version is an error",
        &[],
        other_major_version,
    ),
    must(
        "config.md#root path",
        "a relative path is relative to the bundle, an absolute one is used as it is",
        &[],
        root_paths,
    ),
    must(
        "config.md#root path",
        "a path that is not a directory is an error",
        &[],
        root_is_no_directory,
    ),
    must(
        "config.md#root",
        "a configuration without root is an error",
        &[],
        no_root,
    ),
    must(
        "config.md#root readonly",
        "true: nothing in the root file system can be written",
        &[],
        readonly_root,
    ),
    must(
        "config.md#root readonly",
        "absent: the root file system can be written",
        &[],
        writable_root,
    ),
    must(
        "config.md#root",
        "the root of the container is the root file system, and nothing of the machine is in its mount table",
        &[],
        only_the_root,
    ),
    must(
        "config.md#hostname",
        "the container has the hostname; the machine keeps its own",
        &[],
        hostname,
    ),
    must(
        "config.md#domainname",
        "the container has the domainname; the machine keeps its own",
        &[],
        domainname,
    ),
    must(
        "config.md#extensibility",
        "unknown properties anywhere are not an error",
        &[],
        unknown_properties,
    ),
    must(
        "config.md#annotations",
        "an annotation with an empty key, or a value that is not a string, is an error",
        &[],
        odd_annotations,
    ),
    must(
        "config-linux.md#personality domain",
        "LINUX32: uname shows a 32-bit machine",
        &[],
        personality_32,
    ),
    must(
        "config-linux.md#personality domain",
        "LINUX: uname shows the machine",
        &[],
        personality_linux,
    ),
    must(
        "config-linux.md#personality domain",
        "an unknown domain is an error",
        &[],
        unknown_personality,
    ),
];

fn known_versions(bench: &Bench) -> Check {
    for version in ["1.0.0", "1.0.2", "1.0.2-dev", "1.1.0", "1.2.0"] {
        let mut bundle = bench.bundle()?;
        bundle.set("/ociVersion", json!(version));
        if let Err(message) = bench.try_create(&bundle)? {
            demand!(false, "{version} is refused: {message}");
        }
    }
    Ok(())
}

fn broken_version(bench: &Bench) -> Check {
    for version in ["", "one", "1.0"] {
        let mut bundle = bench.bundle()?;
        bundle.set("/ociVersion", json!(version));
        let taken = bench.try_create(&bundle)?.is_ok();
        demand!(!taken, "{version:?} is taken");
    }
    Ok(())
}

fn other_major_version(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set("/ociVersion", json!("2.0.0"));
    bench.refuses(&bundle)?;
    Ok(())
}

fn root_paths(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let steps = [Step::Read("/etc/here".to_owned())];
    bundle.file("/etc/here", "yes")?;
    let ran = bench.run(&mut bundle, &steps)?;
    demand!(
        ran.result(0)?.text() == "yes",
        "relative: {}",
        ran.result(0)?
    );
    let other = bench.directory("elsewhere")?;
    let absolute = other.join("root");
    fs::rename(bundle.root(), &absolute)?;
    bundle.set("/root/path", json!(absolute));
    let ran = bench.run(&mut bundle, &steps)?;
    demand!(
        ran.result(0)?.text() == "yes",
        "absolute: {}",
        ran.result(0)?
    );
    Ok(())
}

fn root_is_no_directory(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set("/root/path", json!("no-such-directory"));
    bench.refuses(&bundle)?;
    fs::write(bundle.folder().join("file"), "")?;
    bundle.set("/root/path", json!("file"));
    bench.refuses(&bundle)?;
    Ok(())
}

fn no_root(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.remove("/root");
    bench.refuses(&bundle)?;
    Ok(())
}

fn readonly_root(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.file("/etc/file", "old")?;
    bundle.set("/root/readonly", json!(true));
    let steps = [
        Step::Create("/new".to_owned()),
        Step::Write("/etc/file".to_owned(), "new".to_owned()),
        Step::Mkdir("/etc/new".to_owned()),
        Step::Create("/dev/shm/new".to_owned()),
    ];
    let ran = bench.run(&mut bundle, &steps)?;
    for (at, step) in steps.iter().enumerate().take(3) {
        demand!(
            ran.result(at)?.failed_with(Errno::EROFS),
            "{:?}: {}",
            step,
            ran.result(at)?
        );
    }
    demand!(ran.result(3)?.worked(), "a tmpfs is read-only too");
    demand!(!bundle.root().join("new").exists(), "the file is there");
    Ok(())
}

fn writable_root(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let ran = bench.run(&mut bundle, &[Step::Create("/new".to_owned())])?;
    demand!(ran.result(0)?.worked(), "{}", ran.result(0)?);
    demand!(bundle.root().join("new").exists(), "the file is elsewhere");
    Ok(())
}

fn only_the_root(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let ran = bench.run(
        &mut bundle,
        &[
            Step::World,
            Step::List("/".to_owned()),
            Step::List("/..".to_owned()),
        ],
    )?;
    let world = ran.world(0)?;
    let points: Vec<&str> = world.mounts.iter().map(|m| m.point.as_str()).collect();
    for point in &points {
        let known = ["/", "/proc", "/dev", "/sys"].contains(point)
            || point.starts_with("/dev/")
            || point.starts_with("/proc/")
            || point.starts_with("/sys/");
        demand!(known, "{point} is mounted too: {points:?}");
    }
    for at in [1, 2] {
        let names = ran.result(at)?.value();
        demand!(
            *names == json!(["dev", "etc", "probe", "proc", "sys", "tmp"]),
            "its root holds {names}"
        );
    }
    Ok(())
}

fn hostname(bench: &Bench) -> Check {
    let before = nix::unistd::gethostname()?;
    let mut bundle = bench.bundle()?;
    bundle.set("/hostname", json!("slartibartfast"));
    let world = bench.world(&mut bundle)?;
    demand!(
        world.hostname == "slartibartfast",
        "it is {}",
        world.hostname
    );
    demand!(
        nix::unistd::gethostname()? == before,
        "the machine's changed"
    );
    Ok(())
}

fn domainname(bench: &Bench) -> Check {
    let before = crate::sys::domain_name()?;
    let mut bundle = bench.bundle()?;
    bundle.set("/domainname", json!("magrathea.test"));
    let world = bench.world(&mut bundle)?;
    demand!(
        world.domainname == "magrathea.test",
        "it is {}",
        world.domainname
    );
    demand!(
        crate::sys::domain_name()? == before,
        "the machine's changed"
    );
    Ok(())
}

fn unknown_properties(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set("/org.example.unknown", json!({ "a": [1, 2] }));
    bundle.set("/process/org.example.unknown", json!("x"));
    bundle.set("/linux/org.example.unknown", json!(null));
    bundle.set("/root/org.example.unknown", json!(7));
    bench.world(&mut bundle)?;
    Ok(())
}

fn odd_annotations(bench: &Bench) -> Check {
    for annotations in [json!({ "": "x" }), json!({ "a": 1 }), json!(["a"])] {
        let mut bundle = bench.bundle()?;
        bundle.set("/annotations", annotations.clone());
        let taken = bench.try_create(&bundle)?.is_ok();
        demand!(!taken, "{annotations} is taken");
    }
    Ok(())
}

fn personality_32(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set("/linux/personality", json!({ "domain": "LINUX32" }));
    let world = bench.world(&mut bundle)?;
    demand!(world.machine == "i686", "the machine is {}", world.machine);
    demand!(
        world.personality == 8,
        "the domain is {}",
        world.personality
    );
    Ok(())
}

fn personality_linux(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set("/linux/personality", json!({ "domain": "LINUX" }));
    let world = bench.world(&mut bundle)?;
    demand!(
        world.machine == "x86_64",
        "the machine is {}",
        world.machine
    );
    Ok(())
}

fn unknown_personality(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set("/linux/personality", json!({ "domain": "MINIX" }));
    bench.refuses(&bundle)?;
    Ok(())
}

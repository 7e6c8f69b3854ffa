//! config.md, Linux mount options.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use serde_json::json;

use crate::bench::{Bench, Bundle};
use crate::clause::{Check, Clause, Try, demand, must, should};
use crate::needs::Need;
use crate::probe::Step;
use crate::probe::world::Mount;

use super::mounts::{found, with_submount};

pub const CLAUSES: &[Clause] = &[
    must(
        "config.md#linux-mount-options",
        "each option that must be implemented is accepted",
        &[],
        required_options,
    ),
    should(
        "config.md#linux-mount-options",
        "each option that should be implemented is accepted",
        &[Need::Kernel(5, 12)],
        recommended_options,
    ),
    must(
        "config.md#linux-mount-options ro rw",
        "nothing can be written to a read-only file system or bind mount, and with rw it can",
        &[],
        read_only,
    ),
    must(
        "config.md#linux-mount-options noexec",
        "no program can be executed, on a file system and on a bind mount",
        &[],
        no_exec,
    ),
    must(
        "config.md#linux-mount-options nodev",
        "no device can be opened",
        &[],
        no_dev,
    ),
    must(
        "config.md#linux-mount-options nosuid",
        "a set-user-ID program gains nothing",
        &[],
        no_suid,
    ),
    should(
        "config.md#linux-mount-options nosymfollow",
        "symbolic links are not followed",
        &[Need::Kernel(5, 12)],
        no_symfollow,
    ),
    must(
        "config.md#linux-mount-options noatime strictatime relatime nodiratime",
        "access times are kept as requested",
        &[],
        access_times,
    ),
    must(
        "config.md#linux-mount-options sync dirsync lazytime",
        "they reach the file system",
        &[],
        super_options,
    ),
    must(
        "config.md#linux-mount-options",
        "of two that contradict each other the last one wins",
        &[],
        last_one_counts,
    ),
    must(
        "config.md#linux-mount-options remount",
        "it changes the existing mount",
        &[],
        remount,
    ),
    should(
        "config.md#linux-mount-options rro",
        "all mounts below are read-only too, which ro does not do",
        &[Need::Kernel(5, 12)],
        recursive_read_only,
    ),
    should(
        "config.md#linux-mount-options rnosuid rnodev rnoexec rnosymfollow rnoatime",
        "they apply to all mounts below",
        &[Need::Kernel(5, 12)],
        recursive_attributes,
    ),
    should(
        "config.md#linux-mount-options rrw rexec rdev rsuid",
        "they remove the attribute from all mounts below",
        &[Need::Kernel(5, 12)],
        recursive_clearing,
    ),
    must(
        "config.md#linux-mount-options private slave shared unbindable",
        "the mount has this propagation",
        &[],
        propagation,
    ),
    must(
        "config.md#linux-mount-options rprivate rslave rshared runbindable",
        "the mount and those below have this propagation",
        &[],
        recursive_propagation,
    ),
    must(
        "config.md#linux-mount-options rslave",
        "what is mounted on the machine later appears inside; with rprivate it does not",
        &[],
        slave_receives,
    ),
    must(
        "config.md#linux-mount-options",
        "unknown ones go to the file system: size and mode of a tmpfs",
        &[],
        data,
    ),
    must(
        "config.md#linux-mount-options",
        "one that neither the runtime nor the file system knows is an error",
        &[],
        unknown_option,
    ),
];

/// Which of these options a runtime refuses, on a bind mount or a tmpfs.
fn refused_options(bench: &Bench, options: &[&str]) -> Try<Vec<String>> {
    let source = bench.directory("source")?;
    let add = |bundle: &mut Bundle, at: usize, option: &str| {
        let point = format!("/m{at}");
        let on_bind = matches!(option, "bind" | "rbind")
            || option.starts_with('r') && option != "ro" && option != "rw" && option != "relatime";
        if on_bind {
            let kind = if option == "bind" { "bind" } else { "rbind" };
            let options = if kind == option {
                vec![kind]
            } else {
                vec![kind, option]
            };
            bundle.bind(&point, &source, &options);
        } else {
            bundle.mount(&point, "tmpfs", "tmpfs", &[option]);
        }
    };
    let mut all = bench.bundle()?;
    for (at, option) in options.iter().enumerate() {
        add(&mut all, at, option);
    }
    if bench.try_create(&all)?.is_ok() {
        return Ok(Vec::new());
    }
    let mut refused = Vec::new();
    for (at, option) in options.iter().enumerate() {
        let mut bundle = bench.bundle()?;
        add(&mut bundle, at, option);
        if let Err(message) = bench.try_create(&bundle)? {
            refused.push(format!("{option} ({})", message.trim()));
        }
    }
    Ok(refused)
}

fn required_options(bench: &Bench) -> Check {
    let refused = refused_options(
        bench,
        &[
            "async",
            "atime",
            "bind",
            "defaults",
            "dev",
            "diratime",
            "dirsync",
            "exec",
            "iversion",
            "lazytime",
            "loud",
            "noatime",
            "nodev",
            "nodiratime",
            "noexec",
            "noiversion",
            "nolazytime",
            "norelatime",
            "nostrictatime",
            "nosuid",
            "private",
            "rbind",
            "relatime",
            "ro",
            "rprivate",
            "rshared",
            "rslave",
            "runbindable",
            "rw",
            "shared",
            "silent",
            "slave",
            "strictatime",
            "suid",
            "sync",
            "unbindable",
        ],
    )?;
    demand!(refused.is_empty(), "refused: {}", refused.join("; "));
    Ok(())
}

fn recommended_options(bench: &Bench) -> Check {
    let refused = refused_options(
        bench,
        &[
            "nosymfollow",
            "symfollow",
            "ratime",
            "rdev",
            "rdiratime",
            "rexec",
            "rnoatime",
            "rnodev",
            "rnodiratime",
            "rnoexec",
            "rnorelatime",
            "rnostrictatime",
            "rnosuid",
            "rnosymfollow",
            "rrelatime",
            "rro",
            "rrw",
            "rstrictatime",
            "rsuid",
            "rsymfollow",
        ],
    )?;
    demand!(refused.is_empty(), "refused: {}", refused.join("; "));
    Ok(())
}

fn read_only(bench: &Bench) -> Check {
    let source = bench.directory("source")?;
    let mut bundle = bench.bundle()?;
    bundle.mount("/tmpfs-ro", "tmpfs", "tmpfs", &["ro"]);
    bundle.bind("/bind-ro", &source, &["bind", "ro"]);
    bundle.mount("/tmpfs-rw", "tmpfs", "tmpfs", &["rw"]);
    bundle.bind("/bind-rw", &source, &["bind", "rw"]);
    let points = ["/tmpfs-ro", "/bind-ro", "/tmpfs-rw", "/bind-rw"];
    let ran = bench.run(&mut bundle, &points.map(|p| Step::Create(format!("{p}/x"))))?;
    for (at, point) in points.iter().enumerate() {
        let result = ran.result(at)?;
        demand!(
            if at < 2 {
                result.failed_with(Errno::EROFS)
            } else {
                result.worked()
            },
            "{point}: {result}"
        );
    }
    Ok(())
}

fn no_exec(bench: &Bench) -> Check {
    let source = bench.directory("source")?;
    fs::copy(bench.program(), source.join("probe"))?;
    let mut bundle = bench.bundle()?;
    bundle.bind("/no", &source, &["bind", "noexec"]);
    bundle.bind("/yes", &source, &["bind", "exec"]);
    bundle.mount("/tmp", "tmpfs", "tmpfs", &["noexec"]);
    let ran = bench.run(
        &mut bundle,
        &[
            Step::Program("/no/probe".to_owned(), vec![]),
            Step::Program("/yes/probe".to_owned(), vec![]),
            Step::World,
        ],
    )?;
    demand!(
        ran.result(0)?.failed_with(Errno::EACCES),
        "it ran: {}",
        ran.result(0)?
    );
    demand!(ran.result(1)?.worked(), "exec: {}", ran.result(1)?);
    demand!(
        found(&ran.world(2)?, "/tmp")?.has("noexec"),
        "tmpfs has it not"
    );
    Ok(())
}

fn no_dev(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.mount("/no", "tmpfs", "tmpfs", &["nodev"]);
    bundle.mount("/yes", "tmpfs", "tmpfs", &["dev"]);
    let ran = bench.run(
        &mut bundle,
        &[
            Step::Mknod("/no/null".to_owned(), 'c', 1, 3),
            Step::Open("/no/null".to_owned(), libc::O_RDWR),
            Step::Mknod("/yes/null".to_owned(), 'c', 1, 3),
            Step::Open("/yes/null".to_owned(), libc::O_RDWR),
        ],
    )?;
    demand!(
        ran.result(1)?.failed_with(Errno::EACCES),
        "it opened: {}",
        ran.result(1)?
    );
    demand!(ran.result(3)?.worked(), "dev: {}", ran.result(3)?);
    Ok(())
}

fn no_suid(bench: &Bench) -> Check {
    let source = bench.directory("source")?;
    let program = source.join("become-root");
    fs::copy(bench.program(), &program)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755))?;
    let mut bundle = bench.bundle()?;
    bundle.set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
    bundle.bind("/no", &source, &["bind", "nosuid"]);
    bundle.bind("/yes", &source, &["bind", "suid"]);
    let inner = |path: &str| Step::Program(path.to_owned(), vec![Step::World]);
    let ran = bench.run(
        &mut bundle,
        &[inner("/no/become-root"), inner("/yes/become-root")],
    )?;
    let user = |at: usize| -> Try<serde_json::Value> {
        Ok(ran.result(at)?.value()["lines"][0]["Ok"]["uid"][1].clone())
    };
    demand!(user(0)? == 1000, "nosuid: it became {}", user(0)?);
    demand!(user(1)? == 0, "suid: it stayed {}", user(1)?);
    Ok(())
}

fn no_symfollow(bench: &Bench) -> Check {
    let source = bench.directory("source")?;
    fs::write(source.join("file"), "x")?;
    std::os::unix::fs::symlink("file", source.join("link"))?;
    let mut bundle = bench.bundle()?;
    bundle.bind("/no", &source, &["bind", "nosymfollow"]);
    bundle.bind("/yes", &source, &["bind", "symfollow"]);
    let ran = bench.run(
        &mut bundle,
        &[
            Step::Read("/no/link".to_owned()),
            Step::Read("/no/file".to_owned()),
            Step::Read("/yes/link".to_owned()),
        ],
    )?;
    demand!(
        ran.result(0)?.failed_with(Errno::ELOOP),
        "{}",
        ran.result(0)?
    );
    demand!(ran.result(1)?.worked(), "the file: {}", ran.result(1)?);
    demand!(ran.result(2)?.worked(), "symfollow: {}", ran.result(2)?);
    Ok(())
}

fn access_times(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let wanted = [
        ("noatime", "noatime", true),
        ("relatime", "relatime", true),
        ("strictatime", "relatime", false),
        ("nodiratime", "nodiratime", true),
    ];
    for (option, _, _) in wanted {
        bundle.mount(&format!("/{option}"), "tmpfs", "tmpfs", &[option]);
    }
    let world = bench.world(&mut bundle)?;
    for (option, shown, has) in wanted {
        let mount = found(&world, &format!("/{option}"))?;
        demand!(
            mount.has(shown) == has && (shown == "noatime" || !mount.has("noatime")),
            "{option} became {:?}",
            mount.options
        );
    }
    Ok(())
}

fn super_options(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    for option in ["sync", "dirsync", "lazytime"] {
        bundle.mount(&format!("/{option}"), "tmpfs", "tmpfs", &[option]);
    }
    let world = bench.world(&mut bundle)?;
    for option in ["sync", "dirsync", "lazytime"] {
        let mount = found(&world, &format!("/{option}"))?;
        demand!(
            mount.super_options.iter().any(|have| have == option),
            "{option} became {:?}",
            mount.super_options
        );
    }
    Ok(())
}

fn last_one_counts(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.mount("/a", "tmpfs", "tmpfs", &["nosuid", "ro", "suid", "rw"]);
    bundle.mount("/b", "tmpfs", "tmpfs", &["exec", "dev", "noexec", "nodev"]);
    let world = bench.world(&mut bundle)?;
    let (a, b) = (found(&world, "/a")?, found(&world, "/b")?);
    demand!(a.has("rw") && !a.has("nosuid"), "/a is {:?}", a.options);
    demand!(b.has("noexec") && b.has("nodev"), "/b is {:?}", b.options);
    Ok(())
}

fn remount(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.mount("/data", "tmpfs", "tmpfs", &["rw"]);
    bundle.mount("/data", "tmpfs", "tmpfs", &["remount", "ro"]);
    let ran = bench.run(
        &mut bundle,
        &[Step::Create("/data/x".to_owned()), Step::World],
    )?;
    demand!(
        ran.result(0)?.failed_with(Errno::EROFS),
        "{}",
        ran.result(0)?
    );
    let world = ran.world(1)?;
    let count = world.mounts.iter().filter(|m| m.point == "/data").count();
    demand!(count == 1, "there are {count} mounts");
    Ok(())
}

fn recursive_read_only(bench: &Bench) -> Check {
    let source = with_submount(bench)?;
    let mut bundle = bench.bundle()?;
    bundle.bind("/ro", &source, &["rbind", "ro"]);
    bundle.bind("/rro", &source, &["rbind", "rro"]);
    let ran = bench.run(
        &mut bundle,
        &[
            Step::Create("/rro/x".to_owned()),
            Step::Create("/rro/below/x".to_owned()),
            Step::Create("/ro/x".to_owned()),
        ],
    )?;
    for at in 0..3 {
        demand!(
            ran.result(at)?.failed_with(Errno::EROFS),
            "step {at}: {}",
            ran.result(at)?
        );
    }
    Ok(())
}

fn recursive_attributes(bench: &Bench) -> Check {
    let source = with_submount(bench)?;
    let mut bundle = bench.bundle()?;
    let options = ["rnosuid", "rnodev", "rnoexec", "rnosymfollow", "rnoatime"];
    let mut all = vec!["rbind"];
    all.extend(options);
    bundle.bind("/data", &source, &all);
    let ran = bench.run(
        &mut bundle,
        &[
            Step::World,
            Step::Program("/data/below/probe".to_owned(), vec![]),
            Step::Read("/data/below/link".to_owned()),
        ],
    )?;
    let world = ran.world(0)?;
    for point in ["/data", "/data/below"] {
        let mount = found(&world, point)?;
        for option in options {
            demand!(
                mount.has(&option[1..]),
                "{point} has no {}: {:?}",
                &option[1..],
                mount.options
            );
        }
    }
    demand!(!ran.result(1)?.worked(), "a program ran");
    demand!(!ran.result(2)?.worked(), "a link was followed");
    Ok(())
}

fn recursive_clearing(bench: &Bench) -> Check {
    let source = bench.directory("tree")?;
    let below = source.join("below");
    fs::create_dir(&below)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY;
    let none = None::<&str>;
    mount(Some("tmpfs"), &below, Some("tmpfs"), MsFlags::empty(), none)?;
    let again = flags | MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    mount(none, &below, none, again, none)?;
    let mut bundle = bench.bundle()?;
    bundle.bind(
        "/data",
        &source,
        &["rbind", "rrw", "rexec", "rdev", "rsuid"],
    );
    let world = bench.world(&mut bundle)?;
    let options = &found(&world, "/data/below")?.options;
    for option in ["ro", "noexec", "nodev", "nosuid"] {
        demand!(
            !options.iter().any(|have| have == option),
            "it is {options:?}"
        );
    }
    Ok(())
}

fn has_propagation(mount: &Mount, kind: &str) -> bool {
    match kind.trim_start_matches('r') {
        "shared" => mount.propagates("shared"),
        "slave" => mount.propagates("master") && !mount.propagates("shared"),
        "unbindable" => mount.propagates("unbindable"),
        _ => mount.propagation.is_empty(),
    }
}

/// A tree on the machine whose mounts are shared.
fn shared_tree(bench: &Bench) -> Try<PathBuf> {
    let source = with_submount(bench)?;
    let none = None::<&str>;
    mount(
        Some(&source),
        &source,
        none,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        none,
    )?;
    mount(
        none,
        &source,
        none,
        MsFlags::MS_SHARED | MsFlags::MS_REC,
        none,
    )?;
    Ok(source)
}

/// A mount can be a slave or a peer of the machine's only where the root is.
fn root_lets_through(bundle: &mut Bundle, kind: &str) {
    let kind = kind.trim_start_matches('r');
    if kind == "slave" || kind == "shared" {
        bundle.set("/linux/rootfsPropagation", json!(kind));
    }
}

fn propagation(bench: &Bench) -> Check {
    for kind in ["private", "slave", "shared", "unbindable"] {
        let source = shared_tree(bench)?;
        let mut bundle = bench.bundle()?;
        bundle.bind("/data", &source, &["bind", kind]);
        root_lets_through(&mut bundle, kind);
        let world = bench.world(&mut bundle)?;
        let mount = found(&world, "/data")?;
        demand!(
            has_propagation(mount, kind),
            "{kind} became {:?}",
            mount.propagation
        );
    }
    Ok(())
}

fn recursive_propagation(bench: &Bench) -> Check {
    for kind in ["rprivate", "rslave", "rshared", "runbindable"] {
        let source = shared_tree(bench)?;
        let mut bundle = bench.bundle()?;
        bundle.bind("/data", &source, &["rbind", kind]);
        root_lets_through(&mut bundle, kind);
        let world = bench.world(&mut bundle)?;
        for point in ["/data", "/data/below"] {
            let mount = found(&world, point)?;
            demand!(
                has_propagation(mount, kind),
                "{kind}: {point} became {:?}",
                mount.propagation
            );
        }
    }
    Ok(())
}

fn slave_receives(bench: &Bench) -> Check {
    for (kind, appears) in [("rslave", true), ("rprivate", false)] {
        let source = shared_tree(bench)?;
        fs::create_dir(source.join("later"))?;
        let mut bundle = bench.bundle()?;
        bundle.bind("/data", &source, &["rbind", kind]);
        // A slave below a root that is private to the machine.
        bundle.set("/linux/rootfsPropagation", json!(kind));
        bundle.steps(&[
            Step::Await("/mounted".to_owned()),
            Step::Read("/data/later/file".to_owned()),
        ]);
        let container = bench.start(&bundle)?;
        let later = source.join("later");
        let none = None::<&str>;
        mount(Some("tmpfs"), &later, Some("tmpfs"), MsFlags::empty(), none)?;
        fs::write(later.join("file"), "later")?;
        bundle.file("/mounted", "")?;
        let end = container.wait()?;
        let ran = container.ran(end)?;
        let seen = ran.result(1)?.text() == "later";
        demand!(seen == appears, "{kind}: {}", ran.result(1)?);
    }
    Ok(())
}

fn data(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.mount("/data", "tmpfs", "tmpfs", &["size=64k", "mode=750"]);
    let ran = bench.run(&mut bundle, &[Step::World, Step::Stat("/data".to_owned())])?;
    let world = ran.world(0)?;
    let options = &found(&world, "/data")?.super_options;
    demand!(
        options.iter().any(|option| option == "size=64k"),
        "it is {options:?}"
    );
    let mode = &ran.result(1)?.value()["mode"];
    demand!(*mode == 0o750, "its mode is {mode}");
    Ok(())
}

fn unknown_option(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.mount("/data", "tmpfs", "tmpfs", &["nosuchoption"]);
    bench.refuses(&bundle)?;
    Ok(())
}

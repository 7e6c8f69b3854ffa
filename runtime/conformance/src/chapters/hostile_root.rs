//! Attacks through the content of the root file system.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use serde_json::json;

use crate::bench::{Bench, Bundle, Container};
use crate::clause::{Check, Clause, demand, security};
use crate::probe::Step;
use crate::probe::world::mounts_of;

pub const CLAUSES: &[Clause] = &[
    security(
        "CVE-2019-16884",
        "a bind mount in /proc, which would hide what the runtime writes to, is refused",
        &[],
        bind_in_proc,
    ),
    security(
        "CVE-2019-19921",
        "if /proc of the root is a link, masked paths are those of the real /proc, or it is refused",
        &[],
        proc_is_a_link,
    ),
    security(
        "CVE-2023-27561",
        "if /proc leads through a link of a volume, it is refused or masked nevertheless",
        &[],
        proc_in_volume,
    ),
    security(
        "CVE-2021-30465",
        "a mount point that is repeatedly exchanged for a link is never outside the root",
        &[],
        race,
    ),
    security(
        "hostile root",
        "mount points that are links out of the root stay inside the root",
        &[],
        linked_mount_points,
    ),
    security(
        "hostile root",
        "mount points are never created outside the root",
        &[],
        made_outside,
    ),
    security(
        "hostile root",
        "devices are never created outside the root",
        &[],
        device_outside,
    ),
    security(
        "hostile root",
        "the working directory is never created outside the root",
        &[],
        cwd_made_outside,
    ),
    security(
        "hostile root",
        "default devices and links are never created through a /dev that is a link",
        &[],
        dev_is_a_link,
    ),
    security(
        "CVE-2025-31133",
        "if /dev/null of the root is a link, masked paths do not show its target",
        &[],
        null_is_a_link,
    ),
    security(
        "CVE-2025-52565",
        "if /dev/console of the root is a link, nothing is mounted on its target",
        &[],
        console_is_a_link,
    ),
    security(
        "CVE-2025-52881",
        "kernel parameters are not written to files that a mount puts in their place",
        &[],
        redirected_sysctl,
    ),
    security(
        "CVE-2025-52881",
        "what the runtime writes to /proc does not reach a file of another kind: links in the root's own /proc",
        &[],
        fake_proc,
    ),
];

fn bind_in_proc(bench: &Bench) -> Check {
    let source = bench.directory("source")?;
    fs::write(source.join("file"), "")?;
    for (path, file) in [
        ("/proc", false),
        ("/proc/self", false),
        ("/proc/self/attr", false),
        ("/proc/self/attr/exec", true),
        ("/proc/thread-self/attr/exec", true),
    ] {
        let mut bundle = bench.bundle()?;
        let from = if file {
            source.join("file")
        } else {
            source.clone()
        };
        bundle.bind(path, &from, &["bind"]);
        let taken = bench.try_create(&bundle)?.is_ok();
        demand!(!taken, "a bind mount at {path} is taken");
    }
    Ok(())
}

/// Runs a container that reads what is masked in `/proc`, or that is refused.
fn masked_or_refused(bench: &Bench, bundle: &mut Bundle, at: &str) -> Check {
    bundle.set("/linux/maskedPaths", json!(["/proc/interrupts"]));
    bundle.steps(&[
        Step::Read(format!("{at}/interrupts")),
        Step::Read("/proc/interrupts".to_owned()),
    ]);
    let Ok(container) = bench.try_create(bundle)? else {
        return Ok(());
    };
    if !container.command("start")?.worked() {
        return Ok(());
    }
    let end = container.wait()?;
    for result in container.ran(end)?.results {
        demand!(result.text().is_empty(), "it reads {:.80}", result.text());
    }
    Ok(())
}

fn proc_is_a_link(bench: &Bench) -> Check {
    for target in ["/elsewhere", "elsewhere", "../../elsewhere"] {
        let mut bundle = bench.bundle()?;
        fs::remove_dir(bundle.root().join("proc"))?;
        bundle.directory("/elsewhere")?;
        bundle.link("/proc", target)?;
        masked_or_refused(bench, &mut bundle, "/elsewhere")?;
    }
    Ok(())
}

fn proc_in_volume(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let volume = bench.directory("volume")?;
    fs::create_dir(volume.join("real"))?;
    symlink("/volume/real", volume.join("proc"))?;
    fs::remove_dir(bundle.root().join("proc"))?;
    bundle.link("/proc", "/volume/proc")?;
    bundle.without_mount("/proc");
    let rest = bundle.config["mounts"].clone();
    bundle.set("/mounts", json!([]));
    bundle.bind("/volume", &volume, &["bind"]);
    bundle.mount("/proc", "proc", "proc", &[]);
    for mount in rest.as_array().into_iter().flatten() {
        bundle.push("/mounts", mount.clone());
    }
    masked_or_refused(bench, &mut bundle, "/volume/real")
}

fn race(bench: &Bench) -> Check {
    let volume = bench.directory("volume")?;
    let (target, other) = (volume.join("target"), volume.join("other"));
    fs::create_dir_all(target.join("point"))?;
    // Outside the root it leads to a directory of the machine.
    let victim = bench.directory("victim")?;
    fs::create_dir(victim.join("point"))?;
    symlink(&victim, &other)?;
    let stop = Arc::new(AtomicBool::new(false));
    let exchange = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let flags = RenameFlags::RENAME_EXCHANGE;
                let _ = renameat2(AT_FDCWD, &target, AT_FDCWD, &other, flags);
            }
        })
    };
    let result = races(bench, &volume, &victim);
    stop.store(true, Ordering::Relaxed);
    let _ = exchange.join();
    result
}

fn races(bench: &Bench, volume: &Path, victim: &Path) -> Check {
    for _ in 0..20 {
        let mut bundle = bench.bundle()?;
        bundle.bind("/volume", volume, &["bind"]);
        bundle.mount("/volume/target/point", "tmpfs", "the-mark", &[]);
        let Ok(container) = bench.try_create(&bundle)? else {
            continue;
        };
        let marks: Vec<_> = mounts_of(&container.pid.to_string())
            .into_iter()
            .filter(|mount| mount.source == "the-mark")
            .collect();
        let inside = victim.to_string_lossy();
        demand!(
            marks.len() == 1
                && (marks[0].point.starts_with("/volume/") || marks[0].point.starts_with(&*inside)),
            "the mount is at {marks:?}"
        );
        let grown = fs::read_dir(victim)?.count();
        demand!(grown == 1, "something was made in the machine's directory");
        bench.must(&["delete", "--force", &container.id])?;
    }
    Ok(())
}

const LINKS: [&str; 2] = ["/links/absolute", "/links/relative"];

/// Links of a root that lead to a directory of the machine, from wherever the
/// root is.
fn links_to(bundle: &Bundle, victim: &Path) -> Check {
    let up = format!("{}{}", "../".repeat(24), victim.display());
    bundle.link("/links/absolute", &victim.to_string_lossy())?;
    bundle.link("/links/relative", &up)
}

fn is_untouched(victim: &Path) -> Check {
    let names: Vec<_> = fs::read_dir(victim)?
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    demand!(names.is_empty(), "the machine's directory holds {names:?}");
    Ok(())
}

fn linked_mount_points(bench: &Bench) -> Check {
    let victim = bench.directory("victim")?;
    for link in LINKS {
        let mut bundle = bench.bundle()?;
        links_to(&bundle, &victim)?;
        bundle.mount(link, "tmpfs", "the-mark", &[]);
        let Ok(container) = bench.try_create(&bundle)? else {
            continue;
        };
        let marks: Vec<_> = mounts_of(&container.pid.to_string())
            .into_iter()
            .filter(|mount| mount.source == "the-mark")
            .collect();
        demand!(
            marks.len() == 1,
            "{link}: the mount is not in the container"
        );
    }
    is_untouched(&victim)
}

fn made_outside(bench: &Bench) -> Check {
    let victim = bench.directory("victim")?;
    let file = bench.path("file");
    fs::write(&file, "x")?;
    for link in LINKS {
        for bind in [false, true] {
            let mut bundle = bench.bundle()?;
            links_to(&bundle, &victim)?;
            let point = format!("{link}/new");
            if bind {
                bundle.bind(&point, &file, &["bind"]);
            } else {
                bundle.mount(&point, "tmpfs", "tmpfs", &[]);
            }
            // Refusing and staying inside are both right.
            drop(bench.try_create(&bundle)?);
            is_untouched(&victim)?;
        }
    }
    let mut bundle = bench.bundle()?;
    let dangling = victim.join("made");
    bundle.link("/dangling", &dangling.to_string_lossy())?;
    bundle.bind("/dangling", &file, &["bind"]);
    drop(bench.try_create(&bundle)?);
    is_untouched(&victim)
}

fn device_outside(bench: &Bench) -> Check {
    let victim = bench.directory("victim")?;
    for link in LINKS {
        let mut bundle = bench.bundle()?;
        links_to(&bundle, &victim)?;
        bundle.push(
            "/linux/devices",
            json!({ "path": format!("{link}/node"), "type": "c", "major": 1, "minor": 3 }),
        );
        drop(bench.try_create(&bundle)?);
        is_untouched(&victim)?;
    }
    Ok(())
}

fn cwd_made_outside(bench: &Bench) -> Check {
    let victim = bench.directory("victim")?;
    for link in LINKS {
        let mut bundle = bench.bundle()?;
        links_to(&bundle, &victim)?;
        bundle.set("/process/cwd", json!(format!("{link}/work")));
        bundle.steps(&[]);
        if let Ok(container) = bench.try_create(&bundle)? {
            container.command("start")?;
        }
        is_untouched(&victim)?;
    }
    Ok(())
}

/// A container that has the root's own `/dev`.
fn without_dev(bundle: &mut Bundle) {
    for path in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        bundle.without_mount(path);
    }
}

fn dev_is_a_link(bench: &Bench) -> Check {
    let victim = bench.directory("victim")?;
    let up = format!("{}{}", "../".repeat(24), victim.display());
    for target in [victim.to_string_lossy().into_owned(), up] {
        let mut bundle = bench.bundle()?;
        without_dev(&mut bundle);
        fs::remove_dir(bundle.root().join("dev"))?;
        bundle.link("/dev", &target)?;
        drop(bench.try_create(&bundle)?);
        is_untouched(&victim)?;
    }
    Ok(())
}

fn null_is_a_link(bench: &Bench) -> Check {
    let victim = bench.path("victim");
    fs::write(&victim, "of the machine")?;
    for target in [
        "/etc/attack".to_owned(),
        victim.to_string_lossy().into_owned(),
    ] {
        let mut bundle = bench.bundle()?;
        without_dev(&mut bundle);
        bundle.file("/etc/attack", "attack")?;
        bundle.file("/etc/secret", "secret")?;
        bundle.link("/dev/null", &target)?;
        bundle.set(
            "/linux/maskedPaths",
            json!(["/etc/secret", "/proc/interrupts"]),
        );
        bundle.steps(&[
            Step::Read("/etc/secret".to_owned()),
            Step::Read("/proc/interrupts".to_owned()),
        ]);
        let Ok(container) = bench.try_create(&bundle)? else {
            continue;
        };
        if !container.command("start")?.worked() {
            continue;
        }
        let end = container.wait()?;
        let ran = container.ran(end)?;
        let attack = fs::read_to_string(bundle.root().join("etc/attack"))?;
        demand!(
            attack == "attack",
            "a standard stream of the program was led to the link's target"
        );
        for at in 0..2 {
            let text = ran.result(at)?.text();
            demand!(text.is_empty(), "masked path {at} reads {text:.60}");
        }
    }
    Ok(())
}

fn console_is_a_link(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    without_dev(&mut bundle);
    bundle.mount(
        "/dev/pts",
        "devpts",
        "devpts",
        &["newinstance", "ptmxmode=0666", "mode=0620"],
    );
    bundle.file("/etc/attack", "attack")?;
    bundle.link("/dev/console", "/etc/attack")?;
    bundle.set("/process/terminal", json!(true));
    bundle.steps(&[Step::Sleep(60_000)]);
    let socket = bench.path("console");
    let _listener = std::os::unix::net::UnixListener::bind(&socket)?;
    let path = socket.to_string_lossy().into_owned();
    let created = Container::create(bench, &bundle, &bench.id(), &["--console-socket", &path])?;
    let Ok(container) = created else {
        return Ok(());
    };
    let point = mounts_of(&container.pid.to_string())
        .into_iter()
        .find(|mount| mount.point == "/etc/attack");
    demand!(point.is_none(), "the terminal is mounted there: {point:?}");
    Ok(())
}

fn redirected_sysctl(bench: &Bench) -> Check {
    let fake = bench.directory("fake")?;
    fs::create_dir_all(fake.join("net/ipv4"))?;
    let file = fake.join("net/ipv4/ip_forward");
    for link in [false, true] {
        let _ = fs::remove_file(&file);
        if link {
            symlink("../../../kernel/domainname", &file)?;
        } else {
            fs::write(&file, "untouched")?;
        }
        let mut bundle = bench.bundle()?;
        bundle.bind("/proc/sys", &fake, &["bind"]);
        bundle.set("/linux/sysctl", json!({ "net.ipv4.ip_forward": "1" }));
        bundle.steps(&[]);
        if let Ok(container) = bench.try_create(&bundle)? {
            container.command("start")?;
            demand!(
                link || fs::read_to_string(&file)? == "untouched",
                "the parameter was written to a file of a mount"
            );
            demand!(!link, "the parameter was written through a link of a mount");
        }
    }
    Ok(())
}

fn fake_proc(bench: &Bench) -> Check {
    // No procfs at all: /proc is the root's own directory.
    let mut bundle = bench.bundle()?;
    bundle.without_mount("/proc");
    let files = [
        "self/attr/exec",
        "self/oom_score_adj",
        "1/oom_score_adj",
        "sys/net/ipv4/ip_forward",
    ];
    for file in files {
        bundle.file(&format!("/proc/{file}"), "untouched")?;
    }
    bundle.set("/process/oomScoreAdj", json!(100));
    bundle.set("/linux/sysctl", json!({ "net.ipv4.ip_forward": "1" }));
    bundle.steps(&[]);
    if let Ok(container) = bench.try_create(&bundle)? {
        container.command("start")?;
    }
    for file in files {
        let text = fs::read_to_string(bundle.root().join("proc").join(file))?;
        demand!(text == "untouched", "the runtime wrote {text:?} to {file}");
    }
    Ok(())
}

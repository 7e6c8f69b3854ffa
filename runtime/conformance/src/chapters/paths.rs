//! config-linux.md: masked and read-only paths, propagation of the root,
//! kernel parameters.

use std::fs;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use serde_json::json;

use crate::bench::Bench;
use crate::clause::{Check, Clause, Try, demand, must};
use crate::needs::Need;
use crate::probe::Step;

pub const CLAUSES: &[Clause] = &[
    must(
        "config-linux.md#masked-paths",
        "a file cannot be read",
        &[],
        masked_file,
    ),
    must(
        "config-linux.md#masked-paths",
        "a directory is empty, and nothing can be created in it",
        &[],
        masked_directory,
    ),
    must(
        "config-linux.md#masked-paths",
        "files of /proc cannot be read",
        &[],
        masked_proc,
    ),
    must(
        "config-linux.md#masked-paths",
        "a path that does not exist is not an error",
        &[],
        masked_nothing,
    ),
    must(
        "config-linux.md#masked-paths",
        "a path that is not absolute is an error",
        &[],
        masked_relative,
    ),
    must(
        "config-linux.md#masked-paths",
        "a link applies to its target inside the root",
        &[],
        masked_link,
    ),
    must(
        "config-linux.md#readonly-paths",
        "a file, and a directory with everything below, cannot be written",
        &[],
        readonly,
    ),
    must(
        "config-linux.md#readonly-paths",
        "it applies to /proc/sys, even for a privileged process",
        &[],
        readonly_proc,
    ),
    must(
        "config-linux.md#readonly-paths",
        "a path that does not exist is not an error",
        &[],
        readonly_nothing,
    ),
    must(
        "config-linux.md#readonly-paths",
        "a path that is not absolute is an error",
        &[],
        readonly_relative,
    ),
    must(
        "config-linux.md#rootfs-mount-propagation",
        "private: the root receives and sends no mounts",
        &[],
        root_private,
    ),
    must(
        "config-linux.md#rootfs-mount-propagation",
        "slave: what the machine mounts in the root appears inside, not the other way around",
        &[],
        root_slave,
    ),
    must(
        "config-linux.md#rootfs-mount-propagation",
        "shared: the root is in a peer group",
        &[],
        root_shared,
    ),
    must(
        "config-linux.md#rootfs-mount-propagation",
        "unbindable: the root cannot be bound elsewhere",
        &[],
        root_unbindable,
    ),
    must(
        "config-linux.md#rootfs-mount-propagation",
        "an unknown value is an error",
        &[],
        root_unknown,
    ),
    must(
        "config-linux.md#sysctl",
        "parameters of the network, IPC and UTS namespaces are set, and only inside",
        &[],
        sysctl,
    ),
    must(
        "config-linux.md#sysctl",
        "they are set even if /proc/sys is read-only inside",
        &[],
        sysctl_and_readonly,
    ),
    must(
        "config-linux.md#sysctl",
        "they are set in a user namespace too",
        &[Need::UserNamespace],
        sysctl_in_user_namespace,
    ),
    must(
        "config-linux.md#sysctl",
        "one that does not exist is an error",
        &[],
        unknown_sysctl,
    ),
    must(
        "config-linux.md#sysctl",
        "a value that the kernel refuses is an error",
        &[],
        odd_sysctl,
    ),
    must(
        "config.md#valid-values",
        "a parameter of the whole machine is an error",
        &[],
        sysctl_of_the_machine,
    ),
    must(
        "config.md#valid-values",
        "a parameter of a namespace that the container shares is an error",
        &[],
        sysctl_of_a_shared_namespace,
    ),
];

fn read(path: &str) -> Step {
    Step::Read(path.to_owned())
}

fn masked_file(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.file("/etc/secret", "secret")?;
    bundle.set("/linux/maskedPaths", json!(["/etc/secret"]));
    let ran = bench.run(
        &mut bundle,
        &[
            read("/etc/secret"),
            Step::Write("/etc/secret".to_owned(), "changed".to_owned()),
        ],
    )?;
    demand!(
        ran.result(0)?.text().is_empty(),
        "it reads {}",
        ran.result(0)?
    );
    let text = fs::read_to_string(bundle.root().join("etc/secret"))?;
    demand!(text == "secret", "it was written");
    Ok(())
}

fn masked_directory(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.file("/srv/secrets/one", "secret")?;
    bundle.set("/linux/maskedPaths", json!(["/srv/secrets"]));
    let ran = bench.run(
        &mut bundle,
        &[
            Step::List("/srv/secrets".to_owned()),
            read("/srv/secrets/one"),
            Step::Create("/srv/secrets/new".to_owned()),
        ],
    )?;
    let listed = ran.result(0)?;
    demand!(
        !listed.worked() || *listed.value() == json!([]),
        "it shows {listed}"
    );
    demand!(!ran.result(1)?.worked(), "a file reads {}", ran.result(1)?);
    demand!(!ran.result(2)?.worked(), "a file was made");
    Ok(())
}

fn masked_proc(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let paths = [
        "/proc/timer_list",
        "/proc/keys",
        "/proc/interrupts",
        "/proc/scsi",
        "/sys/firmware",
    ];
    bundle.set("/linux/maskedPaths", json!(paths));
    let ran = bench.run(
        &mut bundle,
        &[
            read(paths[0]),
            read(paths[1]),
            read(paths[2]),
            Step::List(paths[3].to_owned()),
            Step::List(paths[4].to_owned()),
        ],
    )?;
    for (at, path) in paths.into_iter().enumerate() {
        let result = ran.result(at)?;
        let empty = match result.value().as_array() {
            Some(names) => names.is_empty(),
            None => result.text().is_empty(),
        };
        demand!(empty, "{path} shows {:.80}", result.value().to_string());
    }
    Ok(())
}

fn masked_nothing(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set("/linux/maskedPaths", json!(["/no/such", "/proc/nosuch"]));
    bench.world(&mut bundle)?;
    demand!(!bundle.root().join("no").exists(), "it was made");
    Ok(())
}

fn masked_relative(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.file("/etc/secret", "secret")?;
    bundle.set("/linux/maskedPaths", json!(["etc/secret"]));
    bench.refuses(&bundle)?;
    Ok(())
}

fn masked_link(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.file("/etc/secret", "secret")?;
    bundle.link("/link", "/etc/secret")?;
    bundle.set("/linux/maskedPaths", json!(["/link"]));
    bundle.steps(&[read("/link"), read("/etc/secret")]);
    // Refusing it is as good as masking its target.
    let Ok(container) = bench.try_create(&bundle)? else {
        return Ok(());
    };
    container.start()?;
    let end = container.wait()?;
    let ran = container.ran(end)?;
    demand!(
        ran.result(0)?.text().is_empty(),
        "it reads {}",
        ran.result(0)?
    );
    Ok(())
}

fn readonly(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.file("/etc/file", "old")?;
    bundle.file("/srv/tree/file", "old")?;
    bundle.mount("/srv/tree/mount", "tmpfs", "tmpfs", &[]);
    bundle.set("/linux/readonlyPaths", json!(["/etc/file", "/srv/tree"]));
    let write = |path: &str| Step::Write(path.to_owned(), "new".to_owned());
    let ran = bench.run(
        &mut bundle,
        &[
            write("/etc/file"),
            write("/srv/tree/file"),
            Step::Create("/srv/tree/new".to_owned()),
            read("/etc/file"),
            Step::Create("/etc/new".to_owned()),
        ],
    )?;
    for at in 0..3 {
        demand!(
            ran.result(at)?.failed_with(Errno::EROFS),
            "step {at}: {}",
            ran.result(at)?
        );
    }
    demand!(ran.result(3)?.text() == "old", "it cannot be read");
    demand!(
        ran.result(4)?.worked(),
        "what is beside it is read-only too"
    );
    Ok(())
}

fn readonly_proc(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set(
        "/linux/readonlyPaths",
        json!(["/proc/sys", "/proc/sysrq-trigger"]),
    );
    let ran = bench.run(
        &mut bundle,
        &[
            Step::Write("/proc/sys/kernel/domainname".to_owned(), "x".to_owned()),
            Step::Open("/proc/sysrq-trigger".to_owned(), libc::O_WRONLY),
        ],
    )?;
    for at in 0..2 {
        let result = ran.result(at)?;
        // Not every kernel has the second.
        demand!(
            result.failed_with(Errno::EROFS) || at == 1 && result.failed_with(Errno::ENOENT),
            "step {at}: {result}"
        );
    }
    Ok(())
}

fn readonly_nothing(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set("/linux/readonlyPaths", json!(["/no/such"]));
    bench.world(&mut bundle)?;
    Ok(())
}

fn readonly_relative(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set("/linux/readonlyPaths", json!(["etc"]));
    bench.refuses(&bundle)?;
    Ok(())
}

/// Puts the bundle's root on a mount of its own that is shared.
fn share_root(root: &PathBuf) -> Try<()> {
    let none = None::<&str>;
    mount(Some(root), root, none, MsFlags::MS_BIND, none)?;
    mount(none, root, none, MsFlags::MS_SHARED, none)?;
    Ok(())
}

/// Whether a mount of the machine's appears inside, and one of the
/// container's outside.
fn crossings(bench: &Bench, propagation: &str) -> Try<(bool, bool)> {
    let mut bundle = bench.bundle()?;
    let (host, inside) = (
        bundle.directory("/from-host")?,
        bundle.directory("/from-inside")?,
    );
    share_root(&bundle.root())?;
    bundle.set("/linux/rootfsPropagation", json!(propagation));
    bundle.steps(&[
        Step::Mount("x".into(), "/from-inside".into(), "tmpfs".into(), 0),
        Step::Create("/from-inside/file".to_owned()),
        Step::Await("/mounted".to_owned()),
        read("/from-host/file"),
    ]);
    let container = bench.start(&bundle)?;
    let none = None::<&str>;
    mount(Some("tmpfs"), &host, Some("tmpfs"), MsFlags::empty(), none)?;
    fs::write(host.join("file"), "host's")?;
    bundle.file("/mounted", "")?;
    let end = container.wait()?;
    let ran = container.ran(end)?;
    demand!(ran.result(1)?.worked(), "mount inside: {}", ran.result(1)?);
    Ok((
        ran.result(3)?.text() == "host's",
        inside.join("file").exists(),
    ))
}

fn root_private(bench: &Bench) -> Check {
    let (appears, leaves) = crossings(bench, "private")?;
    demand!(!appears, "the machine's mount appears inside");
    demand!(!leaves, "the container's mount appears outside");
    Ok(())
}

fn root_slave(bench: &Bench) -> Check {
    let (appears, leaves) = crossings(bench, "slave")?;
    demand!(appears, "the machine's mount does not appear inside");
    demand!(!leaves, "the container's mount appears outside");
    Ok(())
}

fn root_shared(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set("/linux/rootfsPropagation", json!("shared"));
    let world = bench.world(&mut bundle)?;
    let root = world.mounts.iter().rfind(|mount| mount.point == "/");
    demand!(
        root.is_some_and(|root| root.propagates("shared")),
        "it is {root:?}"
    );
    Ok(())
}

fn root_unbindable(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set("/linux/rootfsPropagation", json!("unbindable"));
    let bind = MsFlags::MS_BIND.bits();
    let ran = bench.run(
        &mut bundle,
        &[
            Step::World,
            Step::Mount("/etc".into(), "/tmp".into(), "none".into(), bind),
        ],
    )?;
    let world = ran.world(0)?;
    let root = world.mounts.iter().rfind(|mount| mount.point == "/");
    demand!(
        root.is_some_and(|root| root.propagates("unbindable")),
        "it is {root:?}"
    );
    demand!(!ran.result(1)?.worked(), "it could be bound");
    Ok(())
}

fn root_unknown(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set("/linux/rootfsPropagation", json!("sometimes"));
    bench.refuses(&bundle)?;
    Ok(())
}

const PARAMETERS: [(&str, &str, &str); 4] = [
    ("net.ipv4.ip_forward", "/proc/sys/net/ipv4/ip_forward", "1"),
    ("net.core.somaxconn", "/proc/sys/net/core/somaxconn", "256"),
    ("kernel.msgmax", "/proc/sys/kernel/msgmax", "4321"),
    ("fs.mqueue.msg_max", "/proc/sys/fs/mqueue/msg_max", "9"),
];

fn set_parameters(bench: &Bench, change: fn(&mut crate::bench::Bundle) -> Try<()>) -> Check {
    let before: Vec<_> = PARAMETERS
        .map(|(_, path, _)| fs::read_to_string(path).ok())
        .into();
    let mut bundle = bench.bundle()?;
    change(&mut bundle)?;
    for (name, _, value) in PARAMETERS {
        bundle.set("/linux/sysctl", {
            let mut all = bundle.config["linux"]["sysctl"].clone();
            all[name] = json!(value);
            all
        });
    }
    let ran = bench.run(&mut bundle, &PARAMETERS.map(|(_, path, _)| read(path)))?;
    for (at, (name, path, value)) in PARAMETERS.into_iter().enumerate() {
        demand!(
            ran.result(at)?.text().trim() == value,
            "{name} is {}",
            ran.result(at)?
        );
        demand!(
            fs::read_to_string(path).ok() == before[at],
            "{name} changed on the machine"
        );
    }
    Ok(())
}

fn sysctl(bench: &Bench) -> Check {
    set_parameters(bench, |_| Ok(()))
}

fn sysctl_and_readonly(bench: &Bench) -> Check {
    set_parameters(bench, |bundle| {
        bundle.set("/linux/readonlyPaths", json!(["/proc/sys"]));
        Ok(())
    })
}

fn sysctl_in_user_namespace(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.user_namespace(300_000)?;
    bundle.set("/linux/sysctl", json!({ "net.ipv4.ip_forward": "1" }));
    let ran = bench.run(&mut bundle, &[read("/proc/sys/net/ipv4/ip_forward")])?;
    demand!(
        ran.result(0)?.text().trim() == "1",
        "it is {}",
        ran.result(0)?
    );
    Ok(())
}

fn refused_sysctl(bench: &Bench, name: &str, value: &str) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set("/linux/sysctl", json!({ name: value }));
    bench.refuses(&bundle)?;
    Ok(())
}

fn unknown_sysctl(bench: &Bench) -> Check {
    refused_sysctl(bench, "net.ipv4.no_such_parameter", "1")
}

fn odd_sysctl(bench: &Bench) -> Check {
    refused_sysctl(bench, "net.ipv4.ip_forward", "many")
}

fn sysctl_of_the_machine(bench: &Bench) -> Check {
    let path = "/proc/sys/vm/max_map_count";
    let before = fs::read_to_string(path)?;
    let result = refused_sysctl(bench, "vm.max_map_count", "70001");
    if fs::read_to_string(path)? != before {
        fs::write(path, before)?;
        demand!(false, "it was changed for the whole machine");
    }
    result
}

fn sysctl_of_a_shared_namespace(bench: &Bench) -> Check {
    let path = "/proc/sys/net/core/somaxconn";
    let before = fs::read_to_string(path)?;
    let mut bundle = bench.bundle()?;
    bundle.without_namespace("network");
    bundle.set("/linux/sysctl", json!({ "net.core.somaxconn": "4001" }));
    let result = bench.refuses(&bundle);
    if fs::read_to_string(path)? != before {
        fs::write(path, before)?;
        demand!(false, "it was changed for the machine");
    }
    result.map(drop)
}

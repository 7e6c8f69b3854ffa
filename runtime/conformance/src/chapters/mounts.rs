//! config.md, Mounts, and the file systems of config-linux.md.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use serde_json::json;

use crate::bench::{Bench, Bundle};
use crate::clause::{Check, Clause, Try, command_line, demand, must, should};
use crate::needs::Need;
use crate::probe::Step;
use crate::probe::world::{Mount, World};

pub const CLAUSES: &[Clause] = &[
    must(
        "config.md#mounts",
        "mounts are made in order: a later one is in, or over, an earlier one",
        &[],
        order,
    ),
    must(
        "config.md#mounts destination",
        "a missing mount point is created, for a directory and for a file",
        &[],
        missing_points,
    ),
    must(
        "config.md#mounts destination",
        "a relative one is relative to the root",
        &[],
        relative_destination,
    ),
    must(
        "config.md#mounts source",
        "for a bind mount, a relative path is relative to the bundle",
        &[],
        relative_source,
    ),
    must(
        "config.md#mounts source",
        "for a bind mount, a missing source is an error",
        &[],
        missing_source,
    ),
    must(
        "config.md#mounts type",
        "with the option bind or rbind it is a bind mount, whatever the type",
        &[],
        bind_by_option,
    ),
    must(
        "config.md#mounts type",
        "a file system that the kernel does not have is an error",
        &[],
        unknown_type,
    ),
    must(
        "config.md#linux-mount-options bind rbind",
        "rbind includes what is mounted below, bind does not",
        &[],
        bind_and_rbind,
    ),
    should(
        "config.md#linux-mount-options idmap",
        "owners are mapped by the mount's uidMappings and gidMappings",
        &[Need::Kernel(5, 12)],
        idmap,
    ),
    should(
        "config.md#linux-mount-options idmap",
        "without mappings the container's user namespace applies, or it is an error",
        &[Need::Kernel(5, 12), Need::UserNamespace],
        idmap_by_user_namespace,
    ),
    should(
        "config.md#linux-mount-options ridmap",
        "mounts below are mapped too",
        &[Need::Kernel(5, 12)],
        ridmap,
    ),
    must(
        "config.md#linux-mount-options idmap",
        "without mappings and without a user namespace: an error",
        &[],
        idmap_without_mapping,
    ),
    must(
        "config.md#posix-platform-mounts uidMappings",
        "without gidMappings: an error",
        &[],
        half_a_mapping,
    ),
    command_line(
        "runc: mount option tmpcopyup",
        "a tmpfs starts with a copy of what it covers",
        &[],
        copy_up,
    ),
    should(
        "config-linux.md#default-filesystems",
        "/proc, /sys, /dev/pts and /dev/shm are of their types",
        &[],
        default_file_systems,
    ),
    must(
        "config.md#mounts type",
        "cgroup shows the container's cgroup, read-only if requested",
        &[Need::UnifiedTree],
        cgroup,
    ),
    must(
        "config.md#mounts type",
        "mqueue belongs to the container's IPC namespace",
        &[],
        mqueue,
    ),
];

pub(super) fn found<'a>(world: &'a World, point: &str) -> Try<&'a Mount> {
    world
        .mounts
        .iter()
        .rfind(|mount| mount.point == point)
        .ok_or_else(|| crate::clause::Problem::Failed(format!("nothing is mounted at {point}")))
}

fn order(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let source = bench.directory("source")?;
    fs::write(source.join("file"), "second")?;
    bundle.mount("/a", "tmpfs", "tmpfs", &[]);
    bundle.bind("/a/b", &source, &["bind"]);
    bundle.mount("/c/d", "tmpfs", "tmpfs", &[]);
    bundle.bind("/c", &source, &["bind"]);
    let ran = bench.run(
        &mut bundle,
        &[
            Step::Read("/a/b/file".to_owned()),
            Step::Read("/c/file".to_owned()),
        ],
    )?;
    demand!(ran.result(0)?.text() == "second", "in: {}", ran.result(0)?);
    demand!(
        ran.result(1)?.text() == "second",
        "over: {}",
        ran.result(1)?
    );
    Ok(())
}

fn missing_points(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let file = bench.path("file");
    fs::write(&file, "bound")?;
    bundle.bind("/new/deep/file", &file, &["bind"]);
    bundle.mount("/new/deep/directory", "tmpfs", "tmpfs", &[]);
    let ran = bench.run(
        &mut bundle,
        &[
            Step::Read("/new/deep/file".to_owned()),
            Step::Create("/new/deep/directory/x".to_owned()),
        ],
    )?;
    demand!(ran.result(0)?.text() == "bound", "file: {}", ran.result(0)?);
    demand!(ran.result(1)?.worked(), "directory: {}", ran.result(1)?);
    Ok(())
}

fn relative_destination(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.mount("relative/point", "tmpfs", "tmpfs", &[]);
    let world = bench.world(&mut bundle)?;
    found(&world, "/relative/point")?;
    Ok(())
}

fn relative_source(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    fs::create_dir(bundle.folder().join("beside"))?;
    fs::write(bundle.folder().join("beside/file"), "bundle's")?;
    bundle.bind("/data", Path::new("beside"), &["bind"]);
    let ran = bench.run(&mut bundle, &[Step::Read("/data/file".to_owned())])?;
    demand!(ran.result(0)?.text() == "bundle's", "{}", ran.result(0)?);
    Ok(())
}

fn missing_source(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.bind("/data", Path::new("/no/such/source"), &["rbind"]);
    let message = bench.refuses(&bundle)?;
    demand!(
        message.contains("/no/such/source"),
        "the message does not name it: {message}"
    );
    Ok(())
}

fn bind_by_option(bench: &Bench) -> Check {
    let source = bench.directory("source")?;
    fs::write(source.join("file"), "bound")?;
    let source = source.to_string_lossy().into_owned();
    let mut bundle = bench.bundle()?;
    bundle.mount("/a", "none", &source, &["bind"]);
    bundle.mount("/b", "tmpfs", &source, &["rbind"]);
    bundle.push(
        "/mounts",
        json!({ "destination": "/c", "source": source, "options": ["bind"] }),
    );
    let paths = ["/a/file", "/b/file", "/c/file"];
    let ran = bench.run(&mut bundle, &paths.map(|path| Step::Read(path.to_owned())))?;
    for (at, path) in paths.iter().enumerate() {
        demand!(
            ran.result(at)?.text() == "bound",
            "{path}: {}",
            ran.result(at)?
        );
    }
    Ok(())
}

fn unknown_type(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.mount("/data", "nosuchfs", "none", &[]);
    bench.refuses(&bundle)?;
    Ok(())
}

/// A directory of the machine with a tmpfs mounted below it.
pub(super) fn with_submount(bench: &Bench) -> Try<PathBuf> {
    let source = bench.directory("tree")?;
    let below = source.join("below");
    fs::create_dir(&below)?;
    let none = None::<&str>;
    mount(Some("tmpfs"), &below, Some("tmpfs"), MsFlags::empty(), none)?;
    fs::write(below.join("file"), "below")?;
    fs::copy(bench.program(), below.join("probe"))?;
    std::os::unix::fs::symlink("file", below.join("link"))?;
    Ok(source)
}

fn bind_and_rbind(bench: &Bench) -> Check {
    let source = with_submount(bench)?;
    let mut bundle = bench.bundle()?;
    bundle.bind("/plain", &source, &["bind"]);
    bundle.bind("/deep", &source, &["rbind"]);
    let ran = bench.run(
        &mut bundle,
        &[
            Step::Read("/plain/below/file".to_owned()),
            Step::Read("/deep/below/file".to_owned()),
        ],
    )?;
    demand!(
        ran.result(0)?.failed_with(Errno::ENOENT),
        "bind: {}",
        ran.result(0)?
    );
    demand!(
        ran.result(1)?.text() == "below",
        "rbind: {}",
        ran.result(1)?
    );
    Ok(())
}

fn owned_source(bench: &Bench) -> Try<PathBuf> {
    let source = with_submount(bench)?;
    fs::write(source.join("file"), "")?;
    for path in [source.join("file"), source.join("below/file")] {
        std::os::unix::fs::chown(path, Some(1000), Some(1001))?;
    }
    Ok(source)
}

fn with_mapping(bundle: &mut Bundle, source: &Path, options: &[&str]) {
    bundle.push(
        "/mounts",
        json!({
            "destination": "/data",
            "source": source,
            "options": options,
            "uidMappings": [{ "containerID": 1000, "hostID": 5000, "size": 10 }],
            "gidMappings": [{ "containerID": 1000, "hostID": 6000, "size": 10 }],
        }),
    );
}

fn idmap(bench: &Bench) -> Check {
    let source = owned_source(bench)?;
    let mut bundle = bench.bundle()?;
    with_mapping(&mut bundle, &source, &["bind", "idmap"]);
    let ran = bench.run(&mut bundle, &[Step::Stat("/data/file".to_owned())])?;
    let owner = ran.result(0)?.value();
    demand!(
        owner["uid"] == 5000 && owner["gid"] == 6001,
        "a file of 1000:1001 is {}:{}",
        owner["uid"],
        owner["gid"]
    );
    let owner = fs::metadata(source.join("file"))?.uid();
    demand!(owner == 1000, "its owner on the machine is {owner} now");
    Ok(())
}

fn idmap_by_user_namespace(bench: &Bench) -> Check {
    let source = bench.directory("source")?;
    fs::write(source.join("file"), "")?;
    let mut bundle = bench.bundle()?;
    bundle.user_namespace(300_000)?;
    bundle.bind("/data", &source, &["bind", "idmap"]);
    bundle.steps(&[Step::Stat("/data/file".to_owned())]);
    let Ok(container) = bench.try_create(&bundle)? else {
        // An error is allowed, silence is not.
        return Ok(());
    };
    container.start()?;
    let end = container.wait()?;
    let ran = container.ran(end)?;
    let owner = ran.result(0)?.value();
    demand!(
        owner["uid"] == 0 && owner["gid"] == 0,
        "a file of 0:0 is {}:{}",
        owner["uid"],
        owner["gid"]
    );
    Ok(())
}

fn ridmap(bench: &Bench) -> Check {
    let source = owned_source(bench)?;
    let mut bundle = bench.bundle()?;
    with_mapping(&mut bundle, &source, &["rbind", "ridmap"]);
    let ran = bench.run(
        &mut bundle,
        &[
            Step::Stat("/data/file".to_owned()),
            Step::Stat("/data/below/file".to_owned()),
        ],
    )?;
    for at in [0, 1] {
        let owner = ran.result(at)?.value();
        demand!(
            owner["uid"] == 5000 && owner["gid"] == 6001,
            "file {at} of 1000:1001 is {}:{}",
            owner["uid"],
            owner["gid"]
        );
    }
    Ok(())
}

fn idmap_without_mapping(bench: &Bench) -> Check {
    let source = bench.directory("source")?;
    let mut bundle = bench.bundle()?;
    bundle.bind("/data", &source, &["bind", "idmap"]);
    bench.refuses(&bundle)?;
    Ok(())
}

fn half_a_mapping(bench: &Bench) -> Check {
    let source = bench.directory("source")?;
    let mut bundle = bench.bundle()?;
    bundle.push(
        "/mounts",
        json!({
            "destination": "/data",
            "source": source,
            "options": ["bind", "idmap"],
            "uidMappings": [{ "containerID": 0, "hostID": 5000, "size": 10 }],
        }),
    );
    bench.refuses(&bundle)?;
    Ok(())
}

fn copy_up(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.file("/srv/below/file", "copied")?;
    bundle.mount("/srv", "tmpfs", "tmpfs", &["tmpcopyup"]);
    let ran = bench.run(
        &mut bundle,
        &[
            Step::Read("/srv/below/file".to_owned()),
            Step::Create("/srv/new".to_owned()),
        ],
    )?;
    demand!(ran.result(0)?.text() == "copied", "{}", ran.result(0)?);
    demand!(
        ran.result(1)?.worked() && !bundle.root().join("srv/new").exists(),
        "it is no file system of its own"
    );
    Ok(())
}

fn default_file_systems(bench: &Bench) -> Check {
    let world = bench.world(&mut bench.bundle()?)?;
    for (point, kind) in [
        ("/proc", "proc"),
        ("/sys", "sysfs"),
        ("/dev/pts", "devpts"),
        ("/dev/shm", "tmpfs"),
    ] {
        let found = &found(&world, point)?.kind;
        demand!(found == kind, "{point} is {found}");
    }
    Ok(())
}

fn cgroup(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.mount(
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        &["nosuid", "noexec", "nodev", "ro"],
    );
    let ran = bench.run(
        &mut bundle,
        &[
            Step::World,
            Step::Read("/sys/fs/cgroup/cgroup.procs".to_owned()),
            Step::Mkdir("/sys/fs/cgroup/new".to_owned()),
        ],
    )?;
    let world = ran.world(0)?;
    let mount = found(&world, "/sys/fs/cgroup")?;
    demand!(mount.kind == "cgroup2", "it is {}", mount.kind);
    demand!(
        ran.result(1)?.text().trim() == "1",
        "its processes are {}",
        ran.result(1)?
    );
    demand!(
        ran.result(2)?.failed_with(Errno::EROFS),
        "{}",
        ran.result(2)?
    );
    Ok(())
}

fn mqueue(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let ran = bench.run(
        &mut bundle,
        &[
            Step::Create("/dev/mqueue/queue".to_owned()),
            Step::List("/dev/mqueue".to_owned()),
        ],
    )?;
    demand!(
        *ran.result(1)?.value() == json!(["queue"]),
        "it holds {}",
        ran.result(1)?
    );
    Ok(())
}

//! config-linux.md, Devices; runtime-linux.md.

use std::fs;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::clause::{Check, Clause, Try, command_line, demand, must};
use crate::probe::{self, Step};

pub const CLAUSES: &[Clause] = &[
    must(
        "config-linux.md#default-devices",
        "null, zero, full, random, urandom and tty exist, with their numbers and accessible to all",
        &[],
        default_devices,
    ),
    must(
        "config-linux.md#default-devices",
        "they work: null accepts everything, zero and urandom return data, full is full",
        &[],
        default_devices_work,
    ),
    must(
        "config-linux.md#default-devices /dev/ptmx",
        "it belongs to the container's /dev/pts, and opens a terminal there",
        &[],
        ptmx,
    ),
    must(
        "config-linux.md#default-devices",
        "they exist even if the user is not root",
        &[],
        default_devices_of_a_user,
    ),
    must(
        "config-linux.md#devices",
        "no other device node is in /dev",
        &[],
        no_other_devices,
    ),
    must(
        "config-linux.md#devices",
        "a character device, a block device and a pipe are created",
        &[],
        kinds,
    ),
    must(
        "config-linux.md#devices type",
        "u is a character device",
        &[],
        unbuffered,
    ),
    must(
        "config-linux.md#devices path",
        "a path outside /dev is possible",
        &[],
        outside_of_dev,
    ),
    must(
        "config-linux.md#devices fileMode uid gid",
        "mode and owner are as requested, whatever the umask",
        &[],
        mode_and_owner,
    ),
    must(
        "config-linux.md#devices path",
        "an existing file that is a different one is an error",
        &[],
        other_file_there,
    ),
    must(
        "config-linux.md#devices path",
        "a path that is not absolute is an error",
        &[],
        relative_path,
    ),
    must(
        "config-linux.md#devices type",
        "an unknown type is an error",
        &[],
        unknown_type,
    ),
    must(
        "config-linux.md#devices",
        "a device that was configured and is allowed can be opened",
        &[],
        opened,
    ),
    must(
        "runtime-linux.md#dev-symbolic-links",
        "/dev/fd, /dev/stdin, /dev/stdout and /dev/stderr lead to /proc/self/fd",
        &[],
        links,
    ),
    must(
        "runtime-linux.md#file-descriptors",
        "only standard input, output and error are open",
        &[],
        three_descriptors,
    ),
    must(
        "runtime-linux.md#file-descriptors",
        "a descriptor that the caller forgot to close is not passed",
        &[],
        forgotten_descriptor,
    ),
    command_line(
        "command line: create",
        "--preserve-fds N passes N descriptors after the standard ones",
        &[],
        preserved,
    ),
    command_line(
        "command line: create",
        "sockets of LISTEN_FDS are passed with LISTEN_FDS and LISTEN_PID",
        &[],
        socket_activation,
    ),
];

const DEFAULT: [(&str, u64, u64); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

fn stat(path: &str) -> Step {
    Step::Stat(path.to_owned())
}

fn default_devices(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let ran = bench.run(
        &mut bundle,
        &DEFAULT.map(|(name, _, _)| stat(&format!("/dev/{name}"))),
    )?;
    for (at, (name, major, minor)) in DEFAULT.into_iter().enumerate() {
        let found = ran.result(at)?.value();
        demand!(
            found["kind"] == "c" && found["major"] == major && found["minor"] == minor,
            "/dev/{name} is {}",
            ran.result(at)?
        );
        demand!(
            found["mode"] == 0o666 && found["uid"] == 0,
            "/dev/{name} is {found}"
        );
    }
    Ok(())
}

fn default_devices_work(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let ran = bench.run(
        &mut bundle,
        &[
            Step::Write("/dev/null".to_owned(), "x".to_owned()),
            Step::Read("/dev/null".to_owned()),
            Step::Read("/dev/zero".to_owned()),
            Step::Read("/dev/urandom".to_owned()),
            Step::Write("/dev/full".to_owned(), "x".to_owned()),
        ],
    )?;
    demand!(ran.result(0)?.worked(), "null: {}", ran.result(0)?);
    demand!(ran.result(1)?.text().is_empty(), "null gave something");
    demand!(
        ran.result(2)?.text().len() == 1 << 20 && ran.result(2)?.text().bytes().all(|b| b == 0),
        "zero gave something else"
    );
    demand!(
        ran.result(3)?.text().len() > 1 << 20,
        "urandom: {:.60}",
        ran.result(3)?.text()
    );
    demand!(
        ran.result(4)?.failed_with(Errno::ENOSPC),
        "full: {}",
        ran.result(4)?
    );
    Ok(())
}

fn ptmx(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let ran = bench.run(
        &mut bundle,
        &[
            stat("/dev/ptmx"),
            stat("/dev/pts/ptmx"),
            Step::Open("/dev/ptmx".to_owned(), libc::O_RDWR | libc::O_NOCTTY),
            Step::Link("/dev/ptmx".to_owned()),
        ],
    )?;
    let (node, real) = (ran.result(0)?.value(), ran.result(1)?.value());
    let same = node["device"] == real["device"] && node["inode"] == real["inode"];
    let leads = ["pts/ptmx", "/dev/pts/ptmx"].contains(&ran.result(3)?.text());
    demand!(same || leads, "it is {node}");
    demand!(
        ran.result(2)?.worked(),
        "it does not open: {}",
        ran.result(2)?
    );
    Ok(())
}

fn default_devices_of_a_user(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
    let ran = bench.run(
        &mut bundle,
        &[
            Step::Open("/dev/null".to_owned(), libc::O_RDWR),
            Step::Open("/dev/urandom".to_owned(), libc::O_RDONLY),
            Step::Open("/dev/ptmx".to_owned(), libc::O_RDWR | libc::O_NOCTTY),
        ],
    )?;
    for at in 0..3 {
        demand!(ran.result(at)?.worked(), "device {at}: {}", ran.result(at)?);
    }
    Ok(())
}

fn no_other_devices(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let ran = bench.run(&mut bundle, &[Step::List("/dev".to_owned())])?;
    let names: Vec<String> = serde_json::from_value(ran.result(0)?.value().clone())?;
    let known = [
        "console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm",
        "stderr", "stdin", "stdout", "tty", "urandom", "zero",
    ];
    let others: Vec<_> = names
        .iter()
        .filter(|name| !known.contains(&name.as_str()))
        .collect();
    demand!(others.is_empty(), "it has {others:?} too");
    Ok(())
}

/// A container with these devices: what its program sees of each.
fn made(bench: &Bench, devices: &[Value]) -> Try<Vec<Value>> {
    let mut bundle = bench.bundle()?;
    bundle.set("/linux/devices", json!(devices));
    let steps: Vec<Step> = devices
        .iter()
        .map(|device| stat(device["path"].as_str().unwrap_or_default()))
        .collect();
    let ran = bench.run(&mut bundle, &steps)?;
    (0..steps.len())
        .map(|at| {
            let result = ran.result(at)?;
            demand!(result.worked(), "{}: {result}", devices[at]["path"]);
            Ok(result.value().clone())
        })
        .collect()
}

fn kinds(bench: &Bench) -> Check {
    let found = made(
        bench,
        &[
            json!({ "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229 }),
            json!({ "path": "/dev/disk", "type": "b", "major": 7, "minor": 99 }),
            json!({ "path": "/dev/deep/pipe", "type": "p" }),
        ],
    )?;
    demand!(
        found[0]["kind"] == "c" && found[0]["major"] == 10 && found[0]["minor"] == 229,
        "c is {}",
        found[0]
    );
    demand!(
        found[1]["kind"] == "b" && found[1]["major"] == 7 && found[1]["minor"] == 99,
        "b is {}",
        found[1]
    );
    demand!(found[2]["kind"] == "p", "p is {}", found[2]);
    Ok(())
}

fn unbuffered(bench: &Bench) -> Check {
    let found = made(
        bench,
        &[json!({ "path": "/dev/device", "type": "u", "major": 10, "minor": 229 })],
    )?;
    demand!(found[0]["kind"] == "c", "it is {}", found[0]);
    Ok(())
}

fn outside_of_dev(bench: &Bench) -> Check {
    let found = made(
        bench,
        &[json!({ "path": "/srv/nodes/null", "type": "c", "major": 1, "minor": 3 })],
    )?;
    demand!(found[0]["kind"] == "c", "it is {}", found[0]);
    Ok(())
}

fn mode_and_owner(bench: &Bench) -> Check {
    let found = made(
        bench,
        &[json!({
            "path": "/dev/device", "type": "c", "major": 10, "minor": 229,
            "fileMode": 0o627, "uid": 12, "gid": 34,
        })],
    )?;
    demand!(
        found[0]["mode"] == 0o627 && found[0]["uid"] == 12 && found[0]["gid"] == 34,
        "it is {}",
        found[0]
    );
    Ok(())
}

fn other_file_there(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.file("/srv/device", "a file")?;
    bundle.push(
        "/linux/devices",
        json!({ "path": "/srv/device", "type": "c", "major": 1, "minor": 3 }),
    );
    bench.refuses(&bundle)?;
    let text = fs::read_to_string(bundle.root().join("srv/device"))?;
    demand!(text == "a file", "the file was changed");
    Ok(())
}

fn relative_path(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.push(
        "/linux/devices",
        json!({ "path": "dev/device", "type": "c", "major": 1, "minor": 3 }),
    );
    bench.refuses(&bundle)?;
    Ok(())
}

fn unknown_type(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.push(
        "/linux/devices",
        json!({ "path": "/dev/device", "type": "x", "major": 1, "minor": 3 }),
    );
    bench.refuses(&bundle)?;
    Ok(())
}

fn opened(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.push(
        "/linux/devices",
        json!({ "path": "/dev/second-null", "type": "c", "major": 1, "minor": 3 }),
    );
    bundle.set(
        "/linux/resources/devices",
        json!([
            { "allow": false, "access": "rwm" },
            { "allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm" },
        ]),
    );
    let ran = bench.run(
        &mut bundle,
        &[Step::Write("/dev/second-null".to_owned(), "x".to_owned())],
    )?;
    demand!(ran.result(0)?.worked(), "{}", ran.result(0)?);
    Ok(())
}

fn links(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let wanted = [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ];
    let ran = bench.run(
        &mut bundle,
        &wanted.map(|(path, _)| Step::Link(path.to_owned())),
    )?;
    for (at, (path, target)) in wanted.into_iter().enumerate() {
        demand!(
            ran.result(at)?.text() == target,
            "{path}: {}",
            ran.result(at)?
        );
    }
    Ok(())
}

fn three_descriptors(bench: &Bench) -> Check {
    let world = bench.world(&mut bench.bundle()?)?;
    let numbers: Vec<_> = world.descriptors.keys().copied().collect();
    demand!(numbers == [0, 1, 2], "open are {:?}", world.descriptors);
    Ok(())
}

fn forgotten_descriptor(bench: &Bench) -> Check {
    // Without close-on-exec, it reaches the runtime.
    let file = fs::File::open("/")?;
    let copy = nix::unistd::dup(&file)?;
    let world = bench.world(&mut bench.bundle()?)?;
    let numbers: Vec<_> = world.descriptors.keys().copied().collect();
    demand!(
        numbers == [0, 1, 2],
        "open are {:?} (forgotten: {})",
        world.descriptors,
        copy.as_raw_fd()
    );
    Ok(())
}

/// A file at descriptor 3 of this process, which its children have too.
fn at_three(bench: &Bench) -> Try<std::os::fd::OwnedFd> {
    let path = bench.path("passed");
    fs::write(&path, "passed")?;
    let file = fs::File::open(path)?;
    let copy = nix::unistd::dup(&file)?;
    drop(file);
    let copy = if copy.as_raw_fd() == 3 {
        copy
    } else {
        nix::unistd::dup(&copy)?
    };
    demand!(
        copy.as_raw_fd() == 3,
        "the suite itself: descriptor 3 is in use"
    );
    Ok(copy)
}

fn preserved(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.steps(&[Step::World, Step::Read("/proc/self/fd/3".to_owned())]);
    let _three = at_three(bench)?;
    let id = bench.id();
    let created = crate::bench::Container::create(bench, &bundle, &id, &["--preserve-fds", "1"])?;
    let container = match created {
        Ok(container) => container,
        Err(message) => {
            demand!(false, "create failed: {message}");
            return Ok(());
        }
    };
    container.start()?;
    let end = container.wait()?;
    let ran = container.ran(end)?;
    let numbers: Vec<_> = ran.world(0)?.descriptors.keys().copied().collect();
    demand!(numbers == [0, 1, 2, 3], "open are {numbers:?}");
    demand!(ran.result(1)?.text() == "passed", "3 is {}", ran.result(1)?);
    Ok(())
}

fn socket_activation(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.steps(&[Step::World]);
    bundle.save()?;
    let _three = at_three(bench)?;
    let id = bench.id();
    let folder = bundle.folder().to_string_lossy().into_owned();
    let out = bench.path("out");
    let error = bench.path("error");
    // The sockets are those of the process whose pid is said.
    let script = "export LISTEN_PID=$$; exec \"$0\" \"$@\"";
    let status = std::process::Command::new("/bin/sh")
        .args(["-c", script])
        .arg(bench.runtime())
        .arg("--root")
        .arg(bench.root())
        .args(["create", "--bundle", &folder, &id])
        .env("LISTEN_FDS", "1")
        .stdout(fs::File::create(&out)?)
        .stderr(fs::File::create(&error)?)
        .status()?;
    demand!(
        status.success(),
        "create failed: {}",
        fs::read_to_string(&error)?
    );
    bench.must(&["start", &id])?;
    crate::bench::until("the program has printed", || {
        Ok(fs::read_to_string(&out)?.ends_with('\n'))
    })?;
    let lines = probe::lines(&fs::read_to_string(&out)?);
    let world: probe::world::World = serde_json::from_value(lines[0].value().clone())?;
    let numbers: Vec<_> = world.descriptors.keys().copied().collect();
    demand!(numbers == [0, 1, 2, 3], "open are {numbers:?}");
    for variable in ["LISTEN_FDS=1", "LISTEN_PID=1"] {
        demand!(
            world.env.iter().any(|have| have == variable),
            "{variable} is not in {:?}",
            world.env
        );
    }
    Ok(())
}

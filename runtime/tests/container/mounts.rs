//! The file system that the program sees.

use std::fs;

use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Container, can_run};

#[test]
fn there_are_no_mounts_but_those_asked_for() {
    if !can_run() {
        return;
    }
    let output = Container::new("cut -d' ' -f5 /proc/self/mountinfo | sort -u")
        .without_mount("/usr")
        .mount("/usr", "bind", "/usr", &["bind", "ro"])
        .run()
        .success();
    let allowed = [
        "/",
        "/proc",
        "/dev",
        "/dev/pts",
        "/sys",
        "/tmp",
        "/usr",
        "/proc/keys",
        "/proc/acpi",
        "/sys/firmware",
        "/proc/sys",
    ];
    for mount in output.lines() {
        assert!(allowed.contains(&mount), "{mount}");
    }
}

#[test]
fn the_root_is_read_only_and_the_rest_as_its_mount_says() {
    if !can_run() {
        return;
    }
    let output = Container::new(
        "touch /x || echo root; touch /etc/x || echo etc; touch /usr/x || echo usr; touch /tmp/x && echo tmp",
    )
    .run()
    .success();
    let words: Vec<_> = output.lines().filter(|line| !line.contains(' ')).collect();
    assert_eq!(words, ["root", "etc", "usr", "tmp"]);
}

#[test]
fn a_writable_root_is_written_to() {
    if !can_run() {
        return;
    }
    let container = Container::new("echo hello > /etc/x").set("/root/readonly", json!(false));
    container.run().success();
    let text = fs::read_to_string(container.root.path().join("etc/x")).unwrap();
    assert_eq!(text, "hello\n");
}

#[test]
fn a_missing_mount_point_is_made() {
    if !can_run() {
        return;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "from the host\n").unwrap();
    let source = file.path().to_str().unwrap();
    let output = Container::new("cat /new/file; stat -c %F /new/directory/below; stat -c %a /new")
        .mount("/new/file", "bind", source, &["bind", "ro"])
        .mount("/new/directory/below", "tmpfs", "tmpfs", &[])
        .run()
        .success();
    assert_eq!(output, "from the host\ndirectory\n755\n");
}

#[test]
fn a_mount_point_that_cannot_be_made_is_an_error_that_names_the_mount() {
    if !can_run() {
        return;
    }
    let message = Container::new("true")
        .mount("/usr/nowhere/below", "tmpfs", "tmpfs", &[])
        .run()
        .failure();
    assert_eq!(
        message,
        "making the mount point for tmpfs on /usr/nowhere/below: Read-only file system"
    );
}

#[test]
fn a_missing_source_is_an_error_that_names_the_mount() {
    if !can_run() {
        return;
    }
    let message = Container::new("true")
        .mount("/tmp/x", "bind", "/nowhere", &["bind"])
        .run()
        .failure();
    assert_eq!(
        message,
        "opening the source of bind mount of /nowhere on /tmp/x: No such file or directory"
    );
}

#[test]
fn an_option_that_the_file_system_does_not_have_is_an_error_that_names_it() {
    if !can_run() {
        return;
    }
    let message = Container::new("true")
        .mount("/tmp/x", "tmpfs", "tmpfs", &["colour=blue"])
        .run()
        .failure();
    assert!(
        message.starts_with("setting the option colour=blue of tmpfs on /tmp/x"),
        "{message}"
    );
}

#[test]
fn attributes_of_a_bind_mount_hold_and_recursive_ones_hold_below_it() {
    if !can_run() {
        return;
    }
    let source = TempDir::new().unwrap();
    let below = source.path().join("below");
    fs::create_dir(&below).unwrap();
    nix::mount::mount(
        Some("below"),
        &below,
        Some("tmpfs"),
        nix::mount::MsFlags::empty(),
        None::<&str>,
    )
    .unwrap();
    let source = source.path().to_str().unwrap();
    let output = Container::new(
        "grep -E ' /(a|b)' /proc/self/mountinfo | cut -d' ' -f5,6; \
         for d in a a/below b b/below; do touch /$d/x 2>/dev/null && echo /$d; done; true",
    )
    .mount("/a", "bind", source, &["rbind", "ro", "nosuid", "noatime"])
    .mount("/b", "bind", source, &["rbind", "rro", "rnoexec"])
    .run()
    .success();
    nix::mount::umount(&below).unwrap();
    assert_eq!(
        output,
        "/a ro,nosuid,noatime\n/a/below rw,relatime\n/b ro,noexec,relatime\n/b/below ro,noexec,relatime\n/a/below\n"
    );
}

#[test]
fn masked_paths_are_empty_and_read_only_paths_cannot_be_written() {
    if !can_run() {
        return;
    }
    let output = Container::new(
        "cat /proc/keys | wc -c; ls -A /sys/firmware 2>/dev/null | wc -l; \
         (echo 1 > /proc/sys/kernel/hostname) 2>/dev/null || echo read-only; \
         touch /sys/firmware/x 2>/dev/null || echo refused",
    )
    .run()
    .success();
    assert_eq!(output, "0\n0\nread-only\nrefused\n");
}

/// A shared tmpfs on the host, with a FIFO `go` and a directory `later` in it;
/// what a container sees in `later` when a file system is mounted there while it runs.
fn seen_later(container: impl FnOnce(&str) -> Container) -> String {
    let shared = TempDir::new().unwrap();
    let path = shared.path();
    let mount = |source: Option<&str>, kind: Option<&str>, flags| {
        nix::mount::mount(source, path, kind, flags, None::<&str>).unwrap();
    };
    mount(Some("shared"), Some("tmpfs"), nix::mount::MsFlags::empty());
    mount(None, None, nix::mount::MsFlags::MS_SHARED);
    let later = path.join("later");
    fs::create_dir(&later).unwrap();
    let fifo = path.join("go");
    crate::harness::make_node(&fifo, nix::sys::stat::SFlag::S_IFIFO, 0);

    let mut running = container(path.to_str().unwrap()).start(&[], &[]);
    running.expect_line("up");
    nix::mount::mount(
        Some("later"),
        &later,
        Some("tmpfs"),
        nix::mount::MsFlags::empty(),
        None::<&str>,
    )
    .unwrap();
    fs::write(later.join("file"), "").unwrap();
    fs::write(&fifo, "go\n").unwrap();
    let output = running.finish().success();
    nix::mount::umount(&later).unwrap();
    nix::mount::umount(path).unwrap();
    output
}

const WAIT_AND_COUNT: &str = "echo up; read x < /shared/go; ls /shared/later | wc -l";

#[test]
fn mounts_of_the_host_made_later_do_not_appear_in_a_private_mount() {
    if !can_run() {
        return;
    }
    let output = seen_later(|path| {
        Container::new(WAIT_AND_COUNT).mount("/shared", "bind", path, &["rbind", "rprivate"])
    });
    assert_eq!(output, "0\n");
}

#[test]
fn mounts_of_the_host_made_later_appear_in_a_slave_mount() {
    if !can_run() {
        return;
    }
    let output = seen_later(|path| {
        Container::new(WAIT_AND_COUNT).mount("/shared", "bind", path, &["rbind", "rslave"])
    });
    assert_eq!(output, "1\n");
}

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

#[test]
fn what_is_mounted_in_a_shared_mount_appears_on_the_host() {
    if !can_run() {
        return;
    }
    let host = TempDir::new().unwrap();
    let path = host.path();
    let mount = |source: Option<&str>, kind: Option<&str>, flags| {
        nix::mount::mount(source, path, kind, flags, None::<&str>).unwrap();
    };
    mount(Some("shared"), Some("tmpfs"), nix::mount::MsFlags::empty());
    mount(None, None, nix::mount::MsFlags::MS_SHARED);
    fs::create_dir(path.join("in")).unwrap();
    let admin = json!(["CAP_SYS_ADMIN"]);
    let run = |options: &[&str]| {
        let mut running = Container::new("mount -t tmpfs inside /shared/in && echo up; sleep 60")
            .mount("/shared", "bind", path.to_str().unwrap(), options)
            .set(
                "/process/capabilities",
                json!({ "bounding": admin, "permitted": admin, "effective": admin }),
            )
            .start(&[], &[]);
        running.expect_line("up");
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let place = format!("inside {} ", path.join("in").display());
        let seen = mounts.lines().any(|line| line.starts_with(&place));
        running.cgroup.kill().unwrap();
        running.finish();
        if seen {
            nix::mount::umount(&path.join("in")).unwrap();
        }
        seen
    };
    let seen = [
        run(&["rbind", "rshared"]),
        run(&["rbind", "rslave"]),
        run(&["rbind"]),
    ];
    nix::mount::umount(path).unwrap();
    assert_eq!(seen, [true, false, false]);
}

#[test]
fn a_tmpfs_begins_with_a_copy_of_what_it_covers() {
    if !can_run() {
        return;
    }
    let container = Container::new(
        "cd /data; stat -c '%a %u:%g' .; find . -mindepth 1 -printf '%p %y %m %U:%G %l\\n' | sort; \
         cat dir/file; touch new; rm link",
    )
    .mount("/data", "tmpfs", "tmpfs", &["tmpcopyup"]);
    let data = container.root.path().join("data");
    fs::create_dir_all(data.join("dir/sub")).unwrap();
    fs::write(data.join("dir/file"), "text\n").unwrap();
    std::os::unix::fs::symlink("dir/file", data.join("link")).unwrap();
    crate::harness::make_node(&data.join("pipe"), nix::sys::stat::SFlag::S_IFIFO, 0);
    std::os::unix::fs::chown(data.join("dir/file"), Some(7), Some(8)).unwrap();
    let mode = |path: &str, mode| {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(data.join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("", 0o1770);
    mode("dir/file", 0o4755);
    mode("dir", 0o750);
    mode("dir/sub", 0o700);
    mode("pipe", 0o622);
    let output = container.run().success();
    assert_eq!(
        output,
        "1770 0:0\n./dir d 750 0:0 \n./dir/file f 4755 7:8 \n./dir/sub d 700 0:0 \n\
         ./link l 777 0:0 dir/file\n./pipe p 622 0:0 \ntext\n"
    );
    // The original is as it was.
    assert!(data.join("link").is_symlink() && !data.join("new").exists());
}

#[test]
fn a_tmpfs_has_the_mode_of_what_it_covers_unless_it_names_one() {
    if !can_run() {
        return;
    }
    let output = Container::new("stat -c %a /var /tmp /new")
        .without_mount("/tmp")
        .mount("/var", "tmpfs", "tmpfs", &[])
        .mount("/tmp", "tmpfs", "tmpfs", &["mode=711"])
        .mount("/new", "tmpfs", "tmpfs", &[]);
    fs::create_dir(output.root.path().join("var")).unwrap();
    assert_eq!(output.run().success(), "755\n711\n1777\n");
}

#[test]
fn a_read_only_tmpfs_can_hold_other_mounts() {
    if !can_run() {
        return;
    }
    let output =
        Container::new("touch /ro/x 2>/dev/null || echo refused; touch /ro/below/x && echo made")
            .mount("/ro", "tmpfs", "tmpfs", &["ro"])
            .mount("/ro/below", "tmpfs", "tmpfs", &[])
            .run()
            .success();
    assert_eq!(output, "refused\nmade\n");
}

#[test]
fn a_remount_changes_what_is_mounted() {
    if !can_run() {
        return;
    }
    let output = Container::new("grep ' /tmp ' /proc/self/mountinfo | cut -d' ' -f6,10")
        .mount("/tmp", "", "", &["bind", "remount", "ro", "noexec"])
        .run()
        .success();
    assert!(output.starts_with("ro,nosuid,nodev,noexec"), "{output}");
    assert!(output.contains(" rw"), "{output}");
    let output = Container::new("grep ' /tmp ' /proc/self/mountinfo | cut -d' ' -f10")
        .mount("/tmp", "tmpfs", "tmp", &["remount", "size=40k"])
        .run()
        .success();
    assert!(output.contains("size=40k"), "{output}");
}

#[test]
fn a_link_may_be_copied_instead_of_followed() {
    if !can_run() {
        return;
    }
    let host = TempDir::new().unwrap();
    let link = host.path().join("link");
    std::os::unix::fs::symlink("/etc/some/where", &link).unwrap();
    let source = link.to_str().unwrap();
    let container = Container::new("readlink /tmp/a/link; stat -c %F /tmp/plain")
        .mount("/tmp/a/link", "bind", source, &["bind", "copy-symlink"])
        .mount("/tmp/a/link", "bind", source, &["bind", "copy-symlink"])
        .mount("/tmp/plain", "bind", "/dev/null", &["bind", "copy-symlink"]);
    assert_eq!(
        container.run().success(),
        "/etc/some/where\ncharacter special file\n"
    );
}

#[test]
fn an_id_mapped_mount_shows_mapped_owners() {
    if !can_run() {
        return;
    }
    let host = tempfile::tempdir_in("/var/tmp").unwrap();
    fs::write(host.path().join("file"), "").unwrap();
    std::os::unix::fs::chown(host.path().join("file"), Some(1000), Some(1001)).unwrap();
    let map = |from: u32| json!([{ "containerID": from, "hostID": 5000, "size": 10 }]);
    let mut container =
        Container::new("stat -c %u:%g /mapped/file /plain/file; touch /mapped/x 2>&1")
            .mount("/plain", "bind", host.path().to_str().unwrap(), &["bind"])
            .mount(
                "/mapped",
                "bind",
                host.path().to_str().unwrap(),
                &["bind", "idmap"],
            );
    let mounts = container.spec["mounts"].as_array_mut().unwrap();
    let mount = mounts.last_mut().unwrap();
    mount["uidMappings"] = map(1000);
    mount["gidMappings"] = map(1000);
    let output = container
        .set("/process/user", json!({ "uid": 5003, "gid": 5004 }))
        .run();
    // The directory is root's, which the mapping does not have.
    assert!(
        output.output.starts_with("5000:5001\n1000:1001\n"),
        "{output:?}"
    );
}

#[test]
fn a_file_system_that_cannot_be_id_mapped_is_an_error() {
    if !can_run() {
        return;
    }
    let map = json!([{ "containerID": 0, "hostID": 5000, "size": 10 }]);
    let mut container = Container::new("true").mount("/mapped", "bind", "/proc", &["bind"]);
    let mount = container.spec["mounts"].as_array_mut().unwrap().last_mut();
    let mount = mount.unwrap();
    mount["uidMappings"] = map.clone();
    mount["gidMappings"] = map;
    assert_eq!(
        container.run().failure(),
        "mapping the ids of bind mount of /proc on /mapped: Operation not supported on transport endpoint"
    );
}

#[test]
fn an_option_too_long_for_fsconfig_is_given_all_the_same() {
    if !can_run() {
        return;
    }
    let host = TempDir::new().unwrap();
    let long = host.path().join("l".repeat(200)).join("m".repeat(100));
    fs::create_dir_all(&long).unwrap();
    fs::write(long.join("lower"), "").unwrap();
    let upper = host.path().join("upper");
    fs::create_dir(&upper).unwrap();
    fs::write(upper.join("upper"), "").unwrap();
    let lower = format!("lowerdir={}:{}", long.display(), upper.display());
    let output =
        Container::new("ls /merged; grep ' /merged ' /proc/self/mountinfo | cut -d' ' -f6")
            .mount(
                "/merged",
                "overlay",
                "overlay",
                &[&lower, "nosuid", "nodev"],
            )
            .run()
            .success();
    assert!(
        output.starts_with("lower\nupper\nrw,nosuid,nodev"),
        "{output}"
    );
}

#[test]
fn any_file_system_of_the_kernel_can_be_mounted() {
    if !can_run() {
        return;
    }
    let output =
        Container::new("grep ' /fs ' /proc/self/mountinfo | sed 's/.* - //' | cut -d' ' -f1,2")
            .mount("/fs", "ramfs", "some-name", &["nodev"])
            .run()
            .success();
    assert_eq!(output, "ramfs some-name\n");
    let message = Container::new("true")
        .mount("/fs", "nofs", "x", &[])
        .run()
        .failure();
    assert_eq!(message, "making nofs on /fs: No such device");
}

#[test]
fn a_selinux_label_needs_a_kernel_with_selinux() {
    if !can_run() {
        return;
    }
    if std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        requirement::skip("needs a kernel without SELinux");
        return;
    }
    let message = Container::new("true")
        .set(
            "/linux/mountLabel",
            json!("system_u:object_r:container_file_t:s0"),
        )
        .run()
        .failure();
    assert!(
        message.starts_with("applying linux.mountLabel"),
        "{message}"
    );
}

#[test]
fn the_cgroups_are_those_of_the_containers_namespace() {
    if !can_run() {
        return;
    }
    let script = "cat /cg/cgroup.procs | head -1; touch /cg/x 2>/dev/null || echo read-only; ls -d /cg/init.scope /cg/*/ 2>/dev/null | wc -l";
    let output = Container::new(script)
        .mount("/cg", "cgroup", "cgroup", &["ro", "nosuid"])
        .run()
        .success();
    assert_eq!(output, "1\nread-only\n0\n");
    let mut container = Container::new("cat /proc/self/cgroup | sed -n 's/^0:://p' | while read p; do test -d /cg$p && echo there; done")
        .mount("/cg", "cgroup", "cgroup", &["ro"]);
    let namespaces = container.spec["linux"]["namespaces"]
        .as_array_mut()
        .unwrap();
    namespaces.retain(|namespace| namespace["type"] != "cgroup");
    assert_eq!(container.run().success(), "there\n");
}

#[test]
fn a_mount_without_relatime_has_the_kernels_default_which_is_relatime() {
    if !can_run() {
        return;
    }
    let output = Container::new("grep -E ' /(a|b) ' /proc/self/mountinfo | cut -d' ' -f5,6 | sort")
        .set("/root/readonly", json!(false))
        .mount("/a", "tmpfs", "tmpfs", &["norelatime"])
        .mount("/b", "tmpfs", "tmpfs", &["rnorelatime"])
        .run()
        .success();
    assert_eq!(output, "/a rw,relatime\n/b rw,relatime\n");
}

#[test]
fn a_masked_directory_is_an_empty_one_for_every_user() {
    if !can_run() {
        return;
    }
    let output = Container::new("ls -A /etc/secret && cat /etc/secret/key; echo $?")
        .set("/process/user", json!({ "uid": 1000, "gid": 1000 }))
        .set("/linux/maskedPaths", json!(["/etc/secret"]));
    let secret = output.root.path().join("etc/secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("key"), "hidden").unwrap();
    let output = output.run().success();
    assert!(
        output.ends_with("No such file or directory\n1\n"),
        "{output}"
    );
}

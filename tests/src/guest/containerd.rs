//! Debian's containerd, by its own command line.

use crate::guest::{Debian, behaviours};

/// Removes all containers.
const CLEAN: &str =
    "for id in $(ctr c ls -q); do ctr t kill -s KILL $id; ctr t rm -f $id; ctr c rm $id; done";

#[test]
fn containerd_runs_real_work() {
    let mut debian = Debian::restored("guest-containerd");
    debian.run(
        "mkdir -p /var/lib/containerd/box && tar -C /var/lib/containerd/box -xf /usr/lib/guest/busybox.tar",
    );
    debian.run("systemctl start containerd");
    debian.hold(
        behaviours![
            a_program_runs_and_its_status_comes_back,
            a_task_goes_through_its_states,
            systemd_makes_the_cgroup,
        ],
        CLEAN,
    );
    debian.end();
}

/// The command that runs a container on the unpacked root.
fn run(debian: &Debian, options: &str, rest: &str) -> String {
    format!(
        "ctr run --runc-binary {} --rootfs {options} /var/lib/containerd/box {rest}",
        debian.runtime
    )
}

fn a_program_runs_and_its_status_comes_back(debian: &mut Debian) {
    let script = run(
        debian,
        "--rm",
        "short /bin/sh -c 'echo hello; exit 7' > /tmp/output",
    );
    assert_eq!(debian.status(&script), 7);
    assert_eq!(debian.run("cat /tmp/output"), "hello\n");
    let inner = run(debian, "--rm -t", "terminal /bin/tty");
    let output = debian.run(&format!("script -qec \"{inner}\" /dev/null"));
    assert!(output.contains("/dev/pts/0"), "{output}");
}

fn a_task_goes_through_its_states(debian: &mut Debian) {
    let script = run(
        debian,
        "-d --memory-limit 33554432 --read-only --seccomp",
        "long /bin/sleep 1000",
    );
    debian.run(&script);
    assert!(debian.run("ctr t ls").contains("RUNNING"));
    let output = debian.run(
        "ctr t exec --exec-id one long /bin/sh -c 'export PATH=/bin; cat /proc/self/status; id -u; touch /x 2>&1; true'",
    );
    assert!(output.contains("Seccomp:\t2"), "{output}");
    assert!(output.contains("Read-only file system"), "{output}");
    let metrics = debian.run("ctr t metrics long");
    assert!(metrics.contains("memory.usage_limit"), "{metrics}");
    assert!(metrics.contains("33554432"), "{metrics}");
    debian.run("ctr t pause long");
    assert!(debian.run("ctr t ls").contains("PAUSED"));
    debian.run("ctr t resume long");
    let processes = debian.run("ctr t ps long");
    assert_eq!(processes.lines().count(), 2, "{processes}");
    debian.run("ctr t kill -s KILL long");
    debian.wait_until("ctr t ls", "STOPPED");
    debian.run("ctr t rm long; ctr c rm long");
}

fn systemd_makes_the_cgroup(debian: &mut Debian) {
    let script = run(
        debian,
        "-d --runc-systemd-cgroup --cgroup machine.slice:ctr:box --memory-limit 33554432",
        "scope /bin/sleep 1000",
    );
    debian.run(&script);
    let memory = debian.run("systemctl show -p MemoryMax ctr-box.scope");
    assert_eq!(memory, "MemoryMax=33554432\n");
    debian.run("ctr t kill -s KILL scope");
    debian.wait_until("ctr t ls", "STOPPED");
    debian.run("ctr t rm scope; ctr c rm scope");
    debian.wait_until("systemctl is-active ctr-box.scope || true", "inactive");
}

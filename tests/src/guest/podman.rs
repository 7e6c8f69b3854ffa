//! Debian's podman.

use crate::guest::{Debian, behaviours};

/// Removes what a behaviour left, but for the service that several look at.
const CLEAN: &str = "podman pod rm -fa; podman ps -a --format '{{.Names}}' | grep -vx web | \
                     xargs -r podman rm -f -t 0";
/// A container that runs what follows, without a network, and is removed.
const RUN: &str = "podman run --rm --network none";

#[test]
fn podman_runs_real_work() {
    let mut debian = Debian::restored("guest-podman");
    start(&mut debian, "systemd");
    debian.hold(
        behaviours![
            a_program_runs_and_its_status_comes_back,
            a_service_publishes_a_port_and_keeps_its_volume,
            a_process_joins_with_and_without_a_terminal,
            logs_top_and_stats_tell_of_it,
            it_pauses_and_goes_on,
            new_limits_hold_at_once,
            its_health_is_checked,
            it_restarts_and_stops,
            too_much_memory_is_killed,
            too_many_processes_are_refused,
            an_image_is_built,
            a_privileged_container_may_what_others_may_not,
            each_container_has_ids_of_its_own,
            ids_are_mapped_as_asked,
            limits_are_raised_in_a_user_namespace,
            the_root_is_read_only_and_what_is_not_is_memory,
            a_device_is_given_with_its_rights,
            dropped_capabilities_are_gone,
            a_profile_of_ones_own_decides_on_system_calls,
            containers_of_a_pod_share_its_namespaces,
            a_program_that_is_not_there_is_named,
            nothing_is_left_behind,
        ],
        CLEAN,
    );
    start(&mut debian, "cgroupfs");
    debian.hold(
        behaviours![
            a_program_runs_and_its_status_comes_back,
            too_much_memory_is_killed,
            too_many_processes_are_refused,
            limits_change_without_systemd,
        ],
        CLEAN,
    );
    debian.end();
}

/// Has podman use the tested runtime and this cgroup manager from now on.
fn start(debian: &mut Debian, manager: &str) {
    let runtime = debian.runtime.clone();
    debian.write(
        "/etc/containers/containers.conf",
        &format!(
            "[engine]\nruntime = \"tested\"\ncgroup_manager = \"{manager}\"\n\
             events_logger = \"file\"\n[engine.runtimes]\ntested = [\"{runtime}\"]\n\
             [containers]\nlog_driver = \"k8s-file\""
        ),
    );
    debian.run("podman import -q /usr/lib/guest/busybox.tar localhost/box");
    let info =
        debian.run("podman info --format '{{.Host.OCIRuntime.Path}} {{.Host.CgroupManager}}'");
    assert_eq!(info, format!("{runtime} {manager}\n"));
}

fn a_program_runs_and_its_status_comes_back(debian: &mut Debian) {
    let status = debian.status(&format!("{RUN} box sh -c 'echo hello; exit 7'"));
    assert_eq!(status, 7);
    let output = debian.run(&format!("echo from outside | {RUN} -i box cat"));
    assert_eq!(output, "from outside\n");
}

fn a_service_publishes_a_port_and_keeps_its_volume(debian: &mut Debian) {
    debian.run(
        "podman run -d --name web --init -p 8080:80 -v kept:/www \
         --memory 64m --pids-limit 100 --cpus 0.5 \
         --health-cmd 'wget -qO- http://127.0.0.1/' --health-interval disable \
         box sh -c 'echo it serves | tee /www/index.html; exec httpd -f -h /www'",
    );
    debian.wait_until("busybox wget -qO- http://127.0.0.1:8080/ 2>&1", "it serves");
    let limits = debian.run(
        "podman exec web sh -c 'cd /sys/fs/cgroup; cat memory.max pids.max cpu.max; cat /proc/1/cmdline'",
    );
    assert!(
        limits.starts_with("67108864\n100\n50000 100000\n"),
        "{limits}"
    );
    assert!(limits.contains("podman-init"), "{limits}");
    let kept = debian.run(&format!("{RUN} -v kept:/kept:ro box cat /kept/index.html"));
    assert_eq!(kept, "it serves\n");
}

fn a_process_joins_with_and_without_a_terminal(debian: &mut Debian) {
    let output = debian
        .run("podman exec -u user -w /tmp -e A=b web sh -c 'id -un; pwd; echo $A; tty'; true");
    assert_eq!(output, "user\n/tmp\nb\nnot a tty\n");
    let output = debian.run(
        "script -qec \"podman exec -it web sh -c 'tty; stty size; echo typed by hand'\" /dev/null",
    );
    assert!(output.contains("/dev/pts/"), "{output}");
    assert!(output.contains("typed by hand"), "{output}");
    assert_eq!(debian.status("podman exec web sh -c 'exit 5'"), 5);
    let output = debian.fail("podman exec web /nowhere 2>&1");
    assert!(output.contains("/nowhere"), "{output}");
    let output = debian.run("script -qec \"podman run --rm --network none -it box tty\" /dev/null");
    assert!(output.contains("/dev/pts/0"), "{output}");
}

fn logs_top_and_stats_tell_of_it(debian: &mut Debian) {
    let log = debian.run("podman logs web");
    assert!(log.contains("it serves"), "{log}");
    let top = debian.run("podman top web args");
    assert!(top.contains("httpd -f -h /www"), "{top}");
    let stats = debian.run("podman stats --no-stream --format '{{.MemUsage}} {{.PIDs}}' web");
    assert!(stats.contains("/ 67.11MB"), "{stats}");
    assert!(!stats.trim().ends_with(" 0"), "{stats}");
}

fn it_pauses_and_goes_on(debian: &mut Debian) {
    debian.run("podman pause web");
    assert!(debian.run("podman ps -a").contains("Paused"));
    debian.fail("busybox wget -T 3 -qO- http://127.0.0.1:8080/");
    debian.run("podman unpause web");
    debian.wait_until("busybox wget -qO- http://127.0.0.1:8080/ 2>&1", "it serves");
}

fn new_limits_hold_at_once(debian: &mut Debian) {
    debian.run("podman update --memory 48m --memory-swap 48m --pids-limit 50 --cpus 0.25 web");
    let limits =
        debian.run("podman exec web sh -c 'cd /sys/fs/cgroup; cat memory.max pids.max cpu.max'");
    assert_eq!(limits, "50331648\n50\n25000 100000\n");
    // systemd knows of them, so it will not set others.
    let scope = debian.run(
        "systemctl show -p MemoryMax -p TasksMax \
         libpod-$(podman inspect -f '{{.Id}}' web).scope",
    );
    assert!(scope.contains("MemoryMax=50331648\n"), "{scope}");
    assert!(scope.contains("TasksMax=50\n"), "{scope}");
}

fn limits_change_without_systemd(debian: &mut Debian) {
    debian.run("podman run -d --name plain --network none --memory 64m box sleep 1000");
    debian.run("podman update --memory 48m --memory-swap 48m plain && podman pause plain && podman unpause plain");
    let cgroup = debian.run("cat /proc/$(podman inspect -f '{{.State.Pid}}' plain)/cgroup");
    assert!(cgroup.starts_with("0::/libpod_parent/libpod-"), "{cgroup}");
    let limit = debian.run("podman exec plain cat /sys/fs/cgroup/memory.max");
    assert_eq!(limit, "50331648\n");
    debian.run("podman rm -f -t 0 plain");
}

fn its_health_is_checked(debian: &mut Debian) {
    debian.run("podman healthcheck run web");
}

fn it_restarts_and_stops(debian: &mut Debian) {
    let pid = "podman inspect -f '{{.State.Pid}}' web";
    let before = debian.run(pid);
    debian.run("podman restart -t 5 web");
    assert_ne!(debian.run(pid), before);
    debian.wait_until("busybox wget -qO- http://127.0.0.1:8080/ 2>&1", "it serves");
    debian.run("podman stop -t 10 web");
    let end = debian.run("podman inspect -f '{{.State.Status}} {{.State.ExitCode}}' web");
    assert_eq!(end, "exited 143\n");
    debian.run("podman rm -v web; podman volume rm kept");
    debian.run(
        "podman run -d --name hears --network none box sh -c \
         'trap \"echo heard; exit 3\" USR1; while :; do sleep 0.1; done'",
    );
    debian.run("sleep 1; podman kill -s USR1 hears");
    assert_eq!(debian.run("podman wait hears"), "3\n");
    assert_eq!(debian.run("podman logs hears"), "heard\n");
    debian.run("podman start hears; podman stop -t 1 hears");
    assert_eq!(
        debian.run("podman inspect -f '{{.State.ExitCode}}' hears"),
        "137\n"
    );
    debian.run("podman rm hears");
}

fn too_much_memory_is_killed(debian: &mut Debian) {
    let status = debian.status(&format!("{RUN} --memory 16m box tail /dev/zero"));
    assert_eq!(status, 137);
}

fn too_many_processes_are_refused(debian: &mut Debian) {
    let output = debian
        .guest
        .run(
            &format!(
                "{RUN} --pids-limit 8 box sh -c 'for i in $(seq 20); do sleep 5 & done; echo all'"
            ),
            crate::guest::SCRIPT,
        )
        .unwrap();
    assert!(output.text.contains("can't fork"), "{}", output.text);
    assert!(!output.text.contains("all\n"), "{}", output.text);
}

fn an_image_is_built(debian: &mut Debian) {
    debian.write(
        "/root/build/Containerfile",
        "FROM localhost/box\nCOPY Containerfile /from\n\
         RUN grep -c FROM /from > /made && id -u >> /made\n\
         USER user\nWORKDIR /tmp\nCMD [\"sh\", \"-c\", \"cat /made; id -u; pwd\"]",
    );
    let runtime = debian.runtime.clone();
    debian.run(&format!(
        "podman build -q --pull=never --network none --runtime {runtime} -t localhost/made /root/build"
    ));
    let output = debian.run(&format!("{RUN} localhost/made"));
    assert_eq!(output, "2\n0\n1000\n/tmp\n");
}

fn a_privileged_container_may_what_others_may_not(debian: &mut Debian) {
    let tries = "mount -t tmpfs none /mnt && dd if=/dev/vda of=/dev/null bs=4k count=1 && \
                 echo 1 > /proc/sys/vm/drop_caches && echo may";
    let script = |how: &str| format!("{RUN} {how} box sh -c 'mkdir -p /mnt; {tries}' 2>&1");
    let output = debian.run(&script("--privileged"));
    assert!(output.contains("may\n"), "{output}");
    debian.fail(&script("--cap-add ALL"));
}

fn each_container_has_ids_of_its_own(debian: &mut Debian) {
    debian.run("podman run -d --name one --userns auto --network none box sleep 1000");
    let script = "cat /proc/self/uid_map; touch /made; stat -c %u /made; id -u";
    let one = debian.run(&format!("podman exec one sh -c '{script}'"));
    let two = debian.run(&format!(
        "{RUN} --userns auto -v own:/own:U box sh -c '{script}'"
    ));
    for output in [&one, &two] {
        let words: Vec<&str> = output.split_whitespace().collect();
        assert_eq!(words.first(), Some(&"0"), "{output}");
        let outside: u32 = words.get(1).and_then(|id| id.parse().ok()).unwrap();
        assert!(outside >= 200_000, "{output}");
        assert!(output.ends_with("\n0\n0\n"), "{output}");
    }
    assert_ne!(one.lines().next(), two.lines().next());
    debian.run("podman rm -f -t 0 one; podman volume rm own");
}

fn ids_are_mapped_as_asked(debian: &mut Debian) {
    let output = debian.run(
        "podman run --rm --uidmap 0:100000:5000 --gidmap 0:200000:5000 box sh -c \
         'cat /proc/self/uid_map /proc/self/gid_map; ip address show lo'",
    );
    let words: Vec<&str> = output.split_whitespace().take(6).collect();
    assert_eq!(
        words,
        ["0", "100000", "5000", "0", "200000", "5000"],
        "{output}"
    );
    // A folder of the machine's root's is the container's root's. (Not one of an
    // overlay, as the guest's root is: the kernel maps no ids of those.)
    debian.run("mkdir -p /tmp/given; echo it > /tmp/given/file");
    let output = debian.run(&format!(
        "{RUN} --uidmap 0:100000:5000 --gidmap 0:100000:5000 -v /tmp/given:/given:idmap box \
         sh -c 'stat -c %u /given/file; touch /given/made'; stat -c %u /tmp/given/made"
    ));
    assert_eq!(output, "0\n0\n");
}

fn limits_are_raised_in_a_user_namespace(debian: &mut Debian) {
    // In there no process may raise a limit above the runtime's own.
    let read = "grep '^Max msgqueue size' /proc/self/limits";
    let own = debian.run(read);
    let hard: u64 = own.split_whitespace().nth(4).unwrap().parse().unwrap();
    let hard = hard + 1;
    let output = debian.run(&format!(
        "{RUN} --uidmap 0:100000:5000 --gidmap 0:100000:5000 --ulimit msgqueue=100:{hard} box {read}"
    ));
    let words: Vec<&str> = output.split_whitespace().skip(3).take(2).collect();
    assert_eq!(words, ["100", hard.to_string().as_str()], "{output}");
}

fn the_root_is_read_only_and_what_is_not_is_memory(debian: &mut Debian) {
    let output = debian.run(&format!(
        "{RUN} --read-only --tmpfs /scratch:size=64k,mode=1777,noexec box sh -c \
         'touch /x 2>&1; echo y > /scratch/y && cat /scratch/y; grep /scratch /proc/mounts; \
          dd if=/dev/zero of=/scratch/z bs=1k count=100 2>&1; true'"
    ));
    assert!(output.contains("Read-only file system"), "{output}");
    assert!(output.contains("y\n"), "{output}");
    assert!(output.contains("size=64k"), "{output}");
    assert!(output.contains("noexec"), "{output}");
    assert!(output.contains("No space left"), "{output}");
}

fn a_device_is_given_with_its_rights(debian: &mut Debian) {
    let read = "dd if=/dev/given of=/dev/null bs=4k count=1";
    let output = debian.fail(&format!(
        "{RUN} --device /dev/vda:/dev/given:r box sh -c \
         '{read} && echo is read && echo x > /dev/given' 2>&1"
    ));
    assert!(output.contains("is read\n"), "{output}");
    assert!(output.contains("not permitted"), "{output}");
    let output = debian.fail(&format!(
        "{RUN} --cap-add MKNOD box sh -c 'mknod /dev/given b 254 0 && {read}' 2>&1"
    ));
    assert!(output.contains("not permitted"), "{output}");
}

fn dropped_capabilities_are_gone(debian: &mut Debian) {
    let status = debian.run(&format!("{RUN} --cap-drop ALL box cat /proc/self/status"));
    assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
    assert!(status.contains("CapBnd:\t0000000000000000"), "{status}");
    let status = debian.run(&format!(
        "{RUN} --cap-drop ALL --cap-add NET_RAW --security-opt no-new-privileges box cat /proc/self/status"
    ));
    assert!(status.contains("CapEff:\t0000000000002000"), "{status}");
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    assert!(status.contains("Seccomp:\t2"), "{status}");
}

fn a_profile_of_ones_own_decides_on_system_calls(debian: &mut Debian) {
    debian.write(
        "/root/profile.json",
        r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],
            "syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28}]}"#,
    );
    let output = debian.fail(&format!(
        "{RUN} --security-opt seccomp=/root/profile.json box mkdir /x 2>&1"
    ));
    assert!(output.contains("No space left"), "{output}");
    let status = debian.run(&format!(
        "{RUN} --security-opt seccomp=unconfined box cat /proc/self/status"
    ));
    assert!(status.contains("Seccomp:\t0"), "{status}");
}

fn containers_of_a_pod_share_its_namespaces(debian: &mut Debian) {
    debian.run("podman pod create --name pod --network none --hostname named");
    debian.run("podman run -d --pod pod --name first box sh -c 'httpd -h /etc; exec sleep 1000'");
    let output = debian.run(
        "podman run --rm --pod pod box sh -c 'hostname; wget -qO- http://127.0.0.1/group | head -1'",
    );
    assert_eq!(output, "named\nroot:x:0:\n");
    debian.run("podman pod rm -f -t 0 pod");
}

fn a_program_that_is_not_there_is_named(debian: &mut Debian) {
    let output = debian.run(&format!("{RUN} box /nowhere 2>&1; echo status $?"));
    assert!(output.contains("/nowhere"), "{output}");
    assert!(output.ends_with("status 127\n"), "{output}");
    assert_eq!(debian.status(&format!("{RUN} box /etc/passwd")), 126);
}

fn nothing_is_left_behind(debian: &mut Debian) {
    assert_eq!(debian.run("podman ps -aq"), "");
    debian.wait_until(
        "ls -d /sys/fs/cgroup/machine.slice/libpod-*.scope 2>/dev/null | wc -l",
        "0",
    );
    debian.wait_until(
        "systemctl list-units --all 'libpod-*.scope' --no-legend | wc -l",
        "0",
    );
    debian.wait_until("grep -lx conmon /proc/[0-9]*/comm 2>/dev/null | wc -l", "0");
}

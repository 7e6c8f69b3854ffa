//! Debian's docker.io with its containerd.

use crate::guest::{Debian, behaviours};

/// Removes what a behaviour left, but for the service that several look at.
const CLEAN: &str = "docker ps -a --format '{{.Names}}' | grep -vx web | xargs -r docker rm -f -v";
/// A container that runs what follows, without a network, and is removed.
const RUN: &str = "docker run --rm --network none";

#[test]
fn docker_runs_real_work() {
    let mut debian = Debian::restored("guest-docker");
    start(&mut debian, "systemd", "");
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
            the_root_is_read_only_and_what_is_not_is_memory,
            a_device_is_given_with_its_rights,
            dropped_capabilities_are_gone,
            a_profile_of_ones_own_decides_on_system_calls,
            the_process_is_as_it_was_asked_for,
            what_failed_is_started_again,
            a_program_that_is_not_there_is_named,
            nothing_is_left_behind,
        ],
        CLEAN,
    );
    start(&mut debian, "cgroupfs", "");
    debian.hold(
        behaviours![
            a_program_runs_and_its_status_comes_back,
            too_much_memory_is_killed,
            too_many_processes_are_refused,
            limits_change_without_systemd,
        ],
        CLEAN,
    );
    start(&mut debian, "systemd", r#","userns-remap":"dockremap""#);
    debian.hold(behaviours![root_in_a_container_is_nobody_outside], CLEAN);
    debian.end();
}

/// Restarts docker with the tested runtime and this cgroup driver.
fn start(debian: &mut Debian, driver: &str, more: &str) {
    let runtime = debian.runtime.clone();
    debian.write(
        "/etc/docker/daemon.json",
        &format!(
            r#"{{"runtimes":{{"tested":{{"path":"{runtime}"}}}},"default-runtime":"tested",
                "exec-opts":["native.cgroupdriver={driver}"]{more}}}"#
        ),
    );
    debian.run("systemctl restart docker && docker import /usr/lib/guest/busybox.tar box");
    let info = debian.run("docker info");
    for line in [
        "Default Runtime: tested".to_owned(),
        format!("Cgroup Driver: {driver}"),
        "Cgroup Version: 2".to_owned(),
    ] {
        assert!(info.contains(&line), "{line}: {info}");
    }
}

fn a_program_runs_and_its_status_comes_back(debian: &mut Debian) {
    let status = debian.status(&format!("{RUN} box sh -c 'echo hello; exit 7'"));
    assert_eq!(status, 7);
    let output = debian.run(&format!("echo from outside | {RUN} -i box cat"));
    assert_eq!(output, "from outside\n");
}

fn a_service_publishes_a_port_and_keeps_its_volume(debian: &mut Debian) {
    debian.run(
        "docker run -d --name web --init -p 8080:80 -v kept:/www \
         --memory 64m --pids-limit 100 --cpus 0.5 \
         --health-cmd 'wget -qO- http://127.0.0.1/' --health-interval 1s --health-start-period 60s \
         box sh -c 'echo it serves | tee /www/index.html; exec httpd -f -h /www'",
    );
    debian.wait_until("busybox wget -qO- http://127.0.0.1:8080/ 2>&1", "it serves");
    let limits = debian.run(
        "docker exec web sh -c 'cd /sys/fs/cgroup; cat memory.max pids.max cpu.max; cat /proc/1/cmdline'",
    );
    assert!(
        limits.starts_with("67108864\n100\n50000 100000\n"),
        "{limits}"
    );
    assert!(limits.contains("docker-init"), "{limits}");
    let kept = debian.run(&format!("{RUN} -v kept:/kept:ro box cat /kept/index.html"));
    assert_eq!(kept, "it serves\n");
}

fn a_process_joins_with_and_without_a_terminal(debian: &mut Debian) {
    let output = debian
        .run("docker exec -u user -w /tmp -e A=b web sh -c 'id -un; pwd; echo $A; tty'; true");
    assert_eq!(output, "user\n/tmp\nb\nnot a tty\n");
    let output = debian.run(
        "script -qec \"docker exec -it web sh -c 'tty; stty size; echo typed by hand'\" /dev/null",
    );
    assert!(output.contains("/dev/pts/"), "{output}");
    assert!(output.contains("typed by hand"), "{output}");
    assert_eq!(debian.status("docker exec web sh -c 'exit 5'"), 5);
    let output = debian.fail("docker exec web /nowhere 2>&1");
    assert!(output.contains("/nowhere"), "{output}");
    let output = debian.run("script -qec \"docker run --rm --network none -it box tty\" /dev/null");
    assert!(output.contains("/dev/pts/0"), "{output}");
}

fn logs_top_and_stats_tell_of_it(debian: &mut Debian) {
    let log = debian.run("docker logs web");
    assert!(log.contains("it serves"), "{log}");
    let top = debian.run("docker top web");
    assert!(top.contains("httpd -f -h /www"), "{top}");
    let stats = debian.run("docker stats --no-stream --format '{{.MemUsage}} {{.PIDs}}' web");
    assert!(stats.contains("/ 64MiB"), "{stats}");
    let pids: u32 = stats
        .split_whitespace()
        .last()
        .and_then(|pids| pids.parse().ok())
        .unwrap();
    assert!(pids >= 2, "{stats}");
}

fn it_pauses_and_goes_on(debian: &mut Debian) {
    debian.run("docker pause web");
    assert!(debian.run("docker ps").contains("(Paused)"));
    debian.fail("busybox wget -T 3 -qO- http://127.0.0.1:8080/");
    debian.run("docker unpause web");
    debian.wait_until("busybox wget -qO- http://127.0.0.1:8080/ 2>&1", "it serves");
}

fn new_limits_hold_at_once(debian: &mut Debian) {
    debian.run("docker update --memory 48m --memory-swap 48m --pids-limit 50 --cpus 0.25 web");
    let limits =
        debian.run("docker exec web sh -c 'cd /sys/fs/cgroup; cat memory.max pids.max cpu.max'");
    assert_eq!(limits, "50331648\n50\n25000 100000\n");
    // What systemd sets again by itself has to be the new ones.
    debian.run("systemctl daemon-reload");
    let again =
        debian.run("docker exec web sh -c 'cd /sys/fs/cgroup; cat memory.max pids.max cpu.max'");
    assert_eq!(again, limits);
    // systemd knows of them, so it will not set others.
    let scope = debian.run(
        "systemctl show -p MemoryMax -p TasksMax \
         docker-$(docker inspect -f '{{.Id}}' web).scope",
    );
    assert!(scope.contains("MemoryMax=50331648\n"), "{scope}");
    assert!(scope.contains("TasksMax=50\n"), "{scope}");
}

fn limits_change_without_systemd(debian: &mut Debian) {
    debian.run("docker run -d --name plain --network none --memory 64m box sleep 1000");
    debian.run("docker update --memory 48m --memory-swap 48m plain && docker pause plain && docker unpause plain");
    let cgroup = debian.run("cat /proc/$(docker inspect -f '{{.State.Pid}}' plain)/cgroup");
    assert!(cgroup.starts_with("0::/docker/"), "{cgroup}");
    let limit = debian.run("docker exec plain cat /sys/fs/cgroup/memory.max");
    assert_eq!(limit, "50331648\n");
    debian.run("docker rm -f plain");
}

fn its_health_is_checked(debian: &mut Debian) {
    let state = "docker inspect -f '{{.State.Health.Status}}' web";
    debian.wait_until(state, "healthy");
}

fn it_restarts_and_stops(debian: &mut Debian) {
    let pid = "docker inspect -f '{{.State.Pid}}' web";
    let before = debian.run(pid);
    debian.run("docker restart -t 5 web");
    assert_ne!(debian.run(pid), before);
    debian.wait_until("busybox wget -qO- http://127.0.0.1:8080/ 2>&1", "it serves");
    debian.run("docker stop -t 10 web");
    let end = debian.run("docker inspect -f '{{.State.Status}} {{.State.ExitCode}}' web");
    assert_eq!(end, "exited 143\n");
    debian.run("docker rm -v web; docker volume rm kept");
    // One that hears what it is sent, and one that does not.
    debian.run(
        "docker run -d --name hears --network none box sh -c \
         'trap \"echo heard; exit 3\" USR1; while :; do sleep 0.1; done'",
    );
    debian.run("sleep 1; docker kill -s USR1 hears");
    assert_eq!(debian.run("docker wait hears"), "3\n");
    assert_eq!(debian.run("docker logs hears"), "heard\n");
    debian.run("docker start hears; docker stop -t 1 hears");
    assert_eq!(
        debian.run("docker inspect -f '{{.State.ExitCode}}' hears"),
        "137\n"
    );
    debian.run("docker rm hears");
}

fn too_much_memory_is_killed(debian: &mut Debian) {
    debian.fail("docker run --name eater --network none --memory 16m box tail /dev/zero");
    let end = debian.run("docker inspect -f '{{.State.OOMKilled}} {{.State.ExitCode}}' eater");
    assert_eq!(end, "true 137\n");
    debian.run("docker rm eater");
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
        "/root/build/Dockerfile",
        "FROM box\nCOPY Dockerfile /from\nRUN grep -c FROM /from > /made && id -u >> /made\n\
         USER user\nWORKDIR /tmp\nCMD [\"sh\", \"-c\", \"cat /made; id -u; pwd\"]",
    );
    debian.run("DOCKER_BUILDKIT=0 docker build -q --network none -t made /root/build");
    let output = debian.run(&format!("{RUN} made"));
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
        "{RUN} box sh -c 'mknod /dev/given b 254 0 && {read}' 2>&1"
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
    let status = debian.run(&format!("{RUN} box cat /proc/self/status"));
    assert!(status.contains("CapEff:\t00000000a80425fb"), "{status}");
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
    // Docker's own: unshare needs a capability that the container has not.
    debian.fail(&format!("{RUN} box unshare -U true"));
}

fn the_process_is_as_it_was_asked_for(debian: &mut Debian) {
    let output = debian.run(&format!(
        "{RUN} --user 1000:1000 --group-add 5 -w /proc -e A=b --hostname named \
         --ulimit nofile=100:200 --oom-score-adj 500 --shm-size 2m \
         --sysctl net.ipv4.ip_unprivileged_port_start=80 \
         box sh -c 'id -u; id -G; pwd; echo $A; hostname; ulimit -n; ulimit -Hn; \
         cat /proc/self/oom_score_adj /proc/sys/net/ipv4/ip_unprivileged_port_start; \
         grep /dev/shm /proc/mounts; ls -l /proc/self/fd | grep -c ^l'"
    ));
    assert!(
        output.starts_with("1000\n1000 5\n/proc\nb\nnamed\n100\n200\n500\n80\n"),
        "{output}"
    );
    assert!(output.contains("size=2048k"), "{output}");
    // Three, and the one that ls reads the folder by.
    assert!(output.ends_with("\n4\n"), "{output}");
    let output = debian.run(&format!(
        "{RUN} --pid host --ipc host --uts host box sh -c 'hostname; ls /proc | grep -c \"^[0-9]\"'"
    ));
    assert!(output.starts_with("guest\n"), "{output}");
    let processes: u32 = output.lines().nth(1).unwrap().parse().unwrap();
    assert!(processes > 10, "{output}");
}

fn what_failed_is_started_again(debian: &mut Debian) {
    debian.run(
        "docker run -d --name again --network none --restart on-failure:2 box sh -c 'echo once; exit 1'",
    );
    debian.wait_until(
        "docker inspect -f '{{.RestartCount}} {{.State.Status}}' again",
        "2 exited",
    );
    assert_eq!(debian.run("docker logs again"), "once\nonce\nonce\n");
    debian.run("docker rm again");
}

fn a_program_that_is_not_there_is_named(debian: &mut Debian) {
    let output = debian.run(&format!("{RUN} box /nowhere 2>&1; echo status $?"));
    assert!(output.contains("/nowhere"), "{output}");
    assert!(output.ends_with("status 127\n"), "{output}");
    assert_eq!(debian.status(&format!("{RUN} box /etc/passwd")), 126);
}

fn nothing_is_left_behind(debian: &mut Debian) {
    assert_eq!(debian.run("docker ps -aq"), "");
    debian.wait_until(
        "ls -d /sys/fs/cgroup/system.slice/docker-*.scope 2>/dev/null | wc -l",
        "0",
    );
    debian.wait_until("ls /run/docker/runtime-*/moby 2>/dev/null | wc -l", "0");
    debian.wait_until(
        "systemctl list-units --all 'docker-*.scope' --no-legend | wc -l",
        "0",
    );
}

fn root_in_a_container_is_nobody_outside(debian: &mut Debian) {
    debian.run(
        "docker run -d --name mapped -v own:/own box sh -c 'touch /own/made; exec sleep 1000'",
    );
    let map = debian.run("docker exec mapped cat /proc/self/uid_map");
    let words: Vec<&str> = map.split_whitespace().collect();
    assert_eq!(words, ["0", "165536", "65536"]);
    let pid = debian.run("docker inspect -f '{{.State.Pid}}' mapped");
    let owner = debian.run(&format!("stat -c %u /proc/{}", pid.trim()));
    assert_eq!(owner, "165536\n");
    assert_eq!(debian.run("docker exec mapped id -u"), "0\n");
    debian.wait_until("docker exec mapped stat -c %u /own/made", "0");
    debian.run("docker rm -f -v mapped");
}

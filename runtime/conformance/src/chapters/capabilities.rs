//! config.md, Linux Process: capabilities.

use nix::errno::Errno;
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::clause::{Check, Clause, Try, demand, must, should};
use crate::probe::Step;
use crate::probe::world::{World, capability_mask, capability_names};
use crate::sys::Call;

pub const CLAUSES: &[Clause] = &[
    must(
        "config.md#linux-process capabilities.effective",
        "the effective set is this one",
        &[],
        effective,
    ),
    must(
        "config.md#linux-process capabilities.permitted",
        "the permitted set is this one",
        &[],
        permitted,
    ),
    must(
        "config.md#linux-process capabilities.bounding",
        "the bounding set is this one",
        &[],
        bounding,
    ),
    must(
        "config.md#linux-process capabilities.inheritable",
        "the inheritable set is this one",
        &[],
        inheritable,
    ),
    must(
        "config.md#linux-process capabilities.ambient",
        "the ambient set is this one, and a user other than root has it as effective",
        &[],
        ambient,
    ),
    must(
        "config.md#linux-process capabilities",
        "absent: none remains in any set",
        &[],
        absent,
    ),
    must(
        "config.md#linux-process capabilities",
        "an empty object: none remains in any set",
        &[],
        empty,
    ),
    must(
        "config.md#linux-process capabilities",
        "what a missing capability forbids is really forbidden, and what one allows is allowed",
        &[],
        really,
    ),
    must(
        "config.md#linux-process capabilities",
        "a user other than root without ambient capabilities has none",
        &[],
        user_without_ambient,
    ),
    should(
        "config.md#linux-process capabilities",
        "a name that the kernel does not know is not an error",
        &[],
        unknown,
    ),
    should(
        "config.md#linux-process capabilities",
        "one that cannot be granted is not an error",
        &[],
        not_granted,
    ),
];

const SOME: [&str; 3] = ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

fn with(bench: &Bench, user: u32, sets: Value) -> Try<World> {
    let mut bundle = bench.bundle()?;
    bundle.set("/process/user", json!({ "uid": user, "gid": user }));
    bundle.set("/process/capabilities", sets);
    bench.world(&mut bundle)
}

fn same(name: &str, found: u64, wanted: &[&str]) -> Check {
    demand!(
        found == capability_mask(wanted),
        "{name} is {:?}",
        capability_names(found)
    );
    Ok(())
}

fn effective(bench: &Bench) -> Check {
    let world = with(
        bench,
        0,
        json!({ "bounding": SOME, "permitted": SOME, "effective": SOME }),
    )?;
    same("effective", world.effective, &SOME)
}

fn permitted(bench: &Bench) -> Check {
    let world = with(
        bench,
        0,
        json!({ "bounding": SOME, "permitted": SOME, "effective": SOME }),
    )?;
    same("permitted", world.permitted, &SOME)
}

fn bounding(bench: &Bench) -> Check {
    let world = with(
        bench,
        1000,
        json!({ "bounding": ["CAP_FOWNER", "CAP_CHOWN"], "permitted": [], "effective": [] }),
    )?;
    same("bounding", world.bounding, &["CAP_FOWNER", "CAP_CHOWN"])
}

fn inheritable(bench: &Bench) -> Check {
    let world = with(
        bench,
        0,
        json!({ "bounding": SOME, "permitted": SOME, "effective": SOME, "inheritable": ["CAP_KILL"] }),
    )?;
    same("inheritable", world.inheritable, &["CAP_KILL"])
}

fn ambient(bench: &Bench) -> Check {
    let world = with(
        bench,
        1000,
        json!({
            "bounding": SOME, "permitted": SOME, "effective": SOME, "inheritable": SOME,
            "ambient": ["CAP_CHOWN", "CAP_KILL"],
        }),
    )?;
    same("ambient", world.ambient, &["CAP_CHOWN", "CAP_KILL"])?;
    same("effective", world.effective, &["CAP_CHOWN", "CAP_KILL"])
}

fn none(world: &World) -> Check {
    same("effective", world.effective, &[])?;
    same("permitted", world.permitted, &[])?;
    same("inheritable", world.inheritable, &[])?;
    same("bounding", world.bounding, &[])?;
    same("ambient", world.ambient, &[])
}

fn absent(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.remove("/process/capabilities");
    none(&bench.world(&mut bundle)?)
}

fn empty(bench: &Bench) -> Check {
    none(&with(bench, 0, json!({}))?)
}

fn really(bench: &Bench) -> Check {
    for (capability, step) in [
        ("CAP_CHOWN", Step::Chown("/etc".to_owned(), 7, 7)),
        ("CAP_MKNOD", Step::Mknod("/node".to_owned(), 'c', 1, 3)),
        (
            "CAP_SYS_ADMIN",
            Step::Mount("x".into(), "/tmp".into(), "tmpfs".into(), 0),
        ),
        ("CAP_SYS_BOOT", Step::Call(Call::Reboot, [0; 6])),
    ] {
        for granted in [true, false] {
            let mut set = capability_names(crate::sys::bounding());
            set.retain(|&name| granted || name != capability);
            let mut bundle = bench.bundle()?;
            bundle.set(
                "/process/capabilities",
                json!({ "bounding": set, "permitted": set, "effective": set }),
            );
            let ran = bench.run(&mut bundle, std::slice::from_ref(&step))?;
            let result = ran.result(0)?;
            let forbidden = result.failed_with(Errno::EPERM);
            demand!(
                forbidden != granted,
                "{capability} {}: {step:?} came to {result}",
                if granted { "granted" } else { "missing" }
            );
        }
    }
    Ok(())
}

fn user_without_ambient(bench: &Bench) -> Check {
    let world = with(
        bench,
        1000,
        json!({ "bounding": SOME, "permitted": SOME, "effective": SOME }),
    )?;
    same("effective", world.effective, &[])?;
    same("permitted", world.permitted, &[])
}

fn unknown(bench: &Bench) -> Check {
    let set = ["CAP_CHOWN", "CAP_NOSUCH"];
    let world = with(
        bench,
        0,
        json!({ "bounding": set, "permitted": set, "effective": set }),
    )?;
    same("effective", world.effective, &["CAP_CHOWN"])
}

fn not_granted(bench: &Bench) -> Check {
    let own = crate::sys::bounding();
    let Some(missing) = crate::probe::world::CAPABILITIES
        .iter()
        .find(|name| own & capability_mask(&[name]) == 0)
    else {
        return Err(crate::clause::Problem::Untried(
            "the suite has every capability".to_owned(),
        ));
    };
    let set = ["CAP_CHOWN", missing];
    let world = with(
        bench,
        0,
        json!({ "bounding": set, "permitted": set, "effective": set }),
    )?;
    same("effective", world.effective, &["CAP_CHOWN"])
}

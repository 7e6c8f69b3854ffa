//! The runtime's own program is out of reach of containers (CVE-2019-5736).

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

use nix::sys::statvfs::{FsFlags, fstatvfs};

use crate::harness::{Box, can_run};

#[test]
fn what_runs_in_the_container_before_its_program_cannot_be_written_to() {
    if !can_run() {
        return;
    }
    let container = Box::new("true");
    container.create();
    // At the gate it still is the runtime's program.
    let path = format!("/proc/{}/exe", container.state()["pid"]);
    let head = |path: &str| {
        let mut bytes = [0; 4096];
        File::open(path)
            .unwrap()
            .read_exact_at(&mut bytes, 0)
            .unwrap();
        bytes
    };
    assert!(head(&path) == head(env!("CARGO_BIN_EXE_wherry-runtime")));
    let error = OpenOptions::new().append(true).open(&path).unwrap_err();
    // Text file busy, as long as any process executes it.
    let refusals = [libc::EROFS, libc::ETXTBSY];
    assert!(refusals.contains(&error.raw_os_error().unwrap()), "{error}");
    // And read-only once none does.
    let flags = fstatvfs(File::open(&path).unwrap()).unwrap().flags();
    assert!(flags.contains(FsFlags::ST_RDONLY));
}

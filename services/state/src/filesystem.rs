//! Makes, checks and repairs the file system, by e2fsprogs.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};

use layout::partition::STATE;

/// Where Debian has the programs.
const E2FSCK: &str = "/usr/sbin/e2fsck";
const MKE2FS: &str = "/usr/sbin/mke2fs";

/// The features, named one by one, so that what a file system has depends on no
/// version's defaults. Against the defaults of ext4: checksums with a seed of
/// their own, so that its id may change, and a file for orphaned inodes.
const FEATURES: &str = "none,has_journal,ext_attr,resize_inode,dir_index,orphan_file,filetype,\
                        extent,64bit,flex_bg,metadata_csum_seed,sparse_super,large_file,\
                        huge_file,dir_nlink,extra_isize,metadata_csum";

/// What e2fsck said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// There was nothing to do.
    Clean,
    /// Errors were found and corrected.
    Repaired,
    /// It could not be repaired.
    Unrepairable,
}

/// Checks the file system of `device` and repairs what it can.
///
/// # Errors
/// e2fsck could not be run.
pub fn check(device: &Path, full: bool, copies: &[(u64, u64)]) -> io::Result<Check> {
    if copies.is_empty() {
        let mut careful = e2fsck(device, "-p");
        if full {
            careful.arg("-f");
        }
        match run(&mut careful)? {
            Code::CLEAN => return Ok(Check::Clean),
            code if code.is_corrected() && is_clean(device)? => return Ok(Check::Repaired),
            _ => {}
        }
        if repair(device, None)? {
            return Ok(Check::Repaired);
        }
    }
    for copy in copies {
        if repair(device, Some(*copy))? {
            return Ok(Check::Repaired);
        }
    }
    Ok(Check::Unrepairable)
}

/// Lets e2fsck decide everything. Returns whether the file system is clean then.
fn repair(device: &Path, copy: Option<(u64, u64)>) -> io::Result<bool> {
    // What it corrects can bring more to light, so it may take a second run;
    // that begins from the superblock that the first has put back.
    for round in 0..2 {
        let mut thorough = e2fsck(device, "-y");
        thorough.arg("-f");
        if let (0, Some((block, block_size))) = (round, copy) {
            thorough.args(["-b", &block.to_string(), "-B", &block_size.to_string()]);
        }
        let code = run(&mut thorough)?;
        if (code == Code::CLEAN || code.is_corrected()) && is_clean(device)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_clean(device: &Path) -> io::Result<bool> {
    let mut check = e2fsck(device, "-n");
    check.arg("-f");
    Ok(run(&mut check)? == Code::CLEAN)
}

fn e2fsck(device: &Path, mode: &str) -> Command {
    let mut command = Command::new(E2FSCK);
    command.arg(mode).arg(device);
    command
}

/// Makes an ext4 file system on all of `device`.
///
/// # Errors
/// mke2fs could not be run, or failed.
pub fn make(device: &Path, length: u64) -> io::Result<()> {
    let mut command = Command::new(MKE2FS);
    command
        .args(["-q", "-F", "-t", "ext4", "-O", FEATURES])
        .args(["-L", STATE, "-b", "4096", "-I", "256"])
        // Many small files: images' layers.
        .args(["-i", "8192"])
        // Nothing is kept back for user 0, whom the containers run as anyway.
        .args(["-m", "0"])
        .args(["-J", &format!("size={}", journal_mib(length))])
        // The kernel zeroes the inode tables later; the journal must not hold
        // what could be taken for its own.
        .args(["-E", "lazy_itable_init=1,lazy_journal_init=0"])
        .arg(device);
    match run(&mut command)? {
        Code::CLEAN => Ok(()),
        Code(code) => Err(io::Error::other(format!("{MKE2FS} ended with code {code}"))),
    }
}

/// The journal's size: what small flash can spare, and what a large disk needs.
fn journal_mib(length: u64) -> u64 {
    match length >> 20 {
        0..128 => 4,
        128..4096 => 16,
        _ => 64,
    }
}

/// An exit code of e2fsck(8) or mke2fs(8); -1 where it was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Code(i32);

impl Code {
    const CLEAN: Self = Self(0);

    /// Errors were corrected (1); on a root file system a reboot would be
    /// needed (2), which it is not.
    fn is_corrected(self) -> bool {
        (1..4).contains(&self.0)
    }
}

/// Runs a program. What it prints goes to standard error, for the log: standard
/// output is the report's.
fn run(command: &mut Command) -> io::Result<Code> {
    let output = io::stderr().as_fd().try_clone_to_owned()?;
    let status = command
        .stdin(Stdio::null())
        .stdout(output)
        .status()
        .map_err(|error| {
            let program = command.get_program().display().to_string();
            io::Error::new(error.kind(), format!("cannot run {program}: {error}"))
        })?;
    Ok(Code(status.code().unwrap_or(-1)))
}

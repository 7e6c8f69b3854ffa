//! The kernel's IPv6 switches of one link.
//!
//! They are files below `/proc/sys/net`, which a container sees read-only; the
//! service's definition mounts them once more where it may write. Where they
//! cannot be written the kernel's defaults hold, which differ in little.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::Ipv6;

/// Where the definition mounts `/proc/sys/net`, and where it is otherwise.
const ROOTS: [&str; 2] = ["/run/sysctl/net", "/proc/sys/net"];

/// Sets the switches of a link before it is set up. An error names the first
/// that could not be set.
pub fn prepare(link: &str, ipv6: Ipv6) -> Result<(), (PathBuf, io::Error)> {
    let root = ROOTS
        .iter()
        .map(Path::new)
        .find(|root| root.exists())
        .unwrap_or(Path::new(ROOTS[1]));
    let directory = root.join("ipv6/conf").join(link);
    if !directory.exists() {
        // A kernel without IPv6.
        return Ok(());
    }
    for (name, value) in switches(ipv6) {
        set(&directory.join(name), value)?;
    }
    Ok(())
}

fn switches(ipv6: Ipv6) -> &'static [(&'static str, &'static str)] {
    match ipv6 {
        Ipv6::Auto => &[
            ("disable_ipv6", "0"),
            // Also where the machine routes for its containers.
            ("accept_ra", "2"),
            ("autoconf", "1"),
            // Addresses can be used while duplicates are looked for.
            ("optimistic_dad", "1"),
            ("use_optimistic", "1"),
        ],
        Ipv6::Static => &[
            ("disable_ipv6", "0"),
            ("accept_ra", "0"),
            ("autoconf", "0"),
            ("optimistic_dad", "1"),
            ("use_optimistic", "1"),
        ],
        Ipv6::Off => &[("disable_ipv6", "1")],
    }
}

/// Writes only what is different: each write has the kernel act.
fn set(path: &Path, value: &str) -> Result<(), (PathBuf, io::Error)> {
    match fs::read_to_string(path) {
        Ok(is) if is.trim() == value => return Ok(()),
        // This kernel does not have the switch.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(_) | Err(_) => {}
    }
    fs::write(path, value).map_err(|error| (path.to_owned(), error))
}

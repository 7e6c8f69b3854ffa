//! What is between a machine and its disk's file: a log of all writes, faults.

use crate::Error;
use serde_json::{Value, json};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// QEMU's block layer between the disk that a machine sees and its raw file.
#[derive(Debug, Clone, Default)]
pub struct Storage {
    /// Where each write and flush is logged (dm-log-writes' format).
    pub log: Option<PathBuf>,
    /// Which requests fail.
    pub faults: Vec<Fault>,
    /// Whether the disk cannot be written to.
    pub read_only: bool,
}

/// Requests of the disk that fail with EIO.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Which kind of request.
    pub operation: Operation,
    /// Only requests that touch this sector of 512 bytes; without it all.
    pub sector: Option<u64>,
}

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Waiting until what was written is on the medium.
    Flush,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
        }
    }
}

impl Storage {
    /// Adds the disk with `file`'s content to a machine.
    pub(crate) fn attach(&self, qemu: &mut Command, file: &Path) -> Result<(), Error> {
        for node in self.nodes(file) {
            qemu.args(["-blockdev", &node.to_string()]);
        }
        if let Some(log) = &self.log {
            // QEMU writes to it but does not make it.
            File::create(log).map_err(Error::io("create", log))?;
        }
        // The error is the guest's to see; QEMU would stop the machine on ENOSPC.
        qemu.args([
            "-device",
            "virtio-blk-pci,drive=disk,werror=report,rerror=report",
        ]);
        Ok(())
    }

    /// Each node's children come before it; the last is the disk.
    fn nodes(&self, file: &Path) -> Vec<Value> {
        let mut nodes = vec![json!({
            "driver": "file", "filename": file, "discard": "unmap",
            "read-only": self.read_only,
        })];
        if !self.faults.is_empty() {
            let rules: Vec<Value> = self.faults.iter().map(rule).collect();
            nodes.push(json!({ "driver": "blkdebug", "inject-error": rules }));
        }
        nodes.push(json!({
            "driver": "raw", "discard": "unmap", "read-only": self.read_only,
        }));
        if self.log.is_some() {
            // A sector of the log for each request, so 512 bytes as the disk's.
            nodes.push(json!({
                "driver": "blklogwrites", "log": "log", "log-super-update-interval": 1,
            }));
        }
        let last = nodes.len() - 1;
        for (number, node) in nodes.iter_mut().enumerate() {
            node["node-name"] = match number {
                number if number == last => json!("disk"),
                number => json!(format!("disk-{number}")),
            };
            if number > 0 {
                let child = if node["driver"] == "blkdebug" {
                    "image"
                } else {
                    "file"
                };
                node[child] = json!(format!("disk-{}", number - 1));
            }
        }
        if let Some(log) = &self.log {
            nodes.insert(
                0,
                json!({ "driver": "file", "node-name": "log", "filename": log }),
            );
        }
        nodes
    }
}

fn rule(fault: &Fault) -> Value {
    // Without an event a rule holds from the start and for all requests.
    let mut rule = json!({
        "event": "none", "iotype": fault.operation.name(), "errno": 5,
    });
    if let Some(sector) = fault.sector {
        rule["sector"] = json!(sector);
    }
    rule
}

#[cfg(test)]
mod tests {
    use super::{Fault, Operation, Storage};
    use std::path::{Path, PathBuf};

    #[test]
    fn log_and_faults_are_between_the_machine_and_the_file() {
        let storage = Storage {
            log: Some(PathBuf::from("/log")),
            faults: vec![Fault {
                operation: Operation::Write,
                sector: Some(7),
            }],
            read_only: false,
        };
        let nodes = storage.nodes(Path::new("/disk"));
        let described: Vec<String> = nodes
            .iter()
            .map(|node| {
                let child = node.get("file").or(node.get("image"));
                format!(
                    "{} {} on {}",
                    node["driver"].as_str().unwrap(),
                    node["node-name"].as_str().unwrap(),
                    child.map_or("nothing", |name| name.as_str().unwrap()),
                )
            })
            .collect();
        assert_eq!(
            described,
            [
                "file log on nothing",
                "file disk-0 on nothing",
                "blkdebug disk-1 on disk-0",
                "raw disk-2 on disk-1",
                "blklogwrites disk on disk-2",
            ]
        );
        assert_eq!(nodes[2]["inject-error"][0]["sector"], 7);
    }
}

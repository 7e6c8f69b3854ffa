//! The program that hooks run: this binary, started as `hook LOG NAME …`. It
//! notes its name, its standard input and its surroundings in a file, then ends
//! as it was told.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::world;

/// What a hook noted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Note {
    pub name: String,
    /// Standard input, `null` if it is not JSON.
    pub state: Value,
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub namespaces: BTreeMap<String, String>,
    pub pid: i32,
    pub cwd: Option<String>,
    pub hostname: String,
    pub mounts: Vec<world::Mount>,
    pub descriptors: BTreeMap<i32, String>,
    /// The namespaces of the state's pid, as this hook sees them.
    pub container: BTreeMap<String, String>,
    /// The mount table of the state's pid.
    pub container_mounts: Vec<world::Mount>,
    /// What the state's pid runs.
    pub container_program: String,
    /// Whether `/probe` is in this root: then it is the container's.
    pub in_root: bool,
    /// Whether `/user-program-ran` is in this root.
    pub user_program_ran: bool,
}

/// `hook LOG NAME [exit CODE | sleep SECONDS]`. Returns the exit code.
pub fn main(arguments: &[String]) -> i32 {
    let [log, name, rest @ ..] = arguments else {
        eprintln!("hook: LOG NAME [exit CODE | sleep SECONDS]");
        return 2;
    };
    let mut input = String::new();
    let state = match std::io::stdin().read_to_string(&mut input) {
        Ok(_) => serde_json::from_str(&input).unwrap_or(Value::Null),
        Err(_) => Value::Null,
    };
    let world = world::look();
    let pid = state["pid"].to_string();
    let note = Note {
        name: name.clone(),
        state,
        args: world.args,
        env: world.env,
        namespaces: world.namespaces,
        pid: world.pid,
        cwd: world.cwd,
        hostname: world.hostname,
        mounts: world.mounts,
        descriptors: world.descriptors,
        container: world::namespaces_of(&pid),
        container_mounts: world::mounts_of(&pid),
        container_program: world::program_of(&pid),
        in_root: std::path::Path::new("/probe").exists(),
        user_program_ran: std::path::Path::new("/user-program-ran").exists(),
    };
    let mut line = serde_json::to_string(&note).unwrap_or_default();
    line.push('\n');
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .and_then(|mut file| file.write_all(line.as_bytes()));
    if let Err(error) = written {
        eprintln!("hook: {log}: {error}");
        return 3;
    }
    let number = |at: usize| rest.get(at).and_then(|text| text.parse().ok()).unwrap_or(0);
    match rest.first().map(String::as_str) {
        Some("exit") => number(1) as i32,
        Some("sleep") => {
            std::thread::sleep(Duration::from_secs(number(1)));
            0
        }
        _ => 0,
    }
}

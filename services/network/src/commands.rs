//! `network check` and `network status`.

use std::fs;
use std::process::ExitCode;

use crate::clock;
use crate::kernel::{Kernel, Snapshot};
use crate::learned::Moment;
use crate::options::Options;
use crate::status::{LinkStatus, Status, VERSION};

/// The health probe: success where each required link that has a carrier has
/// its addresses, in what the service says and in the kernel. Prints what is
/// missing.
pub async fn check(options: &Options) -> ExitCode {
    let missing = match (read(options), snapshot().await) {
        (Ok(status), Ok(snapshot)) => missing(&status, &snapshot),
        (Err(error), _) | (_, Err(error)) => vec![error],
    };
    for line in &missing {
        println!("{line}");
    }
    if missing.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn snapshot() -> Result<Snapshot, String> {
    let kernel = Kernel::connect().map_err(|error| format!("no netlink: {error}"))?;
    kernel.snapshot().await.map_err(|error| error.to_string())
}

fn read(options: &Options) -> Result<Status, String> {
    let path = options.status_file();
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let status: Status =
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    if status.version != VERSION {
        return Err(format!("{}: version {}", path.display(), status.version));
    }
    Ok(status)
}

fn missing(status: &Status, snapshot: &Snapshot) -> Vec<String> {
    let mut lines = Vec::new();
    for link in &status.links {
        if link.lacks() {
            lines.push(format!(
                "{}: lacks {}",
                link.name,
                link.missing.join(" and ")
            ));
        }
        if !(link.required && link.carrier) {
            continue;
        }
        let there = snapshot.addresses_of(link.index);
        for address in &link.addresses {
            let ours = matches!(address.origin.as_str(), "static" | "dhcp4" | "dhcp6");
            if ours && there.iter().all(|other| other.prefix != address.address) {
                lines.push(format!(
                    "{}: the kernel lacks {}",
                    link.name, address.address
                ));
            }
        }
    }
    lines
}

/// A table for people.
pub fn status(options: &Options) -> ExitCode {
    match read(options) {
        Ok(status) => {
            print!("{}", table(&status, clock::now()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn table(status: &Status, now: Moment) -> String {
    let mut rows = vec![["LINK", "STATE", "ADDRESS", "ORIGIN", "LEASE"].map(str::to_owned)];
    for link in &status.links {
        let state = match (link.carrier, link.missing.is_empty()) {
            (false, _) => "no carrier",
            (true, false) => "incomplete",
            (true, true) => "up",
        };
        let mut first = [link.name.clone(), state.to_owned()];
        for address in &link.addresses {
            let [name, state] = std::mem::take(&mut first);
            let origin = match address.duplicate {
                true => format!("{} (duplicate)", address.origin),
                false => address.origin.clone(),
            };
            let lease = lease(link, &address.origin, now);
            rows.push([name, state, address.address.to_string(), origin, lease]);
        }
        for missing in &link.missing {
            let [name, state] = std::mem::take(&mut first);
            rows.push([
                name,
                state,
                format!("lacks {missing}"),
                String::new(),
                String::new(),
            ]);
        }
        if let [name, state] = first
            && !name.is_empty()
        {
            rows.push([name, state, "-".to_owned(), String::new(), String::new()]);
        }
    }
    let mut text = String::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            let width = rows.iter().map(|row| row[column].chars().count()).max();
            text.push_str(&format!("{cell:<width$}  ", width = width.unwrap_or(0)));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    let routes = status.links.iter().flat_map(|link| {
        let defaults = link
            .routes
            .iter()
            .filter(|route| route.to.prefix_len() == 0);
        defaults.filter_map(|route| Some(format!("{} over {}", route.via?, link.name)))
    });
    for (title, values) in [
        ("gateway", routes.collect()),
        ("dns", status.dns.servers.clone()),
        ("search", status.dns.search.clone()),
        ("ntp", status.ntp.clone()),
        (
            "error",
            status.configuration.error.iter().cloned().collect(),
        ),
    ] {
        if !values.is_empty() {
            text.push_str(&format!("{title}: {}\n", values.join(", ")));
        }
    }
    text
}

/// For how long the lease behind an address of this origin holds.
fn lease(link: &LinkStatus, origin: &str, now: Moment) -> String {
    let expires = match origin {
        "dhcp4" => link.dhcp4.as_ref().map(|lease| lease.expires),
        "dhcp6" => link.dhcp6.as_ref().map(|lease| lease.expires),
        _ => None,
    };
    match expires {
        None => String::new(),
        Some(None) => "for ever".to_owned(),
        Some(Some(expires)) => {
            let left = expires.saturating_sub(now);
            format!("{}h {:02}m {:02}s", left / 3600, left / 60 % 60, left % 60)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Status {
        let page = include_str!("../../../docs/network.md");
        let example = page
            .split("```json\n")
            .nth(1)
            .unwrap()
            .split("```")
            .next()
            .unwrap();
        serde_json::from_str(example).unwrap()
    }

    #[test]
    fn the_table_shows_addresses_gateway_and_dns() {
        let table = table(&example(), 1000);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(
            lines,
            [
                "LINK  STATE  ADDRESS          ORIGIN      LEASE",
                "eth0  up     10.0.2.15/24     dhcp4       23h 43m 22s",
                "             fe80::5054:1/64  link-local",
                "gateway: 10.0.2.2 over eth0",
                "dns: 10.0.2.3",
                "search: example.org",
                "ntp: 10.0.2.9",
            ]
        );
    }

    #[test]
    fn an_address_that_the_kernel_lost_is_missing() {
        assert_eq!(
            missing(&example(), &Snapshot::default()),
            ["eth0: the kernel lacks 10.0.2.15/24"]
        );
    }
}

//! The file's own types, and their translation into a [`Config`].

use config::Fault;
use config::value::{AbsolutePath, Duration, OneOrMany, OrNone, Rate, within};
use serde::Deserialize;

use super::value::{ChannelName, ClientId, Clock, Day, Group, HttpUrl, Source, Zone};
use super::{Config, LockServer, Mode};
use crate::Window;

/// `update.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct File {
    repository: Option<OneOrMany<Source>>,
    channel: Option<ChannelName>,
    mode: Option<Mode>,
    check_interval: Option<Duration>,
    health_time: Option<Duration>,
    health_limit: Option<Duration>,
    rate_limit: Option<OrNone<Rate>>,
    connections: Option<i64>,
    proxy: Option<OrNone<HttpUrl>>,
    certificates: Option<OrNone<AbsolutePath>>,
    time_zone: Option<Zone>,
    windows: Option<Vec<WindowTable>>,
    fleet_lock: Option<OrNone<LockTable>>,
    reboot_delay: Option<Duration>,
    reboot_spread: Option<Duration>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WindowTable {
    days: Option<Vec<Day>>,
    start: Clock,
    length: Duration,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct LockTable {
    url: HttpUrl,
    group: Option<Group>,
    id: Option<ClientId>,
}

const ZERO: Duration = Duration::from_secs(0);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86400);

/// More than that, to each of many machines, looks like an attack to a server.
const MOST_CONNECTIONS: i64 = 16;

/// Below this even the metadata takes minutes.
const SLOWEST: Rate = Rate(1024);

/// The configuration, with the file's values over it.
pub fn overlay(mut config: Config, file: File) -> Result<Config, Fault> {
    if let Some(OneOrMany(sources)) = file.repository {
        for (index, Source(source)) in sources.iter().enumerate() {
            if sources[..index].iter().any(|other| other.0 == *source) {
                let fault = Fault::new(format!("'{source}' is there twice"));
                return Err(fault.at(index).at("repository"));
            }
        }
        config.repositories = sources.into_iter().map(|source| source.0).collect();
    }
    set(&mut config.channel, file.channel.map(|name| name.0));
    set(&mut config.mode, file.mode);
    let duration = |key, value: Option<Duration>, least, most| match value {
        None => Ok(None),
        Some(value) => within(value, least..=most)
            .map(|value| Some(value.0))
            .map_err(|fault| fault.at(key)),
    };
    // Checking less than monthly is useless; more than once a minute, the fleet
    // overloads the server.
    let longest = Duration::from_secs(30 * 86400);
    set(
        &mut config.check_interval,
        duration("check-interval", file.check_interval, MINUTE, longest)?,
    );
    set(
        &mut config.health_time,
        duration("health-time", file.health_time, SECOND, DAY)?,
    );
    set(
        &mut config.health_limit,
        duration("health-limit", file.health_limit, SECOND, DAY)?,
    );
    if config.health_limit <= config.health_time {
        let limit = Duration(config.health_limit);
        let time = Duration(config.health_time);
        let why = "no release could prove itself in time";
        return Err(if file.health_limit.is_some() {
            Fault::new(format!(
                "{limit} is not longer than `health-time`, {time}: {why}"
            ))
            .at("health-limit")
        } else {
            Fault::new(format!(
                "{time} is not shorter than `health-limit`, {limit}: {why}"
            ))
            .at("health-time")
        });
    }
    if let Some(OrNone(rate)) = file.rate_limit {
        if let Some(rate) = rate
            && rate < SLOWEST
        {
            let fault = Fault::new(format!(
                "{rate} is too slow to update by, expected {SLOWEST} or more, or \"none\""
            ));
            return Err(fault.at("rate-limit"));
        }
        config.rate_limit = rate.map(|rate| rate.0);
    }
    if let Some(number) = file.connections {
        let number =
            within(number, 1..=MOST_CONNECTIONS).map_err(|fault| fault.at("connections"))?;
        set(&mut config.connections, usize::try_from(number).ok());
    }
    set(
        &mut config.proxy,
        file.proxy.map(|OrNone(proxy)| proxy.map(|url| url.0)),
    );
    set(
        &mut config.certificates,
        file.certificates
            .map(|OrNone(path)| path.map(|path| path.as_path().to_owned())),
    );
    set(&mut config.windows.zone, file.time_zone.map(|zone| zone.0));
    if let Some(tables) = file.windows {
        config.windows.windows = tables
            .into_iter()
            .enumerate()
            .map(|(index, table)| window(table).map_err(|fault| fault.at(index).at("windows")))
            .collect::<Result<_, _>>()?;
    }
    if let Some(OrNone(table)) = file.fleet_lock {
        config.fleet_lock = table.map(|table| LockServer {
            url: table.url.0.trim_end_matches('/').to_owned(),
            group: table
                .group
                .map_or_else(|| "default".to_owned(), |group| group.0),
            id: table.id.map(|id| id.0),
        });
    }
    set(
        &mut config.reboot_delay,
        duration("reboot-delay", file.reboot_delay, ZERO, DAY)?,
    );
    set(
        &mut config.reboot_spread,
        duration("reboot-spread", file.reboot_spread, ZERO, DAY)?,
    );
    Ok(config)
}

fn set<T>(value: &mut T, new: Option<T>) {
    if let Some(new) = new {
        *value = new;
    }
}

fn window(table: WindowTable) -> Result<Window, Fault> {
    use jiff::civil::Weekday::{Friday, Monday, Saturday, Sunday, Thursday, Tuesday, Wednesday};
    let days = match table.days {
        None => vec![
            Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday,
        ],
        Some(days) if days.is_empty() => {
            let fault = Fault::new("no day at all; leave the key out for every day");
            return Err(fault.at("days"));
        }
        Some(days) => {
            if let Some(twice) = (1..days.len()).find(|at| days[..*at].contains(&days[*at])) {
                return Err(Fault::new("this day is there twice").at(twice).at("days"));
            }
            days.into_iter().map(|day| day.0).collect()
        }
    };
    // A machine needs a few minutes for a reboot and to prove itself.
    let (least, most) = (Duration::from_secs(600), Duration::from_secs(7 * 86400));
    let length = within(table.length, least..=most).map_err(|fault| fault.at("length"))?;
    Ok(Window {
        days,
        start: table.start.0,
        length: length.0,
    })
}

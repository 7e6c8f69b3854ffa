//! The file's own types, and their translation into a [`Config`].

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::value::{
    AbsolutePath, ChannelName, ClientId, Clock, Day, Group, HttpUrl, Length, OrNone, Rate, Sources,
    TableOrNone, Zone,
};
use super::{Config, LockServer, Mode};
use crate::Window;

/// What is wrong, and at which byte of the file.
pub struct Wrong {
    pub offset: usize,
    pub message: String,
}

/// `update.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    repository: Option<Sources>,
    channel: Option<ChannelName>,
    mode: Option<ModeName>,
    check_interval: Option<Spanned<Length>>,
    health_time: Option<Spanned<Length>>,
    health_limit: Option<Spanned<Length>>,
    rate_limit: Option<Rate>,
    connections: Option<Spanned<i64>>,
    proxy: Option<OrNone<HttpUrl>>,
    certificates: Option<OrNone<AbsolutePath>>,
    time_zone: Option<Zone>,
    windows: Option<Vec<WindowTable>>,
    fleet_lock: Option<TableOrNone<LockTable>>,
    reboot_delay: Option<Spanned<Length>>,
    reboot_spread: Option<Spanned<Length>>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
struct ModeName(Mode);

impl TryFrom<String> for ModeName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Ok(Self(match text.as_str() {
            "automatic" => Mode::Automatic,
            "download" => Mode::Download,
            "manual" => Mode::Manual,
            _ => {
                return Err(format!(
                    "'{text}' is no mode; write automatic, download or manual"
                ));
            }
        }))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WindowTable {
    days: Option<Spanned<Vec<Day>>>,
    start: Clock,
    length: Spanned<Length>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct LockTable {
    url: HttpUrl,
    group: Option<Group>,
    id: Option<ClientId>,
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86400);

/// More than that, to each of many machines, looks like an attack to a server.
const MOST_CONNECTIONS: i64 = 16;

/// The configuration with what the text says instead.
pub fn overlay(mut config: Config, text: &str) -> Result<Config, Wrong> {
    let file: File = toml::from_str(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        Wrong {
            offset,
            message: name_key(text, offset, error.message()),
        }
    })?;
    set(&mut config.repositories, file.repository.map(|list| list.0));
    set(&mut config.channel, file.channel.map(|name| name.0));
    set(&mut config.mode, file.mode.map(|mode| mode.0));
    // News that comes a month late is no news; more often than each minute the
    // fleet is a load on the server.
    let length = |key, value, least, most| within(key, value, least, most);
    let second = Duration::from_secs(1);
    set(
        &mut config.check_interval,
        length(
            "check-interval",
            file.check_interval.as_ref(),
            MINUTE,
            30 * DAY,
        )?,
    );
    set(
        &mut config.health_time,
        length("health-time", file.health_time.as_ref(), second, DAY)?,
    );
    set(
        &mut config.health_limit,
        length("health-limit", file.health_limit.as_ref(), second, DAY)?,
    );
    if config.health_limit <= config.health_time {
        let at = file.health_limit.as_ref().or(file.health_time.as_ref());
        return Err(Wrong {
            offset: at.map_or(0, |value| value.span().start),
            message: format!(
                "key `health-limit`: {} is not longer than `health-time`, {}: no release could \
                 prove itself in time",
                humantime::format_duration(config.health_limit),
                humantime::format_duration(config.health_time)
            ),
        });
    }
    set(&mut config.rate_limit, file.rate_limit.map(|rate| rate.0));
    if let Some(number) = file.connections {
        config.connections = usize::try_from(*number.get_ref())
            .ok()
            .filter(|_| (1..=MOST_CONNECTIONS).contains(number.get_ref()))
            .ok_or_else(|| Wrong {
                offset: number.span().start,
                message: format!(
                    "key `connections`: {} is not within 1..{MOST_CONNECTIONS}",
                    number.get_ref()
                ),
            })?;
    }
    let proxy = file.proxy.map(OrNone::into_option);
    set(&mut config.proxy, proxy.map(|proxy| proxy.map(|url| url.0)));
    let certificates = file.certificates.map(OrNone::into_option);
    set(
        &mut config.certificates,
        certificates.map(|path| path.map(|path| path.0)),
    );
    set(&mut config.windows.zone, file.time_zone.map(|zone| zone.0));
    if let Some(tables) = file.windows {
        config.windows.windows = tables.into_iter().map(window).collect::<Result<_, _>>()?;
    }
    if let Some(TableOrNone(table)) = file.fleet_lock {
        config.fleet_lock = table.map(|table| LockServer {
            url: table.url.0.trim_end_matches('/').to_owned(),
            group: table
                .group
                .map_or_else(|| "default".to_owned(), |group| group.0),
            id: table.id.map(|id| id.0),
        });
    }
    let zero = Duration::ZERO;
    set(
        &mut config.reboot_delay,
        length("reboot-delay", file.reboot_delay.as_ref(), zero, DAY)?,
    );
    set(
        &mut config.reboot_spread,
        length("reboot-spread", file.reboot_spread.as_ref(), zero, DAY)?,
    );
    Ok(config)
}

fn set<T>(value: &mut T, new: Option<T>) {
    if let Some(new) = new {
        *value = new;
    }
}

/// The length of time, where it makes sense for the key.
fn within(
    key: &str,
    value: Option<&Spanned<Length>>,
    least: Duration,
    most: Duration,
) -> Result<Option<Duration>, Wrong> {
    let Some(value) = value else {
        return Ok(None);
    };
    let length = value.get_ref().0;
    if length < least || length > most {
        return Err(Wrong {
            offset: value.span().start,
            message: format!(
                "key `{key}`: {} is not within {}..{}",
                humantime::format_duration(length),
                humantime::format_duration(least),
                humantime::format_duration(most)
            ),
        });
    }
    Ok(Some(length))
}

fn window(table: WindowTable) -> Result<Window, Wrong> {
    use jiff::civil::Weekday::{Friday, Monday, Saturday, Sunday, Thursday, Tuesday, Wednesday};
    let days = match table.days {
        None => vec![
            Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday,
        ],
        Some(days) => {
            let list = days.get_ref();
            let twice = (1..list.len()).find(|at| list[..*at].contains(&list[*at]));
            if list.is_empty() || twice.is_some() {
                return Err(Wrong {
                    offset: days.span().start,
                    message: if list.is_empty() {
                        "key `days`: no day at all; leave the key out for every day".to_owned()
                    } else {
                        "key `days`: a day is there twice".to_owned()
                    },
                });
            }
            list.iter().map(|day| day.0).collect()
        }
    };
    // A machine needs a few minutes for a reboot and to prove itself.
    let length = within("length", Some(&table.length), 10 * MINUTE, 7 * 24 * HOUR)?;
    Ok(Window {
        days,
        start: table.start.0,
        length: length.unwrap_or_default(),
    })
}

/// The error with the key that it is about, which the parser names only where
/// it is unknown or missing.
fn name_key(text: &str, offset: usize, message: &str) -> String {
    let message = message
        .trim()
        .replace('\n', ", ")
        .replace("unknown field", "unknown key")
        .replace("missing field", "missing key")
        .replace("duplicate key", "this key is there twice")
        .replace("expected a string", "expected text in quotation marks")
        .replace("expected i64", "expected a whole number");
    if message.contains("unknown key") || message.contains("missing key") {
        return message;
    }
    // Values stand behind their key; in an inline table several do on one line.
    let before = text.get(..offset).unwrap_or(text);
    let start = before.rfind(['\n', '{', ',']).map_or(0, |end| end + 1);
    let start = if before[start..].contains('=') {
        start
    } else {
        before.rfind('\n').map_or(0, |end| end + 1)
    };
    match before[start..].split_once('=') {
        Some((key, _)) => format!("key `{}`: {message}", key.trim()),
        None => message,
    }
}

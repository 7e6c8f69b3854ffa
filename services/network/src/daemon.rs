//! The loop: waits for a report of the kernel, a lease, a signal or a moment;
//! then looks at everything and puts right what is not as it should be.
//!
//! What should be is worked out anew each time ([`crate::plan`]), so it does
//! not matter in which order things happen, or whether the service has just
//! been started again and finds its own addresses. On its end it leaves
//! everything as it is, and releases no lease: a restart must not be noticed,
//! and at a shutdown the lease ends by itself.

mod managed;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use service::Notify;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::clock;
use crate::config::{Candidate, Config, LinkConfig, parse};
use crate::kernel::{Kernel, KernelError, Snapshot};
use crate::learned::{Lease4, Lease6, most};
use crate::options::Options;
use crate::plan::{self, Link, Wanted};
use crate::status::{self, State, Status, View};
use crate::watch::{Report, Watch};
use crate::{dhcp4, dhcp6, logger, sysctl};
use config::last_good::{self, Loaded};
use managed::Managed;

/// Runs until SIGTERM or SIGINT.
pub async fn run(options: Options) -> ExitCode {
    logger::start();
    match Service::start(options) {
        Ok(service) => service.run().await,
        Err(error) => {
            log::error!("the service does not start: {error}");
            ExitCode::FAILURE
        }
    }
}

/// How long a link that was just set up may take to find its carrier before
/// the service says that it is ready without. Drivers report it from a work
/// queue within milliseconds, also where the cable has been there all along;
/// finding the speed with the other end can take seconds, and is not waited
/// for.
const CARRIER: Duration = Duration::from_millis(300);

/// After an error of netlink itself.
const RETRY: Duration = Duration::from_secs(5);

/// The most rounds of changes in one go. One is enough, but that the kernel
/// takes further addresses away with one that is removed.
const ROUNDS: usize = 3;

/// So many looks in a row may find something to change: a link is set up, gets
/// its lease, its routes. With more, something undoes what the service does,
/// and it must not fight with it as fast as it can.
const CHANGES: u32 = 10;

/// How soon the service may make a change for each of those once more.
const REGAINED: Duration = Duration::from_secs(1);

struct Service {
    options: Options,
    loaded: Loaded<Config>,
    kernel: Kernel,
    watch: Watch,
    notify: Notify,
    links: BTreeMap<u32, Managed>,
    leased4: (Sender<dhcp4::Leased>, Receiver<dhcp4::Leased>),
    leased6: (Sender<dhcp6::Leased>, Receiver<dhcp6::Leased>),
    started: Instant,
    ready: bool,
    /// How many more looks may make changes now, and since when that holds.
    changes: (u32, Instant),
    /// What was said last, to say only what is new.
    said: Option<Status>,
    /// The errors of the last look, for the same reason.
    errors: BTreeSet<String>,
}

impl Service {
    fn start(options: Options) -> std::io::Result<Self> {
        let leases = options.directory.join("leases");
        if let Err(error) = fs::create_dir_all(&leases) {
            // The network without its files is better than none.
            log::error!("{}: {error}", leases.display());
        }
        let service = Self {
            loaded: last_good::load(&options.config, &options.last_good, parse),
            options,
            // Before the first look, so that no change falls between.
            watch: Watch::start()?,
            kernel: Kernel::connect()?,
            notify: Notify::from_environment(),
            links: BTreeMap::new(),
            leased4: channel(8),
            leased6: channel(8),
            started: Instant::now(),
            ready: false,
            changes: (CHANGES, Instant::now()),
            said: None,
            errors: BTreeSet::new(),
        };
        service.complain_of_configuration();
        Ok(service)
    }

    async fn run(mut self) -> ExitCode {
        let signals = signal(SignalKind::terminate()).and_then(|terminate| {
            let interrupt = signal(SignalKind::interrupt())?;
            Ok((terminate, interrupt, signal(SignalKind::hangup())?))
        });
        let (mut terminate, mut interrupt, mut hangup) = match signals {
            Ok(signals) => signals,
            Err(error) => {
                log::error!("the service does not start: signals: {error}");
                return ExitCode::FAILURE;
            }
        };
        loop {
            let wait = match self.put_right().await {
                Ok(()) => self.next_moment(),
                Err(error) => {
                    log::error!("{error}");
                    RETRY
                }
            };
            // Reports of what is none of ours do not end the wait.
            let calm = self.may_change();
            let moment = tokio::time::sleep(if calm { wait } else { wait.min(REGAINED) });
            tokio::pin!(moment);
            loop {
                let matters = tokio::select! {
                    reports = self.watch.next() => self.take_reports(reports) && calm,
                    Some((link, lease)) = self.leased4.1.recv() => self.take_lease4(link, lease),
                    Some((link, lease)) = self.leased6.1.recv() => self.take_lease6(link, lease),
                    () = &mut moment => true,
                    Some(()) = hangup.recv() => {
                        self.reload().await;
                        true
                    }
                    Some(()) = terminate.recv() => return self.stop(),
                    Some(()) = interrupt.recv() => return self.stop(),
                };
                if matters {
                    break;
                }
            }
        }
    }

    fn stop(&self) -> ExitCode {
        self.notify.stopping();
        ExitCode::SUCCESS
    }

    /// Notes what was reported; whether it is a reason to look.
    fn take_reports(&mut self, reports: Vec<Report>) -> bool {
        let mut matters = false;
        for report in reports {
            match report {
                Report::Links | Report::Routes => matters = true,
                Report::Addresses { link } => matters |= self.links.contains_key(&link),
                Report::Dns { link, options } => {
                    let Some(managed) = self.links.get_mut(&link) else {
                        continue;
                    };
                    for option in options {
                        let taken = managed.learned.announced.take(
                            &option.dns,
                            &option.search,
                            option.lifetime,
                            clock::now(),
                        );
                        matters |= taken.changed;
                        if taken.left_out && !managed.has_left_out {
                            managed.has_left_out = true;
                            log::warn!(
                                "{}: routers announce more DNS servers or search domains than \
                                 are taken: {} and {}; those that came first stay",
                                managed.name,
                                most::SERVERS,
                                most::DOMAINS
                            );
                        }
                    }
                }
            }
        }
        matters
    }

    fn take_lease4(&mut self, link: u32, lease: Lease4) -> bool {
        let Some(managed) = self.links.get_mut(&link) else {
            return false;
        };
        let known = managed.learned.dhcp4.as_ref().map(|lease| lease.address);
        if known != Some(lease.address) {
            log::info!(
                "{}: leased {} from {} for {} s",
                managed.name,
                lease.address,
                lease.server,
                lease.lifetime
            );
        }
        managed.learned.dhcp4 = Some(lease.bounded());
        true
    }

    fn take_lease6(&mut self, link: u32, lease: Lease6) -> bool {
        let Some(managed) = self.links.get_mut(&link) else {
            return false;
        };
        let known = managed.learned.dhcp6.as_ref().map(|lease| lease.address);
        if known != Some(lease.address) {
            log::info!(
                "{}: leased {} for {} s",
                managed.name,
                lease.address,
                lease.valid
            );
        }
        managed.learned.dhcp6 = Some(lease.bounded());
        true
    }

    /// Until something must be done though nothing happens.
    fn next_moment(&self) -> Duration {
        let now = clock::now();
        let ends = self
            .links
            .values()
            .filter_map(|managed| managed.learned.next_end());
        let end = ends
            .min()
            .map(|end| Duration::from_secs(end.saturating_sub(now)));
        let ready = (!self.ready).then(|| {
            let elapsed = self.started.elapsed();
            let deadline = self.loaded.config.wait;
            let next = if elapsed < CARRIER {
                CARRIER.min(deadline)
            } else {
                deadline
            };
            next.saturating_sub(elapsed)
        });
        // A day: "for ever" is longer than some timers can be set.
        let longest = Duration::from_secs(24 * 60 * 60);
        [end, ready]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(longest)
            .min(longest)
    }

    /// Whether the next look may come as soon as there is a reason.
    fn may_change(&mut self) -> bool {
        let (left, since) = self.changes;
        let regained = since.elapsed().as_secs() / REGAINED.as_secs();
        if regained > 0 {
            let regained = u32::try_from(regained).unwrap_or(CHANGES);
            self.changes = (left.saturating_add(regained).min(CHANGES), Instant::now());
        }
        self.changes.0 > 0
    }

    /// Looks at everything and puts it right.
    async fn put_right(&mut self) -> Result<(), KernelError> {
        let mut snapshot = self.kernel.snapshot().await?;
        let mut errors = BTreeSet::new();
        self.forget_lost_links(&snapshot);
        if self.meet_links(&snapshot, &mut errors).await {
            snapshot = self.kernel.snapshot().await?;
        }
        self.ask(&snapshot);
        for managed in self.links.values_mut() {
            if managed.learned.expire(clock::now()) {
                log::warn!("{}: what was leased or announced has ended", managed.name);
            }
        }
        let mut rounds = 0;
        while rounds < ROUNDS && self.change(&snapshot, &mut errors).await {
            rounds += 1;
            snapshot = self.kernel.snapshot().await?;
        }
        if rounds > 0 {
            self.changes.0 = self.changes.0.saturating_sub(1);
        }
        for error in errors.difference(&self.errors) {
            log::error!("{error}");
        }
        self.errors = errors;
        self.say(&snapshot);
        Ok(())
    }

    /// What the configuration says of a link, where it says something.
    fn config_of(&self, link: &Link) -> Option<&LinkConfig> {
        self.loaded.config.of_link(Candidate {
            name: &link.name,
            mac: link.mac,
            physical: link.physical,
        })
    }

    fn forget_lost_links(&mut self, snapshot: &Snapshot) {
        let options = &self.options;
        self.links.retain(|index, managed| {
            let there = |link: &Link| link.index == *index && link.name == managed.name;
            let there = snapshot.links.iter().any(there);
            if !there {
                log::info!("{}: is gone", managed.name);
                managed.stop();
                let _ = fs::remove_file(options.lease_file(&managed.name));
            }
            there
        });
    }

    /// Takes on links that are new; whether there were some.
    async fn meet_links(&mut self, snapshot: &Snapshot, errors: &mut BTreeSet<String>) -> bool {
        let mut met = false;
        for link in &snapshot.links {
            if self.links.contains_key(&link.index) {
                continue;
            }
            let Some(config) = self.config_of(link) else {
                continue;
            };
            let ipv6 = config.ipv6;
            let lease_file = self.options.lease_file(&link.name);
            let managed = Managed::meet(link, &lease_file);
            self.prepare(link, ipv6).await;
            // Once: who sets it down later has a reason.
            if !link.up
                && let Err(error) = self.kernel.set_up(link).await
            {
                errors.insert(error.to_string());
            }
            self.links.insert(link.index, managed);
            met = true;
        }
        met
    }

    async fn prepare(&self, link: &Link, ipv6: crate::config::Ipv6) {
        let Err((path, error)) = sysctl::prepare(&link.name, ipv6) else {
            return;
        };
        log::warn!("{}: {error}", path.display());
        if ipv6 == crate::config::Ipv6::Off
            && let Err(error) = self.kernel.without_ipv6(link).await
        {
            log::error!("{error}");
        }
    }

    /// Starts and stops the DHCP clients.
    fn ask(&mut self, snapshot: &Snapshot) {
        for link in &snapshot.links {
            let Some(config) = self.config_of(link).cloned() else {
                continue;
            };
            let Some(managed) = self.links.get_mut(&link.index) else {
                continue;
            };
            managed.forget_unwanted(&config);
            managed.ask4(link, &config, &self.leased4.0);
            managed.ask6(
                link,
                &config,
                snapshot.link_local(link.index),
                &self.leased6.0,
            );
        }
    }

    /// Makes the changes of all links; whether one was made.
    async fn change(&self, snapshot: &Snapshot, errors: &mut BTreeSet<String>) -> bool {
        let mut changed = false;
        for link in &snapshot.links {
            let (Some(managed), Some(config)) = (self.links.get(&link.index), self.config_of(link))
            else {
                continue;
            };
            let wanted = plan::wanted(config, link, &managed.learned, clock::now());
            changed |= self.perform(snapshot, link, &wanted, errors).await;
        }
        changed
    }

    async fn perform(
        &self,
        snapshot: &Snapshot,
        link: &Link,
        wanted: &Wanted,
        errors: &mut BTreeSet<String>,
    ) -> bool {
        let addresses = snapshot.addresses_of(link.index);
        let routes = snapshot.routes_of(link.index);
        let mut changed = false;
        for change in plan::changes(link, &addresses, &routes, wanted) {
            match self.kernel.perform(link, &change).await {
                Ok(()) => changed = true,
                Err(error) => {
                    errors.insert(error.to_string());
                }
            }
        }
        changed
    }

    /// Writes the files and tells the supervisor, where something is new.
    fn say(&mut self, snapshot: &Snapshot) {
        let now = clock::now();
        let mut parts = Vec::new();
        for link in &snapshot.links {
            let (Some(managed), Some(config)) = (self.links.get(&link.index), self.config_of(link))
            else {
                continue;
            };
            let wanted = plan::wanted(config, link, &managed.learned, now);
            let addresses = snapshot.addresses_of(link.index);
            let routes = snapshot.routes_of(link.index);
            parts.push((link, managed, config, wanted, addresses, routes));
        }
        let views: Vec<View<'_>> = parts
            .iter()
            .map(|(link, managed, config, wanted, addresses, routes)| View {
                link,
                config,
                learned: &managed.learned,
                wanted,
                addresses,
                routes,
            })
            .collect();
        let status = status::status(&self.loaded, &views);
        drop(views);
        drop(parts);
        for managed in self.links.values_mut() {
            managed.keep(&self.options.lease_file(&managed.name));
        }
        self.write(&status);
        let news = self.said.as_ref().map(|said| &said.summary) != Some(&status.summary);
        let ready = !self.ready && self.is_ready(&status);
        self.ready |= ready;
        if news || ready {
            log::info!("{}", status.summary);
            if ready {
                self.notify.ready_with_status(&status.summary);
            } else {
                self.notify.status(&status.summary);
            }
        }
        self.said = Some(status);
    }

    fn write(&self, status: &Status) {
        let said = self.said.as_ref();
        if said.map(|said| &said.dns) != Some(&status.dns) {
            let text = status::resolv_conf(&status.dns);
            self.write_file(&self.options.resolv_conf(), text.as_bytes());
        }
        if said != Some(status) {
            match serde_json::to_vec_pretty(status) {
                Ok(mut json) => {
                    json.push(b'\n');
                    self.write_file(&self.options.status_file(), &json);
                }
                Err(error) => log::error!("status.json: {error}"),
            }
        }
    }

    fn write_file(&self, path: &std::path::Path, content: &[u8]) {
        if let Err(error) = atomic_file::replace_volatile(path, content) {
            log::error!("{}: {error}", path.display());
        }
    }

    fn is_ready(&self, status: &Status) -> bool {
        let elapsed = self.started.elapsed();
        let over = elapsed >= self.loaded.config.wait;
        let waiting = status
            .links
            .iter()
            .any(|link| link.required && !link.carrier && link.up);
        match status.state {
            State::Incomplete => over,
            State::Online | State::NoLink => !waiting || over || elapsed >= CARRIER,
        }
    }

    /// Reads the configuration again and gives up what it no longer names.
    async fn reload(&mut self) {
        self.notify.reloading();
        self.loaded = last_good::load(&self.options.config, &self.options.last_good, parse);
        self.complain_of_configuration();
        if let Ok(snapshot) = self.kernel.snapshot().await {
            for link in &snapshot.links {
                if !self.links.contains_key(&link.index) {
                    continue;
                }
                match self.config_of(link).map(|config| config.ipv6) {
                    Some(ipv6) => self.prepare(link, ipv6).await,
                    None => {
                        let mut errors = BTreeSet::new();
                        let nothing = Wanted::default();
                        self.perform(&snapshot, link, &nothing, &mut errors).await;
                        if let Some(mut managed) = self.links.remove(&link.index) {
                            managed.stop();
                            let _ = fs::remove_file(self.options.lease_file(&managed.name));
                        }
                    }
                }
            }
        }
        self.notify.ready();
    }

    fn complain_of_configuration(&self) {
        if let Some(error) = &self.loaded.error {
            let instead = match self.loaded.source {
                last_good::Source::LastGood => "the last one that was good",
                last_good::Source::File | last_good::Source::Default => "the default",
            };
            log::error!("{error}; using {instead}");
        }
        if let Some(complaint) = &self.loaded.complaint {
            log::warn!("{complaint}");
        }
    }
}

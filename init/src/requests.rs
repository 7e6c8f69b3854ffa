//! The control socket's requests, answered.

use std::time::Duration;

use control::{Inhibitor, Outcome, Refusal, Reply, Request};
use definition::Role;
use nix::sys::epoll::EpollFlags;
use supervisor::{Event, ServiceName, Shutdown};

use crate::inhibit::Verdict;
use crate::init::Init;
use crate::kernel_log::log;
use crate::machine;

/// How many requests of one client are answered in one turn of the loop.
const REQUESTS: usize = 16;

impl Init {
    /// A client has sent something, or takes something.
    pub fn serve(&mut self, number: u32, flags: EpollFlags) {
        let now = machine::now();
        for _ in 0..REQUESTS {
            if flags.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
                self.clients.hang_up(number);
            } else {
                self.clients.flush(number, now, &self.sources);
            }
            let Some((request, may_change)) = self.clients.next_request(number, now) else {
                break;
            };
            let reply = if may_change || request.is_read_only() {
                self.answer(request, number)
            } else {
                Some(Reply::Refused(Refusal::NotPermitted))
            };
            if let Some(reply) = reply {
                self.clients.reply(number, &reply);
            }
        }
        self.clients.flush(number, now, &self.sources);
    }

    /// The answer to a request; `None` where it comes later.
    fn answer(&mut self, request: Request, client: u32) -> Option<Reply> {
        let done = Ok(Reply::Done(Outcome::default()));
        let result = match request {
            Request::Status => Ok(Reply::Status(Box::new(self.view().status()))),
            Request::Show { service } => self.view().show(&service),
            Request::Start { service } => self.order(&service, Event::Start),
            Request::Stop { service } => self.order(&service, Event::Stop),
            Request::Restart { service } => self.order(&service, Event::Restart),
            Request::Reload => {
                self.reload(Some(client));
                return None;
            }
            Request::Boot => Ok(Reply::Boot(self.boot.reply(&self.machine.version))),
            Request::Watch => {
                self.clients.begin_watch(client);
                for line in self.view().lines() {
                    self.clients.reply(client, &Reply::Changed(line));
                }
                return None;
            }
            Request::Define {
                service,
                text,
                root,
            } => match self.define_for_boot(client, service, text, root) {
                Ok(()) => return None,
                Err(refusal) => Err(refusal),
            },
            Request::Remove { service } => self.remove_for_boot(&service),
            Request::SetHostname { hostname } => self.set_hostname(hostname),
            Request::Inhibit { who, why, mode } => {
                self.inhibit(client, Inhibitor { who, why, mode })
            }
            Request::Poweroff => self.shut_down(Shutdown::Poweroff),
            Request::Reboot => self.shut_down(Shutdown::Reboot),
            Request::Halt => self.shut_down(Shutdown::Halt),
            Request::ForceShutdown { shutdown } => Ok(self.force_shutdown(shutdown)),
            Request::Reexec => self.ask_reexec(),
            Request::ConfirmBoot => {
                self.trial.confirm();
                done
            }
            Request::ExtendTrial { until_us } => {
                self.trial.extend(Duration::from_micros(until_us));
                done
            }
        };
        Some(result.unwrap_or_else(Reply::Refused))
    }

    fn order(
        &mut self,
        name: &str,
        event: impl FnOnce(ServiceName) -> Event,
    ) -> Result<Reply, Refusal> {
        if self.supervisor.shutdown().is_some() {
            return Err(Refusal::ShuttingDown);
        }
        let view = self.view();
        let service = view.known(name)?;
        if service.role() == Some(Role::State) {
            return Err(Refusal::Failed {
                message: "the state partition is mounted once, at boot; restart the machine to mount it again"
                    .to_owned(),
            });
        }
        let service = service.entry.name.clone();
        self.feed(event(service));
        Ok(Reply::Done(Outcome::default()))
    }

    fn shut_down(&mut self, shutdown: Shutdown) -> Result<Reply, Refusal> {
        if self.supervisor.shutdown().is_none()
            && let Verdict::Blocked(by) = self.inhibitors.ask(shutdown, machine::now())
        {
            return Err(Refusal::Inhibited { by });
        }
        log!(Notice, "asked to end the machine: {shutdown:?}");
        let notes = self.begin_shutdown(shutdown);
        Ok(Reply::Done(Outcome { notes }))
    }

    fn force_shutdown(&mut self, shutdown: control::Shutdown) -> Reply {
        let shutdown = match shutdown {
            control::Shutdown::Poweroff => Shutdown::Poweroff,
            control::Shutdown::Reboot => Shutdown::Reboot,
            control::Shutdown::Halt => Shutdown::Halt,
        };
        log!(Notice, "asked to end the machine by force: {shutdown:?}");
        self.inhibitors.cancel();
        self.feed(Event::Shutdown(shutdown));
        Reply::Done(Outcome::default())
    }

    fn inhibit(&mut self, client: u32, inhibitor: Inhibitor) -> Result<Reply, Refusal> {
        if self.supervisor.shutdown().is_some() {
            return Err(Refusal::ShuttingDown);
        }
        let said = format!("a shutdown is inhibited by {inhibitor}");
        self.inhibitors
            .hold(client, inhibitor)
            .map_err(|message| Refusal::Failed { message })?;
        self.clients.keep(client);
        log!(Info, "{said}");
        Ok(Reply::Done(Outcome::default()))
    }

    fn set_hostname(&mut self, hostname: String) -> Result<Reply, Refusal> {
        if !machine::is_hostname(&hostname) {
            let message =
                format!("'{hostname}' is not a host name: 1 to 63 letters, digits and '-'");
            return Err(Refusal::Failed { message });
        }
        nix::unistd::sethostname(&hostname).map_err(|error| Refusal::Failed {
            message: format!("cannot set the host name: {}", error.desc()),
        })?;
        self.machine.hostname = hostname;
        Ok(Reply::Done(Outcome::default()))
    }

    /// Has a child understand a definition, since its root may be on a disk; the
    /// answer comes when it has.
    fn define_for_boot(
        &mut self,
        client: u32,
        service: String,
        text: String,
        root: Option<String>,
    ) -> Result<(), Refusal> {
        if self.supervisor.shutdown().is_some() {
            return Err(Refusal::ShuttingDown);
        }
        let other = match self.services.by_name(&service) {
            Some(known) => !known.for_this_boot,
            None => self.services.invalid().contains_key(&service),
        };
        let refused = |message| Refusal::Failed { message };
        if other {
            return Err(refused(format!(
                "there is a service '{service}' already; give this one another name"
            )));
        }
        let (sources, children) = (&self.sources, &mut self.children);
        self.state
            .define(client, service, text, root, sources, children)
            .map_err(refused)
    }

    fn remove_for_boot(&mut self, name: &str) -> Result<Reply, Refusal> {
        let view = self.view();
        let service = view.known(name)?;
        if !service.for_this_boot {
            return Err(Refusal::Failed {
                message: format!(
                    "'{name}' was not defined by `wherry service define`: an operator's service goes with its folder"
                ),
            });
        }
        let name = service.entry.name.clone();
        log!(Notice, "{name}: removed");
        self.feed(Event::Remove(name));
        Ok(Reply::Done(Outcome::default()))
    }

    fn ask_reexec(&mut self) -> Result<Reply, Refusal> {
        if self.state.is_busy()
            || self.trial.is_busy()
            || self.ending.is_some()
            || self.inhibitors.is_waiting()
        {
            return Err(Refusal::Failed {
                message: "PID 1 is busy with a child or a shutdown; try again in a moment"
                    .to_owned(),
            });
        }
        self.reexecution_wanted = true;
        Ok(Reply::Done(Outcome::default()))
    }
}

//! The health of a release, from what PID 1 reports of its services.

use control::{Health, Service, ServiceState};
use lifecycle::Condition;

/// The condition of a service. Services that are not essential do not matter.
pub fn condition(service: &Service) -> Condition {
    if !service.essential {
        return Condition::Well;
    }
    let name = &service.name;
    let detail = match service.detail.as_str() {
        "" => String::new(),
        detail => format!(": {detail}"),
    };
    match service.state {
        ServiceState::Ready | ServiceState::Ended if service.health == Health::Unhealthy => {
            Condition::Unwell(format!("the service {name} is unhealthy{detail}"))
        }
        ServiceState::Ready | ServiceState::Ended => Condition::Well,
        ServiceState::Failed => Condition::Failed(format!(
            "the essential service {name} has failed for good{detail}"
        )),
        ServiceState::Invalid => Condition::Failed(format!(
            "the definition of the essential service {name} is wrong{detail}"
        )),
        state @ (ServiceState::Stopped
        | ServiceState::Waiting
        | ServiceState::Starting
        | ServiceState::Stopping
        | ServiceState::Backoff) => {
            Condition::Unwell(format!("the service {name} is {}{detail}", state.as_str()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, state: ServiceState) -> Service {
        Service {
            name: name.into(),
            description: String::new(),
            state,
            since_us: 0,
            detail: String::new(),
            health: Health::Unknown,
            pid: None,
            restarts: 0,
            memory: None,
            essential: true,
            operator: false,
            for_this_boot: false,
        }
    }

    #[test]
    fn a_service_that_is_up_or_done_is_well_unless_its_probe_says_otherwise() {
        for state in [ServiceState::Ready, ServiceState::Ended] {
            let mut web = service("web", state);
            assert_eq!(condition(&web), Condition::Well);
            web.health = Health::Unhealthy;
            web.detail = "no answer".into();
            let why = "the service web is unhealthy: no answer";
            assert_eq!(condition(&web), Condition::Unwell(why.into()));
        }
        assert_eq!(
            condition(&service("web", ServiceState::Backoff)),
            Condition::Unwell("the service web is backoff".into())
        );
    }

    #[test]
    fn an_essential_service_that_failed_has_failed_for_good() {
        let mut failed = service("web", ServiceState::Failed);
        failed.detail = "exited with 3".into();
        let why = "the essential service web has failed for good: exited with 3";
        assert_eq!(condition(&failed), Condition::Failed(why.into()));
        assert!(matches!(
            condition(&service("web", ServiceState::Invalid)),
            Condition::Failed(_)
        ));
    }

    #[test]
    fn other_services_do_not_matter() {
        let mut other = service("toy", ServiceState::Failed);
        other.essential = false;
        assert_eq!(condition(&other), Condition::Well);
    }
}

//! The real `init` as PID 1 of namespaces of its own, without a machine: what it
//! promises to services, operators and clients, in milliseconds.
//!
//! This program is three: the tests, the way into the namespaces
//! ([`enter`]), and what runs in the services' containers ([`program`]). Hence
//! a `main` of its own instead of libtest's.

#![allow(clippy::unwrap_used)]

mod boot;
mod control_socket;
mod definitions;
mod enter;
mod notifying;
mod pid1;
mod program;
mod reexecution;
mod restarting;
mod shutdown;
mod sockets;
mod sys;
mod until_reboot;

use std::process::ExitCode;
use std::thread;

use libtest_mimic::{Arguments, Trial};

macro_rules! trials {
    ($($module:ident: $($test:ident)*;)*) => {
        vec![$($(
            trial(concat!(stringify!($module), "::", stringify!($test)), $module::$test),
        )*)*]
    };
}

/// Every test; one that is left out is dead code, which the compiler tells.
fn trials() -> Vec<Trial> {
    trials! {
        shutdown:
            services_stop_before_what_they_require_and_the_one_with_the_role_log_last
            every_way_to_ask_for_the_end_is_heard
            nothing_is_started_any_more_once_the_machine_ends
            the_machine_ends_in_bounded_time_with_services_that_will_not_stop;
        boot:
            every_service_of_the_image_starts_and_the_machine_settles
            hundreds_of_services_start
            a_service_that_the_command_line_disables_waits_to_be_started
            what_is_mounted_already_stays_as_it_is
            a_container_shares_nothing_that_its_definition_does_not_ask_for
            a_signal_in_the_middle_of_the_boot_ends_it_in_order;
        control_socket:
            garbage_is_refused_and_nothing_else_happens
            clients_that_say_nothing_do_not_keep_others_out
            a_watcher_that_does_not_read_is_dropped
            a_pipelined_flood_of_requests_is_answered_in_order
            another_user_may_look_and_not_touch;
        definitions:
            a_definition_with_a_mistake_is_named_with_its_place_and_the_others_run
            a_role_is_for_one_service_of_the_image_alone
            garbage_instead_of_a_definition_is_refused_and_read_again_later
            a_definition_that_is_no_file_is_named_and_everything_else_comes_up
            no_link_is_followed_in_the_source_of_a_mount
            a_working_directory_that_is_missing_is_an_error_and_is_not_made
            a_changed_definition_takes_effect_at_the_next_start;
        notifying:
            who_requires_a_service_waits_until_it_says_that_it_is_ready
            a_watching_client_hears_of_each_change
            a_flood_of_notifications_means_nothing_and_holds_nobody_up
            a_stored_descriptor_comes_back_with_the_next_run_and_the_limit_holds
            a_service_that_misses_its_watchdog_is_restarted
            sockets_that_linger_do_not_hold_pid_1_up
            descriptors_that_may_not_be_stored_are_closed_and_told
            what_follows_a_long_status_is_heard_and_a_longer_one_is_told;
        reexecution:
            a_fresh_pid_1_takes_over_and_no_service_notices
            a_start_and_an_end_under_way_are_not_lost_by_the_change
            a_crash_of_pid_1_is_told_and_restarts_the_machine
            a_crash_of_pid_1_leaves_the_services_running_where_that_is_asked_for;
        restarting:
            a_service_that_fails_is_started_again_after_a_growing_wait_until_its_limit
            a_service_that_is_not_ready_in_time_or_cannot_be_set_up_has_failed
            a_service_that_does_not_stop_is_killed
            a_stopped_service_hears_its_stop_signal_and_a_real_time_one_is_sent
            a_service_whose_probe_fails_is_unhealthy_and_started_again
            what_a_container_leaves_behind_ends_with_its_first_process
            ten_thousand_orphans_are_reaped_while_the_machine_answers;
        sockets:
            a_client_starts_a_service_on_demand
            a_client_of_a_service_that_is_restarted_is_served_by_the_next_run
            a_flood_of_clients_is_served_and_starts_the_service_once
            a_socket_that_a_changed_definition_keeps_stays_open_and_a_new_one_is_watched
            a_service_that_leaves_its_client_waiting_is_restarted_within_its_limit_and_then_refuses
            a_service_that_fails_until_its_limit_refuses_its_next_client
            a_new_socket_that_cannot_be_opened_loses_none_of_the_old_ones
            a_socket_takes_no_place_that_is_not_its_own
            a_socket_is_open_to_all_users_or_as_its_definition_says;
        until_reboot:
            a_service_is_defined_outlives_reload_and_reexecution_and_is_removed
            a_definition_with_a_mistake_or_anothers_name_leaves_nothing_behind
            the_machine_takes_a_host_name_and_no_nonsense
            an_inhibitor_blocks_a_shutdown_as_long_as_its_connection_is_open
            an_inhibitor_delays_a_shutdown_until_its_release_or_the_limit
            a_signal_is_not_blocked_and_waits_for_the_limit;
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    if arguments.next().as_deref() == Some("/program") {
        return program::run(arguments);
    }
    let arguments: Vec<String> = arguments.collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let entered = match arguments.as_slice() {
        [enter::OUTSIDE, cgroup, folder, image] => enter::outside(cgroup, folder, image),
        [enter::INSIDE, folder, image] => enter::inside(folder, image),
        _ => return test(),
    };
    entered.unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}

/// A test in a thread of its name, by which a skip tells it.
fn trial(name: &'static str, test: fn()) -> Trial {
    Trial::test(name, move || {
        let required = move || match pid1::missing() {
            None => test(),
            Some(why) => requirement::skip(why),
        };
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(required)?;
        thread.join().map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            text.unwrap_or_else(|| "it panicked".to_owned()).into()
        })
    })
}

fn test() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They wait more than they compute.
    arguments.test_threads.get_or_insert(4);
    let conclusion = libtest_mimic::run(&arguments, trials());
    pid1::remove_image();
    conclusion.exit_code()
}

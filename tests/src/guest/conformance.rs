//! The specification's clauses, on a machine with every controller.

use std::time::Duration;

use crate::guest::Debian;

/// Each clause is a container or more, all of them emulated.
const SUITE: Duration = Duration::from_secs(2400);

#[test]
fn every_clause_of_the_specification_holds() {
    let mut debian = Debian::restored("guest-conformance");
    // Debian's /tmp allows neither devices nor set-user-ID programs.
    let script = format!(
        "mkdir /run/suite && mount -t tmpfs suite /run/suite && \
         TMPDIR=/run/suite runtime-conformance --runtime {}",
        debian.runtime
    );
    let output = debian.guest.run(&script, SUITE).unwrap();
    assert_eq!(output.exit, 0, "{}", output.text);
}

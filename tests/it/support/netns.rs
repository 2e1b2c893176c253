//! Tests that cut wires do so in a network of their own.

use super::process::run;
use super::root::as_root;

/// Says to the second process that it is the one in the namespace.
const MARK: &str = "FLEETD_TEST_NETNS";

/// Runs `body` in a new network namespace with nothing but loopback: the test
/// binary is started again in it, for the test `name` alone. A machine on which
/// that is not possible fails the test; it never passes by being left out.
///
/// # Panics
/// If the namespace cannot be made, or the test fails in it.
pub fn in_own_network(name: &str, body: impl FnOnce()) {
    if std::env::var_os(MARK).is_some() {
        return body();
    }
    let binary = std::env::current_exe().expect("the test's own program");
    let mut command = as_root("unshare");
    command.args(["--net", "sh", "-ec", "ip link set lo up; exec \"$@\"", "sh"]);
    command.arg(binary).args([name, "--exact", "--nocapture"]);
    command.env(MARK, "1");
    let output = run(command, b"", std::time::Duration::from_secs(120));
    print!("{}", output.stdout);
    let output = output.ok();
    assert!(output.stdout.contains("1 passed"), "no test is called '{name}': {output:?}");
}

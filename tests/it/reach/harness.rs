//! The test server itself, asked by OpenSSH's own client.

use std::process::Command;
use std::time::Duration;

use crate::support::{Output, Sshd, run};

fn ssh(sshd: &Sshd, command: &str) -> Output {
    let known = sshd.path("known_by_ssh");
    std::fs::write(&known, sshd.known_line()).expect("written");
    let mut ssh = Command::new("ssh");
    ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-i"]);
    ssh.arg(sshd.key()).arg("-o").arg(format!("UserKnownHostsFile={}", known.display()));
    ssh.args(["-p", &sshd.port().to_string(), "-l", &sshd.user(), "127.0.0.1", command]);
    run(ssh, b"", Duration::from_secs(20))
}

#[test]
fn the_server_runs_commands_in_a_home_of_its_own() {
    let sshd = Sshd::start();
    let output = ssh(&sshd, "echo $HOME; exit 7");
    assert_eq!(output.code(), 7, "{output:?}\n{}", sshd.log());
    assert_eq!(output.stdout.trim(), sshd.home().to_str().expect("text"));
}

#[test]
fn it_comes_back_with_another_host_key_on_the_same_port() {
    let mut sshd = Sshd::start();
    let line = sshd.known_line();
    sshd.swap_host_key();
    assert_ne!(sshd.known_line(), line);
    assert_eq!(ssh(&sshd, "true").code(), 0);
}

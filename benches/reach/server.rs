//! A server of OpenSSH on loopback, with a home whose configuration leads to it.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Dropping it ends it; its sessions end with their clients.
pub struct Server {
    dir: tempfile::TempDir,
    child: Child,
}

impl Server {
    /// `ssh m0` … `ssh m499` lead here.
    pub fn start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("home/.ssh"))?;
        keygen(&at("host"))?;
        keygen(&at("client"))?;
        fs::copy(at("client.pub"), at("authorized_keys"))?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let own = dir.path().display();
        fs::write(
            at("sshd_config"),
            format!(
                "ListenAddress 127.0.0.1:{port}\nHostKey {own}/host\nPidFile {own}/pid\n\
                 AuthorizedKeysFile {own}/authorized_keys\nStrictModes no\nUsePAM no\n\
                 MaxStartups 1000\nSubsystem sftp internal-sftp\nSetEnv HOME={own}/home\n"
            ),
        )?;
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid())?.context("no user")?.name;
        fs::write(
            at("home/.ssh/config"),
            format!(
                "Host m*\n HostName 127.0.0.1\n Port {port}\n User {user}\n \
                 IdentityFile {own}/client\n IdentitiesOnly yes\n \
                 UserKnownHostsFile {own}/home/.ssh/known_hosts\n"
            ),
        )?;
        let host = fs::read_to_string(at("host.pub"))?;
        fs::write(at("home/.ssh/known_hosts"), format!("[127.0.0.1]:{port} {host}"))?;
        if nix::unistd::geteuid().is_root() {
            fs::create_dir_all("/run/sshd")?;
        }
        let mut command = Command::new("/usr/sbin/sshd");
        command.arg("-D").arg("-E").arg(at("log")).arg("-f").arg(at("sshd_config"));
        let child = command.stdin(Stdio::null()).spawn().context("sshd does not start")?;
        let server = Self { dir, child };
        let begun = Instant::now();
        while !fs::read_to_string(server.path("log"))
            .unwrap_or_default()
            .contains("Server listening")
        {
            if begun.elapsed() > Duration::from_secs(10) {
                bail!("sshd does not listen");
            }
            std::thread::yield_now();
        }
        Ok(server)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `ssh` or `sftp` with this home's configuration.
    pub fn ssh(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-F").arg(self.path("home/.ssh/config"));
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It is gone already, or is now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `ssh-keygen` without questions.
fn keygen(path: &Path) -> Result<()> {
    let mut command = Command::new("ssh-keygen");
    let status = command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status()?;
    anyhow::ensure!(status.success(), "ssh-keygen has failed");
    Ok(())
}

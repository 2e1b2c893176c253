//! A real OpenSSH server on a loopback port, with keys, a log and a member's
//! home of its own, that can be frozen, cut, restarted and given another key.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::process::{descendants, has_ended, run, signal, wait_for};
use super::root::as_root;
use super::wait::{eventually, poll};

/// Where Debian, other Linux systems and macOS keep it; it insists on being
/// started by its whole path.
const PROGRAM: &str = "/usr/sbin/sshd";

/// A running server. Dropping it kills it and every command it runs.
pub struct Sshd {
    dir: TempDir,
    port: u16,
    /// Lines of the configuration, `\n` after each.
    extra: String,
    /// In a container of its own, whose start is the machine's boot.
    contained: bool,
    running: Option<Child>,
}

impl Sshd {
    /// With an Ed25519 host key, and a client key that it lets in.
    pub fn start() -> Self {
        Self::with("")
    }

    /// In a process namespace of its own, as in a container: every restart is a
    /// boot, with another first process.
    pub fn contained() -> Self {
        Self::made("", true)
    }

    /// With more lines of configuration; sshd takes the first value it reads,
    /// and these come first.
    pub fn with(extra: &str) -> Self {
        Self::made(extra, false)
    }

    fn made(extra: &str, contained: bool) -> Self {
        let dir = tempfile::Builder::new().prefix("fdsshd").tempdir().expect("a folder");
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("it has an address").port();
        drop(free);
        let mut sshd = Self { dir, port, extra: format!("{extra}\n"), contained, running: None };
        fs::create_dir(sshd.home()).expect("a home");
        sshd.new_key("host_ed25519", "ed25519", "");
        let client = sshd.new_key("client", "ed25519", "");
        sshd.authorize(&client);
        sshd.restart();
        sshd
    }

    /// Starts it again on the same port, after the old server is gone; what
    /// sessions there were are gone as well.
    pub fn restart(&mut self) {
        self.stop();
        // Debian makes it when the service starts, which it does not here.
        if nix::unistd::geteuid().is_root() {
            fs::create_dir_all("/run/sshd").expect("sshd's empty folder");
        }
        let config = self.path("sshd_config");
        fs::write(&config, self.config()).expect("the configuration is written");
        let log = File::options().create(true).append(true).open(self.path("log"));
        let before = self.log().len();
        let mut command = if self.contained {
            let mut command = as_root("unshare");
            command.args(["--pid", "--fork", "--mount-proc", "--kill-child", PROGRAM]);
            command
        } else {
            Command::new(PROGRAM)
        };
        command.arg("-D").arg("-e").arg("-f").arg(&config).env_clear();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.expect("a log"));
        let child = command.spawn().expect("sshd starts; tests/setup installs openssh-server");
        self.running = Some(child);
        eventually("sshd listens", || {
            let log = self.log();
            assert!(!self.has_died(), "sshd has died:\n{log}");
            log[before..].contains("Server listening on 127.0.0.1")
        });
    }

    /// Kills the server, its sessions and their commands.
    pub fn stop(&mut self) {
        let Some(mut child) = self.running.take() else { return };
        let below = descendants(child.id());
        for pid in std::iter::once(child.id()).chain(below.iter().copied()) {
            signal(pid, Signal::SIGKILL);
        }
        wait_for(&mut child, Duration::from_secs(5)).expect("a killed sshd ends");
        eventually("its sessions end", || below.iter().all(|pid| has_ended(*pid)));
    }

    fn has_died(&self) -> bool {
        self.running.as_ref().is_none_or(|child| has_ended(child.id()))
    }

    fn config(&self) -> String {
        let mut text = self.extra.clone();
        for name in ["host_ed25519", "host_ecdsa", "host_rsa"] {
            if self.path(name).exists() {
                text += &format!("HostKey {}\n", self.path(name).display());
            }
        }
        text += &format!(
            "ListenAddress 127.0.0.1:{port}\nPidFile {dir}/pid\n\
             AuthorizedKeysFile {dir}/authorized_keys {dir}/home/.ssh/authorized_keys\nSetEnv HOME={dir}/home\n\
             PermitRootLogin prohibit-password\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\nPrintMotd no\n\
             LogLevel VERBOSE\nSubsystem sftp internal-sftp\n",
            port = self.port,
            dir = self.dir.path().display(),
        );
        text
    }

    /// A file in the server's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `HOME` of the commands that run here.
    pub fn home(&self) -> PathBuf {
        self.path("home")
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Who runs the tests, and may log in.
    pub fn user(&self) -> String {
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid());
        user.expect("users can be looked up").expect("we have a name").name
    }

    /// The private key that is let in.
    pub fn key(&self) -> PathBuf {
        self.path("client")
    }

    /// Makes a key pair in the server's folder; the private key's path.
    pub fn new_key(&self, name: &str, kind: &str, passphrase: &str) -> PathBuf {
        let path = self.path(name);
        for old in [path.clone(), path.with_extension("pub")] {
            let _ = fs::remove_file(old);
        }
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-t", kind, "-N", passphrase, "-C", name, "-f"]).arg(&path);
        if kind == "rsa" {
            command.args(["-b", "2048"]);
        }
        run(command, b"", Duration::from_secs(20)).ok();
        path
    }

    /// Lets the owner of a private key in, from the next connection on.
    pub fn authorize(&self, key: &Path) {
        let path = self.path("authorized_keys");
        let mut text = fs::read_to_string(&path).unwrap_or_default();
        text += &public(key);
        fs::write(&path, text).expect("authorized_keys is written");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("mode");
    }

    /// `algorithm base64` of a host key such as `host_ed25519`.
    pub fn host_key(&self, name: &str) -> String {
        let text = public(&self.path(name));
        text.split(' ').take(2).collect::<Vec<_>>().join(" ")
    }

    /// The line of a `known_hosts` file for this server.
    pub fn known_line(&self) -> String {
        format!("[127.0.0.1]:{} {}\n", self.port, self.host_key("host_ed25519"))
    }

    /// Gives it another host key, under the same name and on the same port.
    pub fn swap_host_key(&mut self) {
        self.new_key("host_ed25519", "ed25519", "");
        self.restart();
    }

    /// Everything it has logged since it was first started.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.path("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Stops the server's processes in their tracks: connections stay open and
    /// new ones are taken by the kernel, but nobody answers.
    pub fn freeze(&self) {
        self.all(Signal::SIGSTOP);
    }

    pub fn thaw(&self) {
        self.all(Signal::SIGCONT);
    }

    /// Kills the processes that serve a session each, as a crash would.
    pub fn kill_sessions(&self) {
        let own = self.pid();
        let sessions: Vec<_> = self.servers().into_iter().filter(|pid| *pid != own).collect();
        assert!(!sessions.is_empty(), "void: no session is open");
        sessions.iter().for_each(|pid| signal(*pid, Signal::SIGKILL));
        let gone = || sessions.iter().all(|pid| has_ended(*pid)).then_some(());
        poll(Duration::from_secs(5), gone).expect("killed sessions end");
    }

    pub fn pid(&self) -> u32 {
        self.running.as_ref().expect("it runs").id()
    }

    fn all(&self, number: Signal) {
        self.servers().into_iter().for_each(|pid| signal(pid, number));
    }

    /// The listener and its sessions, without the commands they run.
    fn servers(&self) -> Vec<u32> {
        let is_sshd = |pid: &u32| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name.starts_with("sshd")
        };
        let own = self.pid();
        std::iter::once(own).chain(descendants(own).into_iter().filter(is_sshd)).collect()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.thaw_if_running();
        self.stop();
    }
}

impl Sshd {
    fn thaw_if_running(&self) {
        if self.running.is_some() {
            self.thaw();
        }
    }
}

/// The public half of a private key's file.
fn public(key: &Path) -> String {
    fs::read_to_string(key.with_extension("pub")).expect("a public key lies beside it")
}

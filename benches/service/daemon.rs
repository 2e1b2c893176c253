//! A real fleetd with a home of its own, and the floor as a process beside it.

use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

/// A running server under measurement; killed when dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    /// The bearer token; empty for the floor.
    pub token: String,
    /// From exec to its own word that it is ready.
    pub ready_after: Duration,
    _home: Option<TempDir>,
}

impl Server {
    /// A daemon on a fresh home.
    pub fn fresh() -> Result<Self> {
        let home = tempfile::tempdir()?;
        let mut server = Self::at(home.path())?;
        server._home = Some(home);
        Ok(server)
    }

    /// A daemon on `home`.
    pub fn at(home: &Path) -> Result<Self> {
        let notify = home.join("notify");
        let _ = std::fs::remove_file(&notify);
        let socket = UnixDatagram::bind(&notify)?;
        socket.set_read_timeout(Some(Duration::from_secs(60)))?;
        let begun = Instant::now();
        let child = Command::new(env!("CARGO_BIN_EXE_fleetd"))
            .env_clear()
            .env("HOME", home)
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("NOTIFY_SOCKET", &notify)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting fleetd")?;
        await_ready(&socket)?;
        let ready_after = begun.elapsed();
        let text = std::fs::read_to_string(home.join(".fleetd/fleetd.json"))?;
        let runtime: serde_json::Value = serde_json::from_str(&text)?;
        let port = runtime["port"].as_u64().context("no port in the runtime file")?;
        let address = format!("127.0.0.1:{port}").parse()?;
        let token = std::fs::read_to_string(state(home).join("token"))?.trim().to_owned();
        Ok(Self { child, address, token, ready_after, _home: None })
    }

    /// The floor, in a process of its own like the product.
    pub fn floor() -> Result<Self> {
        Self::beside(super::floor::FLAG)
    }

    /// This program once more, as what `flag` makes it.
    pub fn beside(flag: &str) -> Result<Self> {
        let home = tempfile::tempdir()?;
        let begun = Instant::now();
        let child = Command::new(std::env::current_exe()?)
            .arg(flag)
            .arg(home.path())
            .stdout(Stdio::null())
            .spawn()?;
        let port = home.path().join("port");
        while !port.exists() {
            if begun.elapsed() > Duration::from_secs(10) {
                bail!("the floor did not start");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let address = format!("127.0.0.1:{}", std::fs::read_to_string(port)?).parse()?;
        Ok(Self {
            child,
            address,
            token: String::new(),
            ready_after: begun.elapsed(),
            _home: Some(home),
        })
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
        Ok(line.split_whitespace().nth(1).context("no figure")?.parse()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The state directory below a home without XDG variables.
pub fn state(home: &Path) -> PathBuf {
    home.join(".local/state/fleetd")
}

fn await_ready(socket: &UnixDatagram) -> Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let length = socket.recv(&mut buffer).context("fleetd did not say READY=1")?;
        if buffer[..length].split(|byte| *byte == b'\n').any(|word| word == b"READY=1") {
            return Ok(());
        }
    }
}

//! Figures of members, beside `ssh` to the same server of OpenSSH.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::daemon::Server;
use super::load::{connect, nanos, tool};
use super::report::{ROUNDS, beside, line, median, millis, percentile};
use super::sshd;

/// Commands of one round, of each kind.
const COMMANDS: usize = 40;

/// Members of a fleet.
const MEMBERS: usize = 50;

/// Bytes of a long standard input.
const INPUT: usize = 200_000;

/// Lines of a command that tells the time.
const LINES: usize = 60;

/// `offline_after_s` where nothing else is set.
const BUDGET: Duration = Duration::from_secs(15);

/// A daemon with members `m0`, `m1`, … that are one server under as many names.
struct World {
    // Dropped in this order: the daemon's links end before their server.
    daemon: Server,
    home: TempDir,
    sshd: sshd::Server,
    client: Client,
}

/// A kept-alive connection of somebody who calls tools.
struct Client {
    stream: TcpStream,
    held: Vec<u8>,
}

impl World {
    async fn with(members: usize) -> Result<Self> {
        let (sshd, home) = (sshd::Server::start()?, tempfile::tempdir()?);
        let ssh = home.path().join(".ssh");
        std::fs::create_dir(&ssh)?;
        for name in ["config", "known_hosts"] {
            std::fs::copy(sshd.path("home/.ssh").join(name), ssh.join(name))?;
        }
        let daemon = Server::at(home.path())?;
        let client = Client { stream: connect(daemon.address).await?, held: Vec::new() };
        let mut world = Self { daemon, home, sshd, client };
        for number in 0..members {
            let name = format!("m{number}");
            let folder = world.sshd.path("home").join(&name);
            let folder = folder.to_str().context("a path of text")?;
            let names = ["members", "add", &name, "--host", &name, "--work-folder", folder];
            World::time(world.fleetctl(&names))?;
        }
        world.all_online(members).await?;
        Ok(world)
    }

    async fn all_online(&mut self, members: usize) -> Result<()> {
        let begun = Instant::now();
        loop {
            let said = self.call("fleet_status", &json!({})).await?;
            // The local machine is one as well.
            if said.matches(r#""state":"online""#).count() > members {
                return Ok(());
            }
            anyhow::ensure!(begun.elapsed() < Duration::from_secs(90), "a member is away: {said}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What a tool answers; fails if it failed.
    async fn call(&mut self, name: &str, arguments: &Value) -> Result<String> {
        self.client.call(&tool(&self.daemon, name, arguments)).await
    }

    /// A command on the first member, to its end; how long it took.
    async fn execute(&mut self, arguments: &Value) -> Result<f64> {
        let request = tool(&self.daemon, "execute_command", arguments);
        let begun = Instant::now();
        let said = self.client.call(&request).await?;
        let took = millis(begun.elapsed());
        anyhow::ensure!(said.contains(r#""status":"completed""#), "{said}");
        Ok(took)
    }

    /// A program to its end, as its user waits for it.
    fn time(mut command: Command) -> Result<f64> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let begun = Instant::now();
        let status = command.status()?;
        let took = millis(begun.elapsed());
        if status.success() { Ok(took) } else { bail!("{command:?}: {status}") }
    }

    fn fleetctl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fleetctl"));
        command.env_clear().env("HOME", self.home.path()).env("PATH", "/usr/bin:/bin");
        command.args(arguments);
        command
    }

    fn ssh(&self, socket: &Path, arguments: &[&str]) -> Command {
        let mut command = self.sshd.ssh("ssh");
        command.arg("-S").arg(socket).args(arguments);
        command
    }

    /// The stream of events of one type.
    async fn events(&self, kind: &str) -> Result<TcpStream> {
        let mut stream = connect(self.daemon.address).await?;
        let request = format!(
            "GET /events?types={kind} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nAccept: text/event-stream\r\n\r\n",
            self.daemon.address, self.daemon.token
        );
        stream.write_all(request.as_bytes()).await?;
        super::mcp::until(&mut stream, b"\r\n\r\n").await?;
        Ok(stream)
    }
}

impl Client {
    /// The answer to one call: with a length, or in chunks to the last of them.
    async fn call(&mut self, request: &[u8]) -> Result<String> {
        self.stream.write_all(request).await?;
        let mut buffer = vec![0; 64 * 1024];
        let mut seen = 0;
        loop {
            let length = self.stream.read(&mut buffer).await?;
            anyhow::ensure!(length > 0, "the daemon hung up");
            self.held.extend_from_slice(&buffer[..length]);
            if whole(&self.held, &mut seen)? {
                break;
            }
        }
        let said = String::from_utf8_lossy(&std::mem::take(&mut self.held)).into_owned();
        let good = said.starts_with("HTTP/1.1 200") && said.contains(r#""isError":false"#);
        if good { Ok(said) } else { bail!("{said}") }
    }
}

/// Whether an answer has come to its end.
fn whole(held: &[u8], head: &mut usize) -> Result<bool> {
    if *head == 0 {
        match memchr::memmem::find(held, b"\r\n\r\n") {
            Some(at) => *head = at + 4,
            None => return Ok(false),
        }
    }
    let text = String::from_utf8_lossy(&held[..*head]).to_ascii_lowercase();
    match text.lines().find_map(|line| line.strip_prefix("content-length: ")) {
        Some(length) => Ok(held.len() >= *head + length.trim().parse::<usize>()?),
        None => Ok(held.ends_with(b"0\r\n\r\n")),
    }
}

/// `true` on a warm member: by a tool call on a connection that is kept, as a
/// client of MCP waits for it, and by programs, which have to be started: `ssh`
/// through a control master, and `fleetctl run`.
pub async fn remote() -> Result<()> {
    let mut world = World::with(1).await?;
    let socket = world.sshd.path("master");
    World::time(world.ssh(&socket, &["-M", "-f", "-N", "m0"]))?;
    let there = json!({ "command": "true", "member_name": "m0" });
    let here = json!({ "command": "true" });
    world.execute(&there).await?;
    let mut medians = [const { Vec::new() }; 4];
    let mut tails = Vec::new();
    for _ in 0..ROUNDS {
        let mut times = [const { Vec::new() }; 4];
        for _ in 0..COMMANDS {
            times[0].push(World::time(world.ssh(&socket, &["m0", "true"]))?);
            times[1].push(world.execute(&there).await?);
            times[2].push(World::time(world.fleetctl(&["run", "--on", "m0", "--", "true"]))?);
            times[3].push(world.execute(&here).await?);
        }
        for (all, round) in medians.iter_mut().zip(&times) {
            all.push(median(round));
        }
        tails.push(percentile(&times[1], 99.0));
    }
    World::time(world.ssh(&socket, &["-O", "exit", "m0"]))?;
    let [ssh, tool, fleetctl, local] = medians.map(|all| median(&all));
    let goal = "ratio <= 1.5";
    beside("execute_command `true` on a member (floor: ssh, master)", tool, ssh, "ms", goal);
    beside("  fleetctl run --on it, the same floor", fleetctl, ssh, "ms", "ratio <= 2");
    line("  the tool's p99", median(&tails), "ms", "");
    line("  the tool on the local machine", local, "ms", "");
    Ok(())
}

/// What a long standard input adds.
pub async fn stdin() -> Result<()> {
    let mut world = World::with(1).await?;
    let asked = |bytes: usize| json!({ "command": "cat >/dev/null", "member_name": "m0", "stdin": "x".repeat(bytes) });
    let (short, long) = (asked(1), asked(INPUT));
    world.execute(&long).await?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS * COMMANDS / 2 {
        without.push(world.execute(&short).await?);
        with.push(world.execute(&long).await?);
    }
    let added = median(&with) - median(&without);
    line("standard input of 200 KB to a member adds", added, "ms", "<= 100");
    Ok(())
}

/// From a write on the member to the text at a subscriber.
pub async fn partial() -> Result<()> {
    let mut world = World::with(1).await?;
    let (mut middles, mut tails) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut stream = world.events("task.output").await?;
        let command = format!(
            "i=0; while [ $i -lt {LINES} ]; do date +at%s%N.; sleep 0.07; i=$((i + 1)); done"
        );
        let asked = json!({ "command": command, "member_name": "m0", "async": true });
        world.call("execute_command", &asked).await?;
        let times = stamps(&mut stream, LINES).await?;
        middles.push(percentile(&times, 50.0));
        tails.push(percentile(&times, 99.0));
    }
    line("text written on a member to a subscriber, p50", median(&middles), "ms", "<= 150");
    line("  its p99", median(&tails), "ms", "<= 150");
    Ok(())
}

/// How old the times are that arrive, in milliseconds.
async fn stamps(stream: &mut TcpStream, count: usize) -> Result<Vec<f64>> {
    let (mut held, mut buffer, mut times) = (Vec::new(), vec![0; 16 * 1024], Vec::new());
    while times.len() < count {
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut buffer));
        let length = read.await.context("no more text comes")??;
        anyhow::ensure!(length > 0, "the stream ended");
        let now = nanos();
        held.extend_from_slice(&buffer[..length]);
        let mut from = 0;
        while let Some(at) = memchr::memmem::find(&held[from..], b"at1") {
            let digits = from + at + 2;
            let Some(end) = held[digits..].iter().position(|byte| *byte == b'.') else { break };
            let stamp = std::str::from_utf8(&held[digits..digits + end])?;
            if let Ok(written) = stamp.parse::<u128>() {
                times.push(now.saturating_sub(written) as f64 / 1e6);
            }
            from = digits + end;
        }
        held.drain(..from);
    }
    Ok(times)
}

/// `fleet_status` of a fleet that is online.
pub async fn status() -> Result<()> {
    let mut world = World::with(MEMBERS).await?;
    let request = tool(&world.daemon, "fleet_status", &json!({}));
    let (mut middles, mut tails) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut times = Vec::new();
        for _ in 0..COMMANDS * 10 {
            let begun = Instant::now();
            world.client.call(&request).await?;
            times.push(millis(begun.elapsed()));
        }
        middles.push(percentile(&times, 50.0));
        tails.push(percentile(&times, 99.0));
    }
    line("fleet_status with 50 members online, p50", median(&middles), "ms", "");
    line("  its p99", median(&tails), "ms", "<= 20");
    Ok(())
}

/// From a member that falls silent to the event that says so.
pub async fn offline() -> Result<()> {
    let mut world = World::with(1).await?;
    let mut times = Vec::new();
    for _ in 0..3 {
        let mut stream = world.events("member.offline").await?;
        let sessions = below(&world.sshd.path("pid"))?;
        // Heard of just now, the member has its whole budget before it.
        world.execute(&json!({ "command": "true", "member_name": "m0" })).await?;
        let begun = Instant::now();
        for pid in &sessions {
            kill(Pid::from_raw(*pid), Signal::SIGSTOP)?;
        }
        let told = super::mcp::until(&mut stream, b"event: member.offline");
        tokio::time::timeout(BUDGET * 2, told).await.context("nobody noticed")??;
        times.push(begun.elapsed().as_secs_f64());
        for pid in &sessions {
            // The daemon has cut the connection: they end.
            kill(Pid::from_raw(*pid), Signal::SIGCONT)?;
        }
        world.all_online(1).await?;
    }
    let over = percentile(&times, 100.0) - BUDGET.as_secs_f64();
    line("silence of a member to member.offline", median(&times), "s", "<= 17");
    line("  the worst of three, beyond the budget of 15 s", over, "s", "<= 2");
    Ok(())
}

/// The processes that serve a server's connections now.
fn below(pid_file: &Path) -> Result<Vec<i32>> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // One that has just ended has no parent.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let mut fields = stat.rsplit(')').next().unwrap_or("").split_whitespace();
        parents.extend(fields.nth(1).and_then(|of| of.parse::<i32>().ok()).map(|of| (pid, of)));
    }
    let mut found = vec![std::fs::read_to_string(pid_file)?.trim().parse::<i32>()?];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    Ok(found.split_off(1))
}

//! Files to a member and back, beside `sftp` over the same server.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::daemon::Server as Daemon;
use super::load::{connect, post};
use super::mcp::whole;
use super::report::{ROUNDS, beside, line, median};
use super::sshd;

const BYTES: usize = 100 * 1024 * 1024;

/// Files of the second figure, and the bytes of each.
const MANY: usize = 1000;
const SMALL: usize = 4096;

fn done(mut command: Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "{command:?}: {output:?}");
    Ok(())
}

/// A daemon with the member `m`, whose files lie in `work`.
struct World {
    daemon: Daemon,
    server: sshd::Server,
    home: tempfile::TempDir,
}

impl World {
    fn new() -> Result<Self> {
        let (server, home) = (sshd::Server::start()?, tempfile::tempdir()?);
        let daemon = Daemon::at(home.path())?;
        let config = fs::read_to_string(server.path("home/.ssh/config"))?;
        let port = config.lines().find_map(|line| line.trim().strip_prefix("Port "));
        let user = config.lines().find_map(|line| line.trim().strip_prefix("User "));
        let (work, key) = (server.path("work"), server.path("client"));
        let mut add = Command::new(env!("CARGO_BIN_EXE_fleetctl"));
        add.env_clear().env("HOME", home.path());
        add.args(["members", "add", "m", "--host", "127.0.0.1", "--accept-new"]);
        add.args(["--port", port.context("no port")?, "--user", user.context("no user")?]);
        add.arg("--key").arg(key).arg("--work-folder").arg(work);
        done(add)?;
        Ok(Self { daemon, server, home })
    }

    /// Seconds that a tool takes.
    async fn tool(&self, name: &str, arguments: Value) -> Result<f64> {
        let meta = json!({ "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {} });
        let params = json!({ "name": name, "arguments": arguments, "_meta": meta });
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
        let headers = format!(
            "Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2026-07-28\r\n\
             Mcp-Method: tools/call\r\nMcp-Name: {name}\r\n"
        );
        let request =
            post(&self.daemon, "/mcp/x/all", "application/json", &body.to_string(), &headers);
        let mut stream = connect(self.daemon.address).await?;
        let begun = Instant::now();
        tokio::io::AsyncWriteExt::write_all(&mut stream, &request).await?;
        whole(&mut stream, &mut Vec::new()).await?;
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Seconds that one command of `sftp` takes, the connection included.
    fn sftp(&self, line: &str) -> Result<f64> {
        let batch = self.home.path().join("batch");
        fs::write(&batch, line)?;
        let mut command = self.server.ssh("sftp");
        command.arg("-q").arg("-b").arg(batch).arg("m0");
        let begun = Instant::now();
        done(command)?;
        Ok(begun.elapsed().as_secs_f64())
    }

    async fn round(&self, what: &str) -> Result<[f64; 4]> {
        let at = |name: &str| self.home.path().join(name).display().to_string();
        let work = self.server.path("work").display().to_string();
        let (from, to, back) = (at(what), format!("{work}/theirs"), at("back"));
        let arguments = json!({ "local_paths": [from], "member_name": "m" });
        let up = self.tool("send_files", arguments).await?;
        let up_sftp = self.sftp(&format!("put -r {from} {to}\n"))?;
        let arguments =
            json!({ "remote_paths": [what], "local_dest_dir": back, "member_name": "m" });
        let down = self.tool("receive_files", arguments).await?;
        let down_sftp = self.sftp(&format!("get -r {to} {}\n", at("theirs")))?;
        for arrived in [format!("{work}/{what}"), format!("{back}/{what}")] {
            ensure!(fs::exists(&arrived)?, "{arrived} did not arrive");
        }
        Ok([up, up_sftp, down, down_sftp])
    }
}

/// 100 MiB, and a thousand small files, up and down; the hash check included.
pub async fn files() -> Result<()> {
    let world = World::new()?;
    let big: Vec<u8> = (0..BYTES).map(|at| (at * 2_654_435_761) as u8).collect();
    fs::write(world.home.path().join("big"), big)?;
    let many = world.home.path().join("many");
    fs::create_dir(&many)?;
    for number in 0..MANY {
        fs::write(many.join(number.to_string()), vec![7; SMALL])?;
    }
    for what in ["big", "many"] {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            rounds.push(world.round(what).await?);
            for left in [
                world.home.path().join("back"),
                world.home.path().join("theirs"),
                world.server.path("work/theirs"),
            ] {
                let _ = fs::remove_dir_all(&left).or_else(|_| fs::remove_file(&left));
            }
        }
        let of = |at: usize| median(&rounds.iter().map(|round| round[at]).collect::<Vec<_>>());
        if what == "big" {
            let rate = |at| BYTES as f64 / 1e6 / of(at);
            beside(
                "send_files 100 MiB, hashed (floor: sftp put)",
                rate(0),
                rate(1),
                "MB/s",
                "ratio >= 1",
            );
            beside(
                "receive_files 100 MiB, hashed (floor: sftp get)",
                rate(2),
                rate(3),
                "MB/s",
                "ratio >= 1",
            );
        } else {
            line(
                "send_files 1000 x 4 KiB",
                of(0) * 1e3,
                "ms",
                &format!("sftp {:.0} ms", of(1) * 1e3),
            );
            line(
                "receive_files 1000 x 4 KiB",
                of(2) * 1e3,
                "ms",
                &format!("sftp {:.0} ms", of(3) * 1e3),
            );
        }
    }
    Ok(())
}

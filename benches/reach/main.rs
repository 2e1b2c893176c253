//! Figures of SSH, each beside OpenSSH's own from the same run.
//!
//! `cargo bench --bench reach [-- NAME…]`, names: exec, files, sessions. A
//! server of OpenSSH is started on loopback. Nothing here asserts: a benchmark
//! informs, a person judges.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod server;

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use fleetd::reach::{Auth, Limits, Link, Phase, Put, Reach, ReachOptions, Target};
use server::Server;

const ALL: &[&str] = &["exec", "files", "sessions"];
const MIB: usize = 1024 * 1024;
const LIMITS: Limits = Limits { deadline: Duration::from_secs(60), most_output: MIB };

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let names: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if let Some(unknown) = names.iter().find(|name| !ALL.contains(&name.as_str())) {
        bail!("no figure '{unknown}'; there are {}", ALL.join(", "));
    }
    let server = Server::start()?;
    for name in ALL.iter().filter(|name| names.is_empty() || names.iter().any(|n| n == *name)) {
        match *name {
            "exec" => exec(&server).await?,
            "files" => files(&server).await?,
            _ => sessions(&server).await?,
        }
    }
    Ok(())
}

fn reach(server: &Server) -> Result<Reach> {
    let home = server.path("home");
    let mut options = ReachOptions::new(&home, home.join("pins"), "root");
    options.connect_deadline = Duration::from_secs(60);
    Ok(Reach::new(options)?)
}

async fn online(link: &Link) -> Result<()> {
    let mut states = link.state();
    let state = states.wait_for(|state| state.phase != Phase::Connecting).await?;
    if state.phase != Phase::Online {
        bail!("{}", state.reason);
    }
    Ok(())
}

fn target(server: &Server, host: &str) -> Target {
    Target { auth: Auth::KeyFile(server.path("client")), ..Target::new(host) }
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    format!("p50 {:.2} ms  p99 {:.2} ms", at(0.5), at(0.99))
}

/// `true` over a warm link, and by `ssh` through a control master, in turn.
async fn exec(server: &Server) -> Result<()> {
    let reach = reach(server)?;
    let link = reach.link(&target(server, "m0"));
    online(&link).await?;
    let socket = server.path("master");
    let ssh = |arguments: &[&str]| -> Result<()> {
        let mut command = server.ssh("ssh");
        command.arg("-S").arg(&socket).args(arguments);
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
        if status.success() { Ok(()) } else { bail!("ssh {arguments:?}: {status}") }
    };
    ssh(&["-M", "-f", "-N", "m0"])?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..200 {
        let begun = Instant::now();
        link.ask("true", Bytes::new(), LIMITS).await?;
        ours.push(begun.elapsed());
        let begun = Instant::now();
        ssh(&["m0", "true"])?;
        theirs.push(begun.elapsed());
    }
    ssh(&["-O", "exit", "m0"])?;
    println!("exec      true on a warm link    {}", percentiles(ours));
    println!("          ssh, control master    {}", percentiles(theirs));
    reach.close().await;
    Ok(())
}

/// 100 MiB up and down, by buffers of 1 MiB, and by `sftp`.
async fn files(server: &Server) -> Result<()> {
    const SIZE: usize = 100 * MIB;
    let reach = reach(server)?;
    let link = reach.link(&target(server, "m0"));
    online(&link).await?;
    let files = link.files().await?;
    let path = server.path("home/100M");
    let path = path.to_str().context("a path of text")?;
    let rate = |begun: Instant| SIZE as f64 / 1e6 / begun.elapsed().as_secs_f64();
    let piece = Bytes::from(vec![7; MIB]);
    for _ in 0..3 {
        let begun = Instant::now();
        let upload = files.put(path, Put::default()).await?;
        for _ in 0..SIZE / MIB {
            upload.write(piece.clone()).await?;
        }
        upload.finish(false).await?;
        let up = rate(begun);
        let begun = Instant::now();
        let mut download = files.get(path, 0).await?;
        let mut bytes = 0;
        while let Some(piece) = download.next().await? {
            bytes += piece.len();
        }
        anyhow::ensure!(bytes == SIZE, "{bytes} bytes came back");
        println!("files     up {up:.0} MB/s  down {:.0} MB/s", rate(begun));
        for (way, order) in
            [("up", format!("put {path} {path}2")), ("down", format!("get {path} {path}3"))]
        {
            let batch = server.path("batch");
            std::fs::write(&batch, order)?;
            let mut sftp = server.ssh("sftp");
            sftp.arg("-q").arg("-b").arg(&batch).arg("m0").stdout(Stdio::null());
            let begun = Instant::now();
            anyhow::ensure!(sftp.status()?.success(), "sftp has failed");
            println!("          sftp {way} {:.0} MB/s", rate(begun));
        }
    }
    reach.close().await;
    Ok(())
}

/// What 500 idle connections cost, once they are there.
async fn sessions(server: &Server) -> Result<()> {
    const MANY: usize = 500;
    let reach = reach(server)?;
    // What the first one needs for good is not counted.
    online(&reach.link(&target(server, "m0"))).await?;
    let (before, begun) = (status("VmRSS:")?, Instant::now());
    let links: Vec<_> = (0..MANY).map(|n| reach.link(&target(server, &format!("m{n}")))).collect();
    for link in &links {
        online(link).await?;
    }
    let opened = begun.elapsed();
    // The threads that computed for them go after a second.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let each = status("VmRSS:")?.saturating_sub(before) as f64 / MANY as f64;
    println!(
        "sessions  {MANY} in {:.1} s  {each:.0} KiB each  {} threads",
        opened.as_secs_f64(),
        status("Threads:")?
    );
    let begun = Instant::now();
    let asked = links.iter().map(|link| link.ask("true", Bytes::new(), LIMITS));
    let answers = futures_util::future::join_all(asked).await;
    anyhow::ensure!(answers.iter().all(Result::is_ok), "a command has failed");
    println!("          true on all of them in {:.0} ms", begun.elapsed().as_secs_f64() * 1e3);
    let cpu = || -> Result<u64> {
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        let fields: Vec<_> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
    };
    let ticks = cpu()?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    println!("          idle: {:.1} % of a core", (cpu()? - ticks) as f64 / 10.0);
    reach.close().await;
    Ok(())
}

/// A number of this process's status.
fn status(name: &str) -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
    Ok(line.split_whitespace().next().context("no number")?.parse()?)
}

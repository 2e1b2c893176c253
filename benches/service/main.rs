//! Figures of the whole service, each beside its floor from the same run.
//!
//! `cargo bench --bench service [-- NAME…]` prints medians of five rounds; a
//! round measures floor and product one after the other, so that a noisy
//! neighbour hits both. Names: ready, memory, publish, fanout, paced, idle,
//! replay, execute, tools, sessions, abandoned, listens, files. Nothing here asserts: a benchmark informs, a person judges.

mod bare;
mod daemon;
mod files;
mod floor;
mod listens;
mod load;
mod mcp;
mod measure;
mod report;

use anyhow::{Result, bail};

/// What can be measured, in the order it is printed.
const ALL: &[&str] = &[
    "ready",
    "memory",
    "publish",
    "fanout",
    "paced",
    "idle",
    "replay",
    "execute",
    "tools",
    "sessions",
    "abandoned",
    "listens",
    "files",
];

fn main() -> Result<()> {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if let [flag, folder] = arguments.as_slice()
        && flag == floor::FLAG
    {
        return floor::serve(folder.as_ref());
    }
    if let [flag, folder] = arguments.as_slice()
        && flag == bare::FLAG
    {
        return bare::serve(folder.as_ref());
    }
    if let Some(unknown) = arguments.iter().find(|name| !ALL.contains(&name.as_str())) {
        bail!("no figure '{unknown}'; there are {}", ALL.join(", "));
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    for name in
        ALL.iter().filter(|name| arguments.is_empty() || arguments.iter().any(|a| a == *name))
    {
        runtime.block_on(async {
            match *name {
                "ready" => measure::ready().await,
                "memory" => measure::memory().await,
                "publish" => measure::publish().await,
                "fanout" => measure::fanout().await,
                "paced" => measure::paced().await,
                "idle" => measure::idle().await,
                "replay" => measure::replay().await,
                "execute" => measure::execute().await,
                "tools" => mcp::tools().await,
                "sessions" => mcp::sessions().await,
                "abandoned" => mcp::abandoned().await,
                "listens" => listens::listens().await,
                _ => files::files().await,
            }
        })?;
    }
    Ok(())
}

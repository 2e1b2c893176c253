//! What can be seen of a run without asking it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Reading, Sample, transcript};
use crate::fleet::drive::blocking;
use crate::fleet::process::cpu_below;
use crate::fleet::remote::Place;
use crate::fleet::rundir::RunDir;
use crate::model::OutputStream;

/// Where to look at one run.
pub struct Evidence {
    pub dir: RunDir,
    pub processes: Processes,
    /// A pattern of files on this machine.
    pub transcript: Option<String>,
}

/// Whose CPU time is a run's.
#[derive(Clone)]
pub enum Processes {
    /// All that descend from its supervisor here.
    Below(u32),
    /// Its process group on a member.
    On(Arc<Place>),
}

impl Evidence {
    /// One look, which forks nothing and asks only for the processes of this run.
    /// `None`: it cannot be seen now.
    pub async fn read(&self) -> Option<Reading> {
        let away = match &self.processes {
            Processes::Below(_) => None,
            // An answer of a link that was just cut would say nothing.
            Processes::On(place) => Some(place.cpu_of(&self.dir.name()).await?),
        };
        let (dir, pattern) = (self.dir.clone(), self.transcript.clone());
        let below = match self.processes {
            Processes::Below(supervisor) => Some(supervisor),
            Processes::On(_) => None,
        };
        let read = blocking(move || {
            let cpu = below.map_or(away.flatten(), cpu_below);
            Ok(look(&dir, pattern.as_deref(), cpu))
        });
        read.await.ok()
    }
}

fn look(dir: &RunDir, pattern: Option<&str>, cpu: Option<Duration>) -> Reading {
    let files: Vec<PathBuf> = pattern.map(transcript::files).unwrap_or_default();
    let written = |stream| {
        let (kept, cut) = dir.counts(stream);
        kept + cut
    };
    let bytes =
        written(OutputStream::Stdout) + written(OutputStream::Stderr) + dir.number("stdin.taken");
    // The programs of some makers write the same lines to their output.
    let said = files.iter().cloned().chain([dir.file(OutputStream::Stdout.as_str())]);
    let declared = said.filter_map(|file| transcript::declared(&file)).max();
    let stamp = pattern.map(|_| transcript::stamp(&files));
    Reading { sample: Sample { bytes: Some(bytes), transcript: stamp, cpu }, declared }
}

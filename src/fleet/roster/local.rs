//! The machine that the daemon runs on.

use super::profile::blank;
use crate::model::{Member, MemberFacts, MemberId, MemberName, MemberOs, Reachable, Timestamp};

/// The built-in member. It has a row once somebody changes it.
pub fn member() -> Member {
    let home = std::env::home_dir().map_or_else(|| String::from("/"), lossy);
    Member {
        id: MemberId::LOCAL,
        work_folder: home.clone(),
        facts: MemberFacts { os: Some(os()), home: Some(home), ..MemberFacts::default() },
        ..blank(MemberName::local(), false)
    }
}

/// The built-in member's row, under a daemon that has just begun.
pub fn awake(row: Member) -> Member {
    let reachable = Reachable { online: true, since: Timestamp::now(), ..row.reachable };
    Member { reachable, ..row }
}

fn os() -> MemberOs {
    if cfg!(target_os = "macos") { MemberOs::Macos } else { MemberOs::Linux }
}

fn lossy(path: std::path::PathBuf) -> String {
    path.to_string_lossy().into_owned()
}

//! Who works in which folder: two prompts never share one unawares.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// What a prompt takes for as long as it runs: a place among its member's
/// prompts, and the folder it works in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    pub member: String,
    /// Absolute, links resolved where that can be known.
    pub folder: String,
}

/// The claims that are held now; a few per member.
pub struct Leases {
    held: Vec<Claim>,
    /// Prompts that run at the same time on one member.
    pub most: usize,
}

impl Default for Leases {
    fn default() -> Self {
        Self { held: Vec::new(), most: 1 }
    }
}

impl Claim {
    /// A folder and one within it are the same place to work in.
    fn overlaps(&self, other: &Self) -> bool {
        let (ours, theirs) = (Path::new(&self.folder), Path::new(&other.folder));
        self.member == other.member && (ours.starts_with(theirs) || theirs.starts_with(ours))
    }
}

impl Leases {
    /// Whether `claim` could be held now. No claim always can.
    pub fn free(&self, claim: Option<&Claim>) -> bool {
        claim.is_none_or(|claim| {
            let running = self.held.iter().filter(|held| held.member == claim.member).count();
            running < self.most && !self.held.iter().any(|held| held.overlaps(claim))
        })
    }

    /// Also for one that is found running, whatever else is.
    pub fn hold(&mut self, claim: Option<&Claim>) {
        self.held.extend(claim.cloned());
    }

    pub fn release(&mut self, claim: Option<&Claim>) {
        if let Some(at) = claim.and_then(|claim| self.held.iter().position(|held| held == claim)) {
            self.held.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(member: &str, folder: &str) -> Option<Claim> {
        Some(Claim { member: member.to_owned(), folder: folder.to_owned() })
    }

    #[test]
    fn a_folder_is_one_prompts_alone() {
        let mut leases = Leases { most: 9, ..Leases::default() };
        let repo = claim("a", "/repo");
        leases.hold(repo.as_ref());
        for (member, folder, free) in [
            ("a", "/repo", false),
            ("a", "/repo/sub", false),
            ("a", "/", false),
            ("a", "/repository", true),
            ("b", "/repo", true),
        ] {
            assert_eq!(leases.free(claim(member, folder).as_ref()), free, "{member} {folder}");
        }
        assert!(leases.free(None));
        leases.release(repo.as_ref());
        assert!(leases.free(repo.as_ref()));
    }

    #[test]
    fn a_member_runs_so_many_prompts_and_no_more() {
        let mut leases = Leases { most: 2, ..Leases::default() };
        leases.hold(claim("a", "/1").as_ref());
        assert!(leases.free(claim("a", "/2").as_ref()));
        leases.hold(claim("a", "/2").as_ref());
        assert!(!leases.free(claim("a", "/3").as_ref()));
        assert!(leases.free(claim("b", "/3").as_ref()));
    }
}

//! Keys that fleetd makes for a member, one each: Ed25519, kept 0600 below the
//! state directory, and removed with what they opened. A key that a person
//! named is never touched, neither here nor there.
//!
//! Made with the `ssh-key` crate rather than `ssh-keygen`: the daemon's machine
//! need not have OpenSSH, and nothing secret passes through another process.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ssh_key::rand_core::OsRng;
use ssh_key::{Algorithm, LineEnding, PrivateKey};
use uuid::Uuid;

use super::profile::invalid;
use super::{Inner, MemberHandle, Roster, RosterError, Settled, ask, events, probe};
use crate::fleet::{FleetError, drive};
use crate::model::{Member, MemberAuth, MemberPlace, Timestamp};
use crate::reach::{Identity, Link, ReachError};
use crate::store::StoreError;

/// A key as the member has to know it.
struct Made {
    path: PathBuf,
    /// Algorithm and base64, without comment.
    public: String,
    comment: String,
}

impl Roster {
    /// Makes a key for a remote member, lets it in there, proves on a connection
    /// of its own that it opens, and only then switches the member to it.
    ///
    /// # Errors
    /// [`RosterError`]; then the member is reached as before, and what was made
    /// is taken back.
    pub async fn setup_key(&self, handle: &Arc<MemberHandle>) -> Result<Settled, FleetError> {
        if handle.member().remote().is_none() {
            return Err(invalid("member_name", "is local and needs no key"));
        }
        // A caller who goes away leaves no key in there that nobody uses.
        let held = Arc::clone(handle);
        self.0.commit(async move |inner: Arc<Inner>| inner.switch_key(&held).await).await
    }
}

impl Inner {
    async fn switch_key(
        self: &Arc<Self>,
        handle: &Arc<MemberHandle>,
    ) -> Result<Settled, FleetError> {
        let before = handle.member();
        let link = self.up(handle).await?;
        let made = self.make_key(&before).await?;
        if let Err(error) = self.prove_and_take(handle, &before, &link, &made).await {
            let _ = ask::sh(Some(&link), &put_out(&made.public), "removing the key").await;
            remove_file(made.path).await;
            return Err(error);
        }
        let warnings = self.take_back_key(&before, Some(link)).await;
        Ok(Settled { handle: Arc::clone(handle), warnings })
    }

    async fn prove_and_take(
        self: &Arc<Self>,
        handle: &Arc<MemberHandle>,
        before: &Member,
        link: &Link,
        made: &Made,
    ) -> Result<(), FleetError> {
        let Some(remote) = before.remote() else {
            return Err(RosterError::Changed(before.name.clone()).into());
        };
        let auth = MemberAuth::Key { path: made.path.clone(), made: true };
        ask::sh(Some(link), &let_in(made), "adding the key to authorized_keys").await?;
        let target =
            ask::target(&crate::model::Remote { auth: auth.clone(), ..remote.clone() }, false);
        let facts = self.reach.try_connect(&target).await.map_err(RosterError::Reach)?;
        if !matches!(facts.identity, Identity::KeyFile(path) if path == made.path) {
            // It would have opened without: then nothing was proven.
            let what = String::from("proving the new key");
            let problem = String::from("the member let us in without asking for it");
            return Err(RosterError::Failed { what, problem }.into());
        }
        let old = before.clone();
        self.change(handle, move |row, _| switch(row, &old, auth)).await?;
        self.connect(handle);
        Ok(())
    }
}

/// The row with the new key, if it is reached as it was when the key was proven.
fn switch(
    row: &Member,
    old: &Member,
    auth: MemberAuth,
) -> Result<Option<(Member, Vec<crate::model::NewEvent>)>, FleetError> {
    if row.place != old.place {
        return Err(RosterError::Changed(row.name.clone()).into());
    }
    let mut next = Member { updated: Timestamp::now(), ..row.clone() };
    if let MemberPlace::Remote(remote) = &mut next.place {
        remote.auth = auth;
    }
    let event = events::updated(row, &next, &["key_path"]).map_err(StoreError::Event)?;
    Ok(Some((next, vec![event])))
}

impl Inner {
    /// The link of a member that is up, or why it is not.
    pub async fn up(&self, handle: &MemberHandle) -> Result<Link, RosterError> {
        let member = handle.member();
        let gone = || RosterError::Offline {
            member: member.name.clone(),
            reason: String::from("it has no link"),
        };
        let link = handle.link().ok_or_else(gone)?;
        ask::until_up(&link, &member.name).await?;
        Ok(link)
    }

    async fn make_key(&self, member: &Member) -> Result<Made, FleetError> {
        let comment = format!("fleetd-{}", member.id);
        let path = self.keys.join(format!("{}-{}", member.id, Uuid::now_v7()));
        let shown = path.display().to_string();
        let made = drive::blocking(move || write_key(path, comment)).await;
        made.map_err(|error| {
            let what = format!("making the key '{shown}'");
            RosterError::Failed { what, problem: error.to_string() }.into()
        })
    }

    /// Removes the key that fleetd made for `member`, here and there. Returns
    /// what could not be done.
    pub async fn take_back_key(&self, member: &Member, link: Option<Link>) -> Vec<String> {
        let Some(MemberAuth::Key { path, made: true }) = member.remote().map(|remote| &remote.auth)
        else {
            return Vec::new();
        };
        // Nothing outside our own folder, whatever a row says.
        if path.parent() != Some(self.keys.as_path()) {
            return Vec::new();
        }
        let from = path.clone();
        let public = drive::blocking(move || public_of(&from)).await;
        let taken = match (public, link) {
            (Ok(public), Some(link)) => {
                ask::sh(Some(&link), &put_out(&public), "removing the key").await.map(drop)
            }
            (Err(error), _) => Err(RosterError::Failed {
                what: format!("reading the key '{}'", path.display()),
                problem: error.to_string(),
            }),
            (Ok(_), None) => Err(ReachError::Closed.into()),
        };
        remove_file(path.clone()).await;
        let warn = |error| {
            format!(
                "the line 'fleetd-{}' could not be removed from authorized_keys: {error}",
                member.id
            )
        };
        taken.err().map(warn).into_iter().collect()
    }

    /// Removes keys that no member has: a daemon ended before it could.
    pub async fn sweep_keys(&self, members: &[Member]) {
        let remotes = members.iter().filter_map(Member::remote);
        let used: Vec<PathBuf> = remotes
            .filter_map(|remote| match &remote.auth {
                MemberAuth::Key { path, made: true } => Some(path.clone()),
                _ => None,
            })
            .collect();
        let keys = self.keys.clone();
        let swept = drive::blocking(move || {
            let entries = match std::fs::read_dir(keys) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                entries => entries?,
            };
            for entry in entries {
                let path = entry?.path();
                if !used.contains(&path) {
                    std::fs::remove_file(path)?;
                }
            }
            Ok(())
        });
        if let Err(error) = swept.await {
            tracing::warn!(%error, "keys that nobody uses could not be removed");
        }
    }
}

fn write_key(path: PathBuf, comment: String) -> io::Result<Made> {
    let mut key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519).map_err(io::Error::other)?;
    key.set_comment(&comment);
    let text = key.to_openssh(LineEnding::LF).map_err(io::Error::other)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(text.as_bytes())?;
    // The member is about to depend on it.
    file.sync_all()?;
    std::fs::File::open(folder)?.sync_all()?;
    Ok(Made { public: public_of(&path)?, path, comment })
}

fn public_of(path: &Path) -> io::Result<String> {
    let key = PrivateKey::read_openssh_file(path).map_err(io::Error::other)?;
    let line = key.public_key().to_openssh().map_err(io::Error::other)?;
    Ok(line.split(' ').take(2).collect::<Vec<_>>().join(" "))
}

async fn remove_file(path: PathBuf) {
    let removed = drive::blocking(move || std::fs::remove_file(path)).await;
    if let Err(error) = removed {
        tracing::warn!(%error, "a key could not be removed");
    }
}

/// Adds the line once. `restrict`: it runs commands and moves files, no more.
fn let_in(made: &Made) -> String {
    let line = probe::quoted(&format!("restrict {} {}", made.public, made.comment));
    format!(
        r#"set -e
umask 077
cd "$HOME"
mkdir -p .ssh
f=.ssh/authorized_keys
[ -e "$f" ] || : >"$f"
if [ -s "$f" ] && [ -n "$(tail -c 1 "$f")" ]; then echo >>"$f"; fi
printf '%s\n' {line} >>"$f"
"#
    )
}

/// Takes away the lines with exactly this key, and nothing else. The file is
/// replaced whole, with its mode, so that no moment has half of it.
fn put_out(public: &str) -> String {
    let key = probe::quoted(public);
    format!(
        r#"cd "$HOME" || exit 1
f=.ssh/authorized_keys
[ -f "$f" ] || exit 0
grep -qF -- {key} "$f" || exit 0
[ -L "$f" ] && {{ echo "$f is a symbolic link" >&2; exit 1; }}
t=$f.fleetd.$$
cp -p "$f" "$t" || exit 1
grep -vF -- {key} "$f" >"$t"
[ $? -le 1 ] && mv -f "$t" "$f" && exit 0
rm -f "$t"
exit 1
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::process::{Command, Stdio};

    fn run(home: &Path, script: &str) {
        let mut shell = Command::new("sh").env("HOME", home).stdin(Stdio::piped()).spawn().unwrap();
        shell.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        assert!(shell.wait().unwrap().success(), "{script}");
    }

    #[test]
    fn a_key_is_private_and_comes_and_goes_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("keys/one");
        let made = write_key(path.clone(), String::from("fleetd-x")).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert!(made.public.starts_with("ssh-ed25519 AAAA"), "{}", made.public);
        let file = home.path().join(".ssh/authorized_keys");
        std::fs::create_dir(home.path().join(".ssh")).unwrap();
        // The last line has no end, as an editor may leave it.
        std::fs::write(&file, "ssh-rsa AAAA their own").unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
        run(home.path(), &let_in(&made));
        let text = std::fs::read_to_string(&file).unwrap();
        let line = format!("restrict {} fleetd-x", made.public);
        assert_eq!(text.lines().collect::<Vec<_>>(), ["ssh-rsa AAAA their own", &line]);
        run(home.path(), &put_out(&made.public));
        run(home.path(), &put_out(&made.public));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "ssh-rsa AAAA their own\n");
        assert_eq!(mode(&file), 0o644);
        assert_eq!(std::fs::read_dir(home.path().join(".ssh")).unwrap().count(), 1);
    }
}

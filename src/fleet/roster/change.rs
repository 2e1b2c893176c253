//! Registering, changing and removing members, in two phases: first everything
//! that may fail out there, then one transaction that looks again.

use std::path::Path;
use std::sync::Arc;

use super::profile::{self, MemberChange};
use super::{Inner, MemberHandle, Roster, RosterError, ask, events, probe};
use crate::fleet::FleetError;
use crate::model::{
    Member, MemberAuth, MemberFacts, MemberId, MemberName, NewEvent, Principal, Timestamp,
};
use crate::reach::Link;
use crate::store::{StoreError, Tx};

/// What was done, and what was not as one may have wished.
pub struct Settled {
    pub handle: Arc<MemberHandle>,
    pub warnings: Vec<String>,
}

/// What was found out in the first phase.
struct Found {
    facts: MemberFacts,
    warnings: Vec<String>,
    /// Held so that the connection is there when the member is.
    _link: Option<Link>,
}

impl Roster {
    /// Registers a member after it was reached, its system found to be one of
    /// ours and its work folder made. `remote` needs a host.
    ///
    /// # Errors
    /// [`FleetError::Invalid`], or [`RosterError`]; then nothing is stored.
    pub async fn register(
        &self,
        principal: &Principal,
        name: MemberName,
        remote: bool,
        mut change: MemberChange,
    ) -> Result<Settled, FleetError> {
        change.project.get_or_insert_with(|| Some(principal.home_project()));
        may_give(principal, &change)?;
        let member = change.apply(&profile::blank(name, remote))?;
        // Before the machine is bothered; looked at again when it is stored.
        let others: Vec<_> = self.0.members().values().map(|handle| handle.member()).collect();
        free(&member, others.iter().map(AsRef::as_ref))?;
        let found = self.0.find_out(&member, change.accept_new).await?;
        let row = Member { facts: found.facts, revision: 1, ..member };
        let handle = self.0.commit(move |inner| inner.add(row)).await?;
        Ok(Settled { handle, warnings: found.warnings })
    }

    /// Changes settings of a member. A changed connection or folder is tried
    /// first, as in registering.
    ///
    /// # Errors
    /// The same; then the member stays as it was.
    pub async fn update(
        &self,
        principal: &Principal,
        handle: &Arc<MemberHandle>,
        change: MemberChange,
    ) -> Result<Settled, FleetError> {
        may_give(principal, &change)?;
        let old = handle.member();
        let new = change.apply(&old)?;
        if old.id == MemberId::LOCAL && new.name != old.name {
            return Err(RosterError::BuiltIn("renamed").into());
        }
        let found = if profile::moves(&old, &new) {
            // A name that nobody knows yet would get round a key that changed.
            Some(self.0.find_out(&new, false).await?)
        } else {
            None
        };
        let facts = found.as_ref().map(|found| found.facts.clone());
        let (held, tried) = (Arc::clone(handle), new.clone());
        let handle = self
            .0
            .commit(async move |inner: Arc<Inner>| {
                let before = held.member();
                inner.change(&held, move |row, tx| amend(row, tx, &change, &tried, facts)).await?;
                if before.place != held.member().place {
                    inner.connect(&held);
                }
                Ok(held)
            })
            .await?;
        let mut warnings = found.map(|found| found.warnings).unwrap_or_default();
        if key_of(&old) != key_of(&handle.member()) {
            // A key of ours that is not used any more opens nothing from now on.
            let same_machine = old.remote().map(|r| &r.host) == new.remote().map(|r| &r.host);
            let link = if same_machine { self.0.up(&handle).await.ok() } else { None };
            warnings.extend(self.0.take_back_key(&old, link).await);
        }
        Ok(Settled { handle, warnings })
    }

    /// Removes a member. What runs there is not stopped.
    ///
    /// # Errors
    /// [`RosterError::Busy`] while it has tasks, unless `force`.
    pub async fn remove(
        &self,
        handle: &Arc<MemberHandle>,
        force: bool,
    ) -> Result<Settled, FleetError> {
        let member = handle.member();
        if member.id == MemberId::LOCAL {
            return Err(RosterError::BuiltIn("removed").into());
        }
        let held = Arc::clone(handle);
        let handle = self
            .0
            .commit(async move |inner: Arc<Inner>| {
                inner.drop_row(&held, force).await?;
                inner.members().remove(&held.member().id);
                Ok(held)
            })
            .await?;
        let link = handle.link().filter(|link| link.state().borrow().is_up());
        let warnings = self.0.take_back_key(&member, link).await;
        handle.dismiss();
        Ok(Settled { handle, warnings })
    }
}

impl Inner {
    /// Runs the second phase as a loop of its own: a caller who goes away cannot
    /// leave a row without its member in memory.
    pub async fn commit<F, W, T>(self: &Arc<Self>, work: F) -> Result<T, FleetError>
    where
        F: FnOnce(Arc<Self>) -> W,
        W: Future<Output = Result<T, FleetError>> + Send + 'static,
        T: Send + 'static,
    {
        let work = work(Arc::clone(self));
        self.tracker.spawn(work).await.map_err(|_| StoreError::Closed)?
    }

    async fn add(self: Arc<Self>, row: Member) -> Result<Arc<MemberHandle>, FleetError> {
        let stored = row.clone();
        let write = self.bus.store().write(move |tx| {
            free(&row, tx.members()?.iter())?;
            tx.put_member(&row)?;
            tx.append(events::registered(&row).map_err(StoreError::Event)?)?;
            Ok::<_, FleetError>(())
        });
        write.await?;
        let handle = self.insert(stored);
        self.connect(&handle);
        Ok(handle)
    }

    /// Changes the current row by `to`, which also says what to tell; `None`
    /// changes nothing.
    ///
    /// # Errors
    /// [`FleetError::NoMember`] if it was removed, or whatever `to` returns.
    pub async fn change<F>(&self, handle: &MemberHandle, to: F) -> Result<(), FleetError>
    where
        F: FnOnce(&Member, &Tx<'_>) -> Result<Option<(Member, Vec<NewEvent>)>, FleetError>
            + Send
            + 'static,
    {
        let held = handle.member();
        let write = self.bus.store().write(move |tx| {
            let row = match tx.member(held.id)? {
                Some(row) => row,
                // It has a row once somebody changes it.
                None if held.id == MemberId::LOCAL => Member::clone(&held),
                None => return Err(FleetError::NoMember(held.name.to_string())),
            };
            let Some((mut next, events)) = to(&row, tx)? else { return Ok(None) };
            next.revision = row.revision + 1;
            tx.put_member(&next)?;
            for event in events {
                tx.append(event)?;
            }
            Ok::<_, FleetError>(Some(next))
        });
        if let Some(next) = write.await? {
            handle.renew(next);
        }
        Ok(())
    }

    async fn drop_row(&self, handle: &MemberHandle, force: bool) -> Result<(), FleetError> {
        let held = handle.member();
        let write = self.bus.store().write(move |tx| {
            let Some(row) = tx.member(held.id)? else {
                return Err(FleetError::NoMember(held.name.to_string()));
            };
            let tasks = tx.open_tasks_on(row.name.as_str())?;
            if tasks > 0 && !force {
                let advice = "stop them first, or remove it with force";
                return Err(RosterError::Busy { member: row.name, tasks, advice }.into());
            }
            tx.remove_member(row.id)?;
            tx.append(events::removed(&row).map_err(StoreError::Event)?)?;
            Ok::<_, FleetError>(())
        });
        write.await
    }

    /// Reaches the machine, has its folder made, and hears what it is.
    async fn find_out(&self, member: &Member, accept_new: bool) -> Result<Found, FleetError> {
        let mut link = None;
        let mut fingerprint = None;
        if let Some(remote) = member.remote() {
            let target = ask::target(remote, accept_new);
            let facts = self.reach.try_connect(&target).await.map_err(RosterError::Reach)?;
            fingerprint = Some(facts.host_key.fingerprint);
            let new = self.reach.link(&ask::target(remote, false));
            ask::until_up(&new, &member.name).await?;
            link = Some(new);
        }
        let program = Some(member.provider.as_str()).filter(|name| *name != "none");
        let question = probe::Question { work_folder: &member.work_folder, program };
        let script = probe::script(&question);
        let said = ask::sh(link.as_ref(), &script, "asking what it is").await?;
        let answer = probe::parse(&said);
        if answer.facts.os.is_none() {
            return Err(unsupported(answer.kernel).into());
        }
        if !answer.folder {
            let (folder, problem) = (member.work_folder.clone(), answer.folder_problem);
            return Err(RosterError::Folder { folder, problem }.into());
        }
        let mut warnings = Vec::new();
        if let Some(program) = program.filter(|_| !answer.program) {
            warnings.push(format!("'{program}' was not found on the PATH there"));
        }
        let facts = MemberFacts { fingerprint, ..answer.facts };
        Ok(Found { facts, warnings, _link: link })
    }
}

/// The private key that the row names.
fn key_of(member: &Member) -> Option<&Path> {
    match &member.remote()?.auth {
        MemberAuth::Key { path, .. } => Some(path),
        MemberAuth::Default | MemberAuth::Agent => None,
    }
}

fn unsupported(kernel: String) -> RosterError {
    if kernel.is_empty() { RosterError::NoShell } else { RosterError::Unsupported { kernel } }
}

/// The row after `change`, applied anew to what the row is by now. It has to
/// come out where the first phase has been.
fn amend(
    row: &Member,
    tx: &Tx<'_>,
    change: &MemberChange,
    tried: &Member,
    facts: Option<MemberFacts>,
) -> Result<Option<(Member, Vec<NewEvent>)>, FleetError> {
    let mut next = change.apply(row)?;
    if profile::moves(tried, &next) {
        return Err(RosterError::Changed(row.name.clone()).into());
    }
    let fields = profile::changed(row, &next);
    if fields.is_empty() {
        return Ok(None);
    }
    free(&next, tx.members()?.iter())?;
    let moved = fields.iter().any(|field| ["host", "port", "username"].contains(field));
    if row.name != next.name || moved {
        let tasks = tx.open_tasks_on(row.name.as_str())?;
        if tasks > 0 {
            // What runs there would be looked for elsewhere, and not be found.
            let advice = match moved {
                true => "change where it is when they have ended",
                false => "rename it when they have ended",
            };
            return Err(RosterError::Busy { member: row.name.clone(), tasks, advice }.into());
        }
    }
    next.facts = facts.unwrap_or(next.facts);
    next.updated = Timestamp::now();
    let event = events::updated(row, &next, &fields).map_err(StoreError::Event)?;
    Ok(Some((next, vec![event])))
}

/// A caller gives a member only to projects that are the caller's.
fn may_give(principal: &Principal, change: &MemberChange) -> Result<(), FleetError> {
    match &change.project {
        Some(Some(project)) if !principal.sees(project) => {
            Err(profile::invalid("project", "is not one of yours"))
        }
        Some(None) if !principal.projects.is_empty() => {
            Err(profile::invalid("project", "cannot be every project: you see only some"))
        }
        _ => Ok(()),
    }
}

/// Whether `member` may be beside `others`.
fn free<'a>(member: &Member, others: impl Iterator<Item = &'a Member>) -> Result<(), RosterError> {
    if member.id != MemberId::LOCAL && member.name.is(MemberName::LOCAL) {
        return Err(RosterError::NameTaken(MemberName::local()));
    }
    for other in others.filter(|other| other.id != member.id) {
        if other.name.is(member.name.as_str()) {
            return Err(RosterError::NameTaken(other.name.clone()));
        }
        if other.same_place(member) {
            return Err(RosterError::PlaceTaken { other: other.name.clone() });
        }
    }
    Ok(())
}

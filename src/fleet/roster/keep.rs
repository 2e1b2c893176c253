//! The loop of one link: what the keepalive sees becomes a row and its events.
//!
//! It compares the newest state with the row instead of following each step, so
//! a write that failed (a full disk) is simply tried again, and a flip that was
//! over before anybody looked is none.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::state::Flip;
use super::{Inner, MemberHandle, ask, probe, state};
use crate::fleet::FleetError;
use crate::model::Member;
use crate::reach::{Link, LinkState, Phase};

/// The journal could not be written: compare again after this.
const AGAIN: Duration = Duration::from_secs(2);

/// Watches `link` until `ended`.
pub async fn keep(
    inner: Arc<Inner>,
    handle: Arc<MemberHandle>,
    link: Link,
    ended: CancellationToken,
) {
    let mut states = link.state();
    // The connection whose boot was asked for.
    let mut asked = 0;
    loop {
        let state = states.borrow_and_update().clone();
        let seen = tokio::select! {
            seen = saw(&inner, &handle, &link, &state, &mut asked) => seen,
            () = ended.cancelled() => return,
        };
        if let Err(error) = seen {
            let member = handle.member();
            tracing::warn!(member = %member.name, %error, "a member's state could not be stored");
            tokio::select! {
                () = tokio::time::sleep(AGAIN) => continue,
                () = ended.cancelled() => return,
            }
        }
        tokio::select! {
            changed = states.changed() => if changed.is_err() { return },
            () = ended.cancelled() => return,
        }
    }
}

async fn saw(
    inner: &Arc<Inner>,
    handle: &Arc<MemberHandle>,
    link: &Link,
    state: &LinkState,
    asked: &mut u64,
) -> Result<(), FleetError> {
    match state.phase {
        Phase::Connecting => Ok(()),
        Phase::Online | Phase::Suspect => {
            let since = state.since;
            // At once: a machine that is back but slow is back all the same.
            flip(inner, handle, move |row| state::online(row, since, None)).await?;
            if *asked == state.generation {
                return Ok(());
            }
            // No answer: the link will say why, and ask again on its next connection.
            let Some(boot) = boot(link).await else { return Ok(()) };
            flip(inner, handle, move |row| state::online(row, since, Some(&boot))).await?;
            *asked = state.generation;
            Ok(())
        }
        Phase::Offline => {
            let state = state.clone();
            let cause = state.cause;
            flip(inner, handle, move |row| {
                state::offline(row, state.since, &state.reason, cause.as_ref())
            })
            .await
        }
    }
}

/// Looks at the row in memory first: a state that changes nothing costs no write.
async fn flip<F>(inner: &Arc<Inner>, handle: &Arc<MemberHandle>, to: F) -> Result<(), FleetError>
where
    F: Fn(&Member) -> Flip + Send + Sync + 'static,
{
    let would = to(&handle.member()).map_err(crate::store::StoreError::Event)?;
    if would.is_none() {
        return Ok(());
    }
    inner
        .change(handle, move |row, _| Ok(to(row).map_err(crate::store::StoreError::Event)?))
        .await?;
    Ok(())
}

async fn boot(link: &Link) -> Option<String> {
    let question = probe::Question { work_folder: "", program: None };
    let said = ask::sh(Some(link), &probe::script(&question), "asking for its boot").await.ok()?;
    probe::parse(&said).facts.boot
}

//! What a member is said to be: taking settings, and refusing what no member
//! can have. Nothing here reaches out.

use crate::fleet::FleetError;
use crate::model::{
    Member, MemberAuth, MemberFacts, MemberId, MemberName, MemberPlace, ModelTiers, Project,
    Reachable, Remote, Timestamp, Unattended,
};

/// Most characters of a path, a host name and the like: more than any has.
const MOST_PATH: usize = 1024;
const MOST_HOST: usize = 255;
const MOST_USER: usize = 128;
const MOST_LABEL: usize = 64;
const MOST_TAGS: usize = 10;
const MOST_CONCURRENCY: u32 = 64;

/// Settings as a caller gives them; what is `None` stays as it is.
#[derive(Clone, Debug, Default)]
pub struct MemberChange {
    pub name: Option<MemberName>,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub username: Option<String>,
    pub auth: Option<MemberAuth>,
    /// Trust a host key that is not known yet; only in registering.
    pub accept_new: bool,
    pub work_folder: Option<String>,
    pub provider: Option<String>,
    /// Each tier for itself.
    pub models: ModelTiers,
    pub unattended: Option<Unattended>,
    /// Empty: none.
    pub category: Option<String>,
    pub tags: Option<Vec<String>>,
    pub concurrency: Option<u32>,
    /// `Some(None)`: every project's.
    pub project: Option<Option<Project>>,
}

/// A member of this name before anything is known of it.
pub fn blank(name: MemberName, remote: bool) -> Member {
    let now = Timestamp::now();
    let target =
        Remote { host: String::new(), port: None, username: None, auth: MemberAuth::Default };
    Member {
        id: MemberId::random(),
        name,
        place: if remote { MemberPlace::Remote(target) } else { MemberPlace::Local },
        work_folder: String::new(),
        provider: String::from("claude"),
        models: ModelTiers::default(),
        unattended: Unattended::False,
        category: None,
        tags: Vec::new(),
        concurrency: None,
        project: None,
        facts: MemberFacts::default(),
        reachable: Reachable { online: true, since: now, reason: None, offered: None },
        created: now,
        updated: now,
        revision: 0,
    }
}

impl MemberChange {
    /// `member` with these settings.
    ///
    /// # Errors
    /// [`FleetError::Invalid`] names the first that no member can have.
    pub fn apply(&self, member: &Member) -> Result<Member, FleetError> {
        let mut next = member.clone();
        self.apply_place(&mut next)?;
        set(&mut next.name, self.name.as_ref());
        set(&mut next.work_folder, self.work_folder.as_ref());
        set(&mut next.provider, self.provider.as_ref());
        set(&mut next.unattended, self.unattended.as_ref());
        set(&mut next.tags, self.tags.as_ref());
        set(&mut next.project, self.project.as_ref());
        let tiers = [
            (&mut next.models.cheap, &self.models.cheap),
            (&mut next.models.standard, &self.models.standard),
            (&mut next.models.premium, &self.models.premium),
        ];
        for (tier, given) in tiers {
            set_or_clear(tier, given.as_ref());
        }
        set_or_clear(&mut next.category, self.category.as_ref());
        next.concurrency = self.concurrency.or(next.concurrency);
        next.work_folder = tidied(&next.work_folder);
        check(&next)?;
        Ok(next)
    }

    fn apply_place(&self, next: &mut Member) -> Result<(), FleetError> {
        let given = [
            ("host", self.host.is_some()),
            ("port", self.port.is_some()),
            ("username", self.username.is_some()),
            ("auth_type", self.auth.is_some()),
        ];
        match &mut next.place {
            MemberPlace::Local => match given.iter().find(|(_, given)| *given) {
                Some((argument, _)) => Err(invalid(argument, "is for remote members only")),
                None => Ok(()),
            },
            MemberPlace::Remote(remote) => {
                set(&mut remote.host, self.host.as_ref());
                set(&mut remote.auth, self.auth.as_ref());
                remote.port = self.port.or(remote.port);
                set_or_clear(&mut remote.username, self.username.as_ref());
                Ok(())
            }
        }
    }
}

fn set<T: Clone>(field: &mut T, given: Option<&T>) {
    if let Some(given) = given {
        field.clone_from(given);
    }
}

/// An empty text clears.
fn set_or_clear(field: &mut Option<String>, given: Option<&String>) {
    if let Some(given) = given {
        *field = Some(given.clone()).filter(|given| !given.is_empty());
    }
}

/// Without doubled slashes, `.` and a slash at the end.
fn tidied(path: &str) -> String {
    if !path.starts_with('/') {
        return path.to_owned();
    }
    let parts = path.split('/').filter(|part| !part.is_empty() && *part != ".");
    format!("/{}", parts.collect::<Vec<_>>().join("/"))
}

/// The names of settings that differ.
pub fn changed(old: &Member, new: &Member) -> Vec<&'static str> {
    let address = |member: &Member| {
        member.remote().map(|remote| {
            (remote.host.clone(), remote.port, remote.username.clone(), remote.auth.clone())
        })
    };
    let (old_address, new_address) = (address(old), address(new));
    let part = |differs: fn(&Address, &Address) -> bool| match (&old_address, &new_address) {
        (Some(old), Some(new)) => differs(old, new),
        _ => false,
    };
    type Address = (String, Option<u16>, Option<String>, MemberAuth);
    let fields = [
        ("friendly_name", old.name != new.name),
        ("host", part(|old, new| old.0 != new.0)),
        ("port", part(|old, new| old.1 != new.1)),
        ("username", part(|old, new| old.2 != new.2)),
        ("key_path", part(|old, new| old.3 != new.3)),
        ("work_folder", old.work_folder != new.work_folder),
        ("llm_provider", old.provider != new.provider),
        ("model_tiers", old.models != new.models),
        ("unattended", old.unattended != new.unattended),
        ("category", old.category != new.category),
        ("tags", old.tags != new.tags),
        ("concurrency", old.concurrency != new.concurrency),
        ("project", old.project != new.project),
    ];
    fields.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

/// Whether the member has to be reached anew before `new` may be stored.
pub fn moves(old: &Member, new: &Member) -> bool {
    old.place != new.place || old.work_folder != new.work_folder
}

fn check(member: &Member) -> Result<(), FleetError> {
    if let Some(remote) = member.remote() {
        check_remote(remote)?;
    }
    check_folder(&member.work_folder)?;
    if !is_label(&member.provider) {
        return Err(invalid("llm_provider", "is not the name of a provider"));
    }
    if member.category.as_deref().is_some_and(|category| !is_text(category)) {
        return Err(invalid("category", "may have at most 64 printable characters"));
    }
    if member.tags.len() > MOST_TAGS || !member.tags.iter().all(|tag| is_text(tag)) {
        return Err(invalid("tags", "may be at most 10, of 1 to 64 printable characters"));
    }
    let models = [&member.models.cheap, &member.models.standard, &member.models.premium];
    if models.into_iter().flatten().any(|model| !is_model(model)) {
        return Err(invalid("model_tiers", "has a name that is no model's"));
    }
    match member.concurrency {
        Some(0) => Err(invalid("concurrency", "has to be at least 1")),
        Some(many) if many > MOST_CONCURRENCY => Err(invalid("concurrency", "may be at most 64")),
        _ => Ok(()),
    }
}

/// Strict lists of what may stand where: a name goes to libraries, to files of
/// ssh's, and to people's terminals (S13).
fn check_remote(remote: &Remote) -> Result<(), FleetError> {
    let plain = |text: &str, more: &str, most: usize| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || more.contains(c);
        !text.is_empty()
            && text.len() <= most
            && !text.starts_with('-')
            && text.chars().all(allowed)
    };
    if remote.host.is_empty() {
        return Err(invalid("host", "is needed for a remote member"));
    }
    if !plain(&remote.host, "._-:%", MOST_HOST) {
        return Err(invalid("host", "is not a host name or address"));
    }
    if remote.username.as_deref().is_some_and(|user| !plain(user, "._-@+", MOST_USER)) {
        return Err(invalid("username", "has characters that no user name should have"));
    }
    if remote.port == Some(0) {
        return Err(invalid("port", "has to be 1 to 65535"));
    }
    match &remote.auth {
        MemberAuth::Key { path, .. } if !path.is_absolute() => {
            Err(invalid("key_path", "has to be an absolute path on the daemon's machine"))
        }
        MemberAuth::Key { path, .. } if path.as_os_str().len() > MOST_PATH => {
            Err(invalid("key_path", "is too long"))
        }
        _ => Ok(()),
    }
}

fn check_folder(folder: &str) -> Result<(), FleetError> {
    if folder.starts_with('~') {
        return Err(invalid("work_folder", "has to be absolute; '~' means nothing to a daemon"));
    }
    if !folder.starts_with('/') {
        return Err(invalid("work_folder", "has to be an absolute path, like /home/me/work"));
    }
    if folder.len() > MOST_PATH || folder.chars().any(char::is_control) {
        return Err(invalid("work_folder", "is too long or has control characters"));
    }
    if folder.split('/').any(|part| part == "..") {
        return Err(invalid("work_folder", "may not have '..' in it"));
    }
    Ok(())
}

fn is_label(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=MOST_LABEL).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(allowed)
}

/// Model names have slashes, colons and brackets; they end up as arguments.
fn is_model(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-:/@[]+".contains(c);
    (1..=128).contains(&text.len()) && !text.starts_with('-') && text.chars().all(allowed)
}

fn is_text(text: &str) -> bool {
    (1..=MOST_LABEL).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

pub fn invalid(argument: &'static str, problem: &str) -> FleetError {
    FleetError::Invalid { argument, problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote() -> MemberChange {
        MemberChange {
            host: Some(String::from("web")),
            work_folder: Some(String::from("/srv//work/./")),
            ..MemberChange::default()
        }
    }

    fn web() -> Member {
        blank(MemberName::parse("web").unwrap(), true)
    }

    fn said(change: &MemberChange) -> String {
        change.apply(&web()).unwrap_err().to_string()
    }

    #[test]
    fn a_change_is_taken_whole_and_named() {
        let old = remote().apply(&web()).unwrap();
        assert_eq!(old.work_folder, "/srv/work");
        let change = MemberChange {
            port: Some(2200),
            category: Some(String::from("ci")),
            models: ModelTiers { cheap: Some(String::from("haiku")), ..ModelTiers::default() },
            ..MemberChange::default()
        };
        let new = change.apply(&old).unwrap();
        assert_eq!(changed(&old, &new), ["port", "model_tiers", "category"]);
        assert!(moves(&old, &new));
        let cleared = MemberChange { category: Some(String::new()), ..MemberChange::default() };
        assert_eq!(cleared.apply(&new).unwrap().category, None);
    }

    #[test]
    fn s13_names_that_would_be_options_or_words_of_a_shell_are_refused() {
        for host in ["-oProxyCommand=touch x", "a b", "$(id)", "a\nb", "a;b", "", "a`b`"] {
            let change = MemberChange { host: Some(host.to_owned()), ..remote() };
            assert!(said(&change).starts_with("host "), "{host}");
        }
        for user in ["-l", "a b", "$x", "a\\b", "a\u{1b}[2J"] {
            let change = MemberChange { username: Some(user.to_owned()), ..remote() };
            assert!(said(&change).starts_with("username "), "{user}");
        }
    }

    #[test]
    fn a_folder_is_absolute_and_plain() {
        for folder in ["", "work", "~/work", "/a/../b", "/a\nb"] {
            let change = MemberChange { work_folder: Some(folder.to_owned()), ..remote() };
            assert!(said(&change).starts_with("work_folder "), "{folder}");
        }
        let home = MemberChange { work_folder: Some(String::from("~")), ..remote() };
        assert!(said(&home).contains("absolute"));
    }

    #[test]
    fn a_local_member_has_no_address() {
        let local = blank(MemberName::parse("here").unwrap(), false);
        let error = remote().apply(&local).unwrap_err().to_string();
        assert_eq!(error, "host is for remote members only");
    }
}

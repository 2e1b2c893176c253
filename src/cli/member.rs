//! `members`: the machines of the fleet.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::exit::Ended;
use super::{Cx, Outcome, exit, table};
use crate::model::{MemberName, Project, Unattended};
use crate::wire::tools::{
    AuthType, ListMembers, ListMembersResult, MemberDetail, MemberDetailResult, MemberResult,
    MemberSelector, MemberSettings, MemberSummary, MemberType, RegisterMember, RemoveMember,
    RemoveMemberResult, SetupSshKey, UpdateMember,
};

/// List the machines of the fleet; add, change and remove them.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fleetctl members add web-1 --host web-1.example --user deploy --work-folder /srv/work
  fleetctl members list
  fleetctl members trust web-1")]
pub struct Members {
    #[command(subcommand)]
    command: MemberCommand,
}

#[derive(Debug, Subcommand)]
enum MemberCommand {
    /// Register a machine (Linux or macOS) reached by SSH. It is reached first.
    #[command(after_help = "Example:\n  fleetctl members add web-1 --host web-1.example \
        --user deploy --key ~/.ssh/id_ed25519 --work-folder /srv/work --accept-new")]
    Add(Box<Add>),
    /// List the members and whether they are online, as last seen.
    #[command(after_help = "Example:\n  fleetctl members list --tag gpu")]
    List {
        /// Only members with this tag; may be given several times.
        #[arg(long = "tag", value_name = "TAG")]
        tags: Vec<String>,
        /// Only members of this project, and those of every project.
        #[arg(long, value_parser = super::project)]
        project: Option<Project>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show all there is to say of one member.
    #[command(after_help = "Example:\n  fleetctl members show web-1")]
    Show(Named),
    /// Change settings of a member. A changed connection is tried first.
    #[command(after_help = "Example:\n  fleetctl members update web-1 --port 2222 --tag gpu")]
    Update(Box<Update>),
    /// Remove a member. Refused while tasks run there.
    #[command(after_help = "Example:\n  fleetctl members rm web-1")]
    Rm {
        #[command(flatten)]
        named: Named,
        /// Also while tasks run there. They are not stopped.
        #[arg(long)]
        force: bool,
    },
    /// Trust the host key that a member shows now, after you compared it there.
    #[command(after_help = "Example:\n  fleetctl members trust web-1 --fingerprint SHA256:...")]
    Trust {
        #[command(flatten)]
        named: Named,
        /// The key you expect; without it you are shown it and asked.
        #[arg(long, value_name = "SHA256:...")]
        fingerprint: Option<String>,
    },
    /// Make a key for a member and switch to it. Your own keys stay as they are.
    #[command(after_help = "Example:\n  fleetctl members setup-key web-1")]
    SetupKey(Named),
}

/// One member.
#[derive(Debug, Args)]
struct Named {
    /// Its name or id.
    #[arg(value_parser = name_or_id)]
    name: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Add {
    /// A name for it.
    #[arg(value_parser = name)]
    name: String,
    /// Absolute path of the folder to work in; it is made.
    #[arg(long, value_name = "DIR")]
    work_folder: String,
    /// Another folder of this machine instead of another machine.
    #[arg(long, conflicts_with_all = ["host", "port", "user", "key", "agent"])]
    local: bool,
    /// Trust its host key if it is not known yet. One that changed is refused all the same.
    #[arg(long)]
    accept_new: bool,
    #[command(flatten)]
    settings: Settings,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Update {
    #[command(flatten)]
    named: Named,
    /// A new name.
    #[arg(long, value_name = "NAME", value_parser = name)]
    rename: Option<String>,
    /// Another folder to work in.
    #[arg(long, value_name = "DIR")]
    work_folder: Option<String>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Args)]
struct Settings {
    /// Host name, address, or a Host of ~/.ssh/config.
    #[arg(long)]
    host: Option<String>,
    /// Its SSH port [default: 22, or as ~/.ssh/config says].
    #[arg(long)]
    port: Option<u16>,
    /// Whom to log in as.
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// A private key of this machine. It stays yours.
    #[arg(long, value_name = "FILE", conflicts_with = "agent")]
    key: Option<PathBuf>,
    /// Only keys of the ssh-agent.
    #[arg(long)]
    agent: bool,
    /// The LLM command line there [default: claude].
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// How far that may go without a person.
    #[arg(long, value_enum)]
    unattended: Option<Free>,
    /// A word to sort it by.
    #[arg(long)]
    category: Option<String>,
    /// A tag; may be given several times.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Commands that run there at the same time.
    #[arg(long, value_name = "N")]
    concurrency: Option<u32>,
    /// The project that may see and use it [default: default].
    #[arg(long, value_parser = super::project)]
    project: Option<Project>,
    /// Every project may see and use it.
    #[arg(long, conflicts_with = "project")]
    all_projects: bool,
}

/// How far a provider may go without a person.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Free {
    /// What its permission file grants
    False,
    /// Its own automatic mode
    Auto,
    /// It asks for nothing
    Dangerous,
}

fn name(text: &str) -> Result<String, String> {
    MemberName::parse(text).map(String::from).map_err(|error| error.to_string())
}

/// Ids are names as well, by their alphabet.
fn name_or_id(text: &str) -> Result<String, String> {
    name(text)
}

impl Members {
    pub async fn handle(self, cx: &Cx) -> Outcome {
        match self.command {
            MemberCommand::Add(add) => add.handle(cx).await,
            MemberCommand::List { tags, project, json } => {
                list(&cx.within(project), tags, json).await
            }
            MemberCommand::Show(named) => show(cx, named).await,
            MemberCommand::Update(update) => update.handle(cx).await,
            MemberCommand::Rm { named, force } => remove(cx, named, force).await,
            MemberCommand::Trust { named, fingerprint } => trust(cx, named, fingerprint).await,
            MemberCommand::SetupKey(named) => {
                let member_id = Some(named.name);
                let asked = SetupSshKey { member_id, ..SetupSshKey::default() };
                let done: MemberResult = cx.client.call_tool("setup_ssh_key", &asked).await?;
                told(cx, &done, named.json, "has a key of its own now")
            }
        }
    }
}

impl Add {
    async fn handle(self, cx: &Cx) -> Outcome {
        let asked = RegisterMember {
            friendly_name: self.name,
            member_type: if self.local { MemberType::Local } else { MemberType::Remote },
            work_folder: self.work_folder,
            accept_new: self.accept_new,
            settings: self.settings.given()?,
        };
        let done: MemberResult = cx.client.call_tool("register_member", &asked).await?;
        told(cx, &done, self.json, "is a member")
    }
}

impl Update {
    async fn handle(self, cx: &Cx) -> Outcome {
        let asked = UpdateMember {
            member: selector(self.named.name),
            friendly_name: self.rename,
            work_folder: self.work_folder,
            settings: self.settings.given()?,
        };
        let done: MemberResult = cx.client.call_tool("update_member", &asked).await?;
        told(cx, &done, self.named.json, "is changed")
    }
}

impl Settings {
    fn given(self) -> anyhow::Result<MemberSettings> {
        let project = self.project.as_ref().map(ToString::to_string);
        Ok(MemberSettings {
            host: self.host,
            port: self.port,
            username: self.user,
            auth_type: self.agent.then_some(AuthType::Agent),
            key_path: self.key.as_deref().map(absolute).transpose()?,
            llm_provider: self.provider,
            unattended: self.unattended.map(|free| match free {
                Free::False => Unattended::False,
                Free::Auto => Unattended::Auto,
                Free::Dangerous => Unattended::Dangerous,
            }),
            category: self.category,
            tags: Some(self.tags).filter(|tags| !tags.is_empty()),
            concurrency: self.concurrency,
            project: if self.all_projects { Some(String::from("*")) } else { project },
            ..MemberSettings::default()
        })
    }
}

/// The daemon runs elsewhere than we do.
fn absolute(path: &Path) -> anyhow::Result<String> {
    let whole = std::fs::canonicalize(path)
        .with_context(|| format!("cannot use the key '{}'", path.display()))?;
    whole.into_os_string().into_string().map_err(|_| anyhow::anyhow!("the key's path is no text"))
}

/// By id or name: the daemon takes either for an id.
fn selector(name: String) -> MemberSelector {
    MemberSelector { member_id: Some(name), member_name: None }
}

fn told(cx: &Cx, done: &MemberResult, json: bool, what: &str) -> Outcome {
    if json {
        cx.out.json(done)?;
        return Ok(exit::OK);
    }
    let member = &done.member;
    cx.out.print(&format!("'{}' {what} ({})", member.summary.name, member.summary.member_id))?;
    for warning in &done.warnings {
        cx.out.note(&format!("warning: {warning}"));
    }
    Ok(exit::OK)
}

async fn list(cx: &Cx, tags: Vec<String>, json: bool) -> Outcome {
    let asked = ListMembers { tags, ..ListMembers::default() };
    let listed: ListMembersResult = cx.client.call_tool("list_members", &asked).await?;
    if json {
        cx.out.json(&listed)?;
        return Ok(exit::OK);
    }
    let head = ["MEMBER", "STATE", "HOST", "OS", "WORK FOLDER", "PROVIDER", "PROJECT", "TAGS"];
    cx.out.print(&table::table(&head, listed.members.iter().map(row), cx.out.width()))?;
    Ok(exit::OK)
}

fn row(member: &MemberSummary) -> Vec<String> {
    let host = match (&member.host, &member.username) {
        (Some(host), Some(user)) => format!("{user}@{host}"),
        (Some(host), None) => host.clone(),
        (None, _) => String::from("(here)"),
    };
    vec![
        member.name.clone(),
        member.state.clone(),
        host,
        member.os.map_or("-", |os| os.as_str()).to_owned(),
        member.work_folder.clone(),
        member.llm_provider.clone(),
        member.project.clone().unwrap_or_else(|| String::from("(all)")),
        member.tags.join(" "),
    ]
}

async fn show(cx: &Cx, named: Named) -> Outcome {
    let asked = MemberDetail { member: selector(named.name), ..MemberDetail::default() };
    let shown: MemberDetailResult = cx.client.call_tool("member_detail", &asked).await?;
    if named.json {
        cx.out.json(&shown)?;
        return Ok(exit::OK);
    }
    cx.out.print(&table::facts(facts(&shown), cx.out.width()))?;
    Ok(exit::OK)
}

fn facts(shown: &MemberDetailResult) -> Vec<(&'static str, String)> {
    let member = &shown.member;
    let summary = &member.summary;
    let all = [
        ("member", Some(summary.name.clone())),
        ("id", Some(summary.member_id.clone())),
        ("state", Some(format!("{} since {}", summary.state, table::time(&member.since)))),
        ("last error", member.last_error.clone()),
        ("host", summary.host.clone()),
        ("port", member.port.map(|port| port.to_string())),
        ("user", summary.username.clone()),
        ("auth", member.auth_type.clone()),
        ("key", member.key_path.clone()),
        ("host key", member.fingerprint.clone()),
        ("system", member.system.clone()),
        ("work folder", Some(summary.work_folder.clone())),
        ("provider", Some(summary.llm_provider.clone())),
        ("unattended", Some(member.unattended.as_str().to_owned())),
        ("category", summary.category.clone()),
        ("tags", Some(summary.tags.join(" ")).filter(|tags| !tags.is_empty())),
        ("project", Some(summary.project.clone().unwrap_or_else(|| String::from("(all)")))),
        ("tasks", Some(format!("{} running, {} queued", shown.running, shown.queued))),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

async fn remove(cx: &Cx, named: Named, force: bool) -> Outcome {
    let asked = RemoveMember { member: selector(named.name), force };
    let done: RemoveMemberResult = cx.client.call_tool("remove_member", &asked).await?;
    if named.json {
        cx.out.json(&done)?;
        return Ok(exit::OK);
    }
    cx.out.print(&format!("'{}' is no member any more", done.name))?;
    for warning in &done.warnings {
        cx.out.note(&format!("warning: {warning}"));
    }
    Ok(exit::OK)
}

async fn trust(cx: &Cx, named: Named, expected: Option<String>) -> Outcome {
    let key = cx.client.host_key(&named.name).await?;
    let trusted = key.trusted.as_deref().unwrap_or("nothing");
    cx.out.note(&format!("trusted so far: {trusted}"));
    cx.out.note(&format!("shown now:      {} ({})", key.offered, key.algorithm));
    match expected {
        Some(expected) if expected != key.offered => {
            let message =
                format!("'{}' shows another key than that; nothing was trusted", key.name);
            bail!(Ended { status: exit::AUTH, message });
        }
        Some(_) => {}
        None if !std::io::stdin().is_terminal() => {
            let message = String::from("give --fingerprint with the key you expect");
            bail!(Ended { status: exit::USAGE, message });
        }
        None => {
            cx.out.note(
                "Compare it at the machine: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub",
            );
            cx.out.note("Type 'yes' to trust it:");
            let mut answer = String::new();
            std::io::stdin().read_line(&mut answer).context("cannot read your answer")?;
            if answer.trim() != "yes" {
                bail!("nothing was trusted");
            }
        }
    }
    cx.client.trust(&named.name, &key.offered).await?;
    if named.json {
        cx.out.json(&json!({ "name": key.name, "trusted": key.offered }))?;
    } else {
        cx.out.print(&format!("'{}' is trusted with this key", key.name))?;
    }
    Ok(exit::OK)
}

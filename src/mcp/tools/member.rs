//! Tools about members: register, look at, change, remove.

use std::path::PathBuf;
use std::sync::Arc;

use super::{About, Context, Failure, Hints, READS, Reply, Tool, row};
use crate::fleet::{MemberChange, MemberHandle, PermissionsSpec, Role, Settled};
use crate::model::{Member, MemberAuth, MemberName, ModelTiers, Project, Scope, Task, TaskState};
use crate::wire::tools::{
    AuthType, ComposePermissions, ComposePermissionsResult, ListMembers, ListMembersResult,
    MemberDetail, MemberDetailResult, MemberResult, MemberSelector, MemberSettings, MemberSummary,
    MemberType, MemberView, RegisterMember, RemoveMember, RemoveMemberResult, RoleName,
    SetupSshKey, TaskView, TextFormat, UpdateMember,
};

/// Open tasks of one member that are shown.
const MOST_TASKS: usize = 100;

const CHANGES: Hints =
    Hints { read_only: false, destructive: false, idempotent: false, open_world: true };
const REMOVES: Hints = Hints { destructive: true, ..CHANGES };

pub fn rows() -> [Tool; 7] {
    let about =
        |name, title, description, scope, hints| About { name, title, description, scope, hints };
    let list = about(
        "list_members",
        "List members",
        "The members of the fleet and whether they are online, as last seen.",
        Scope::Read,
        READS,
    );
    let detail = about(
        "member_detail",
        "Member detail",
        "All there is to say of one member, and its open tasks.",
        Scope::Read,
        READS,
    );
    let register = about(
        "register_member",
        "Register a member",
        "Registers a machine (Linux or macOS) that is reached by SSH, or another folder of this \
            one. It is reached first; if that fails, nothing is stored.",
        Scope::Admin,
        CHANGES,
    );
    let update = about(
        "update_member",
        "Update a member",
        "Changes settings of a member; what is absent stays. A changed connection is tried first.",
        Scope::Admin,
        CHANGES,
    );
    let remove = about(
        "remove_member",
        "Remove a member",
        "Forgets a member; refused while tasks run there. Keys that fleetd made for it are removed, \
            others never.",
        Scope::Admin,
        REMOVES,
    );
    let key = about(
        "setup_ssh_key",
        "Set up an SSH key",
        "Makes an Ed25519 key for a member, adds it there, proves it on a connection of its own \
            and switches the member to it.",
        Scope::Admin,
        CHANGES,
    );
    let permissions = about(
        "compose_permissions",
        "Compose permissions",
        "Writes what a role may do without asking into the permission file of the member's \
            provider (claude), by the stack found there; merged, and read back.",
        Scope::Admin,
        REMOVES,
    );
    [
        row(list, list_members),
        row(detail, member_detail),
        row(register, register_member),
        row(update, update_member),
        row(remove, remove_member),
        row(key, setup_ssh_key),
        row(permissions, compose_permissions),
    ]
}

/// The tasks among `tasks` that are of this member.
pub fn tasks_of<'a>(member: &Member, tasks: &'a [Task]) -> impl Iterator<Item = &'a Task> {
    let (name, id) = (member.name.clone(), member.id.to_string());
    tasks.iter().filter(move |task| name.is(&task.member) || task.member == id)
}

async fn list_members(
    context: Context,
    asked: ListMembers,
) -> Result<Reply<ListMembersResult>, Failure> {
    let handles = context.deps.fleet.roster().list(context.principal());
    let has_all = |member: &Member| asked.tags.iter().all(|tag| member.tags.contains(tag));
    let members: Vec<_> = handles
        .iter()
        .map(|handle| (handle.member(), handle.standing()))
        .filter(|(member, _)| has_all(member))
        .map(|(member, standing)| MemberSummary::new(&member, standing.state))
        .collect();
    let text = compact(asked.format, || {
        let lines: Vec<_> = members.iter().map(line).collect();
        lines.join("\n")
    });
    Ok(Reply {
        value: ListMembersResult { total: members.len() as u64, members },
        text,
        failed: false,
    })
}

fn line(member: &MemberSummary) -> String {
    let place = member.host.as_deref().unwrap_or("this machine");
    let MemberSummary { name, state, work_folder, llm_provider, .. } = member;
    format!("{name}: {state}, {place}, {work_folder}, {llm_provider}, id {}", member.member_id)
}

fn compact(format: TextFormat, text: impl FnOnce() -> String) -> Option<String> {
    (format == TextFormat::Compact).then(text)
}

async fn member_detail(
    context: Context,
    asked: MemberDetail,
) -> Result<Reply<MemberDetailResult>, Failure> {
    let handle = resolve(&context, &asked.member)?;
    let member = handle.member();
    let open = [TaskState::Queued, TaskState::Starting, TaskState::Running];
    let tasks = context.deps.fleet.tasks(context.principal(), &open, usize::MAX).await?;
    let reports = context.deps.fleet.members(context.principal()).await?;
    let report = reports.iter().find(|report| report.member.id == member.id);
    let result = MemberDetailResult {
        member: view(&handle),
        running: report.map_or(0, |report| report.running),
        queued: report.map_or(0, |report| report.queued),
        tasks: tasks_of(&member, &tasks).take(MOST_TASKS).map(TaskView::from).collect(),
    };
    let text = compact(asked.format, || {
        let MemberDetailResult { member, running, queued, .. } = &result;
        let error = member.last_error.as_deref().unwrap_or("none");
        let summary = line(&member.summary);
        format!(
            "{summary}\nsince {}, last error: {error}\n{running} running, {queued} queued",
            member.since
        )
    });
    Ok(Reply { value: result, text, failed: false })
}

async fn register_member(
    context: Context,
    asked: RegisterMember,
) -> Result<Reply<MemberResult>, Failure> {
    let name = MemberName::parse(&asked.friendly_name)?;
    let mut change = change(&context, asked.settings)?;
    change.accept_new = asked.accept_new;
    change.work_folder = Some(asked.work_folder);
    let remote = asked.member_type == MemberType::Remote;
    let roster = context.deps.fleet.roster();
    Ok(settled(roster.register(context.principal(), name, remote, change).await?).into())
}

async fn update_member(
    context: Context,
    asked: UpdateMember,
) -> Result<Reply<MemberResult>, Failure> {
    let handle = resolve(&context, &asked.member)?;
    let mut change = change(&context, asked.settings)?;
    change.name = asked.friendly_name.as_deref().map(MemberName::parse).transpose()?;
    change.work_folder = asked.work_folder;
    let roster = context.deps.fleet.roster();
    Ok(settled(roster.update(context.principal(), &handle, change).await?).into())
}

async fn remove_member(
    context: Context,
    asked: RemoveMember,
) -> Result<Reply<RemoveMemberResult>, Failure> {
    let handle = resolve(&context, &asked.member)?;
    let Settled { handle, warnings } =
        context.deps.fleet.roster().remove(&handle, asked.force).await?;
    let member = handle.member();
    let (member_id, name) = (member.id.to_string(), member.name.to_string());
    Ok(RemoveMemberResult { member_id, name, warnings }.into())
}

async fn setup_ssh_key(
    context: Context,
    asked: SetupSshKey,
) -> Result<Reply<MemberResult>, Failure> {
    let selector = MemberSelector { member_id: asked.member_id, member_name: asked.member_name };
    let handle = resolve(&context, &selector)?;
    Ok(settled(context.deps.fleet.roster().setup_key(&handle).await?).into())
}

async fn compose_permissions(
    context: Context,
    asked: ComposePermissions,
) -> Result<Reply<ComposePermissionsResult>, Failure> {
    let handle = resolve(&context, &asked.member)?;
    let reason = asked.grant_reason.as_deref().unwrap_or_default().trim();
    if !asked.grant.is_empty() && reason.is_empty() {
        let message = "argument 'grant_reason' is needed with grant";
        return Err(Failure::Argument(message.to_owned()));
    }
    let spec = PermissionsSpec {
        role: match asked.role {
            RoleName::Doer => Role::Doer,
            RoleName::Reviewer => Role::Reviewer,
        },
        stacks: asked.tags,
        folder: asked.project_folder,
        grant: asked.grant,
    };
    let done = context.deps.fleet.roster().compose_permissions(&handle, &spec).await?;
    if !spec.grant.is_empty() {
        let member = handle.member();
        let principal = &context.principal().id;
        let reason: String = reason.chars().take(200).collect();
        tracing::info!(member = %member.name, %principal, grant = ?spec.grant, ?reason, "granted");
    }
    let result = ComposePermissionsResult {
        file: done.file,
        stacks: done.stacks,
        allow: done.allow,
        deny: done.deny,
        written: done.written,
    };
    Ok(result.into())
}

fn resolve(context: &Context, selector: &MemberSelector) -> Result<Arc<MemberHandle>, Failure> {
    let (id, name) = (selector.member_id.as_deref(), selector.member_name.as_deref());
    if id.or(name).is_none() {
        return Err(Failure::Argument(String::from("give 'member_id' or 'member_name'")));
    }
    Ok(context.deps.fleet.roster().resolve(context.principal(), id, name)?)
}

fn settled(settled: Settled) -> MemberResult {
    MemberResult { member: view(&settled.handle), warnings: settled.warnings }
}

fn view(handle: &MemberHandle) -> MemberView {
    let standing = handle.standing();
    MemberView::new(&handle.member(), standing.state, standing.since.to_string(), standing.reason)
}

fn change(context: &Context, asked: MemberSettings) -> Result<MemberChange, Failure> {
    if let Some(provider) = &asked.llm_provider {
        context.deps.fleet.check_provider(provider)?;
    }
    let refused = |message: &str| Err(Failure::Argument(message.to_owned()));
    let auth = match (asked.auth_type, asked.key_path) {
        (Some(AuthType::Agent), Some(_)) => {
            return refused("arguments 'key_path' and 'auth_type: agent' exclude each other");
        }
        (Some(AuthType::Key), None) => return refused("argument 'key_path' is needed"),
        (_, Some(path)) => Some(MemberAuth::Key { path: PathBuf::from(path), made: false }),
        (Some(AuthType::Agent), None) => Some(MemberAuth::Agent),
        (None, None) => None,
    };
    let project = match asked.project.as_deref() {
        None => None,
        Some("*") => Some(None),
        Some(name) => match Project::parse(name) {
            Ok(project) => Some(Some(project)),
            Err(error) => return refused(&format!("argument 'project': {error}")),
        },
    };
    let tiers = asked.model_tiers.unwrap_or_default();
    Ok(MemberChange {
        name: None,
        host: asked.host,
        port: asked.port,
        username: asked.username,
        auth,
        accept_new: false,
        work_folder: None,
        provider: asked.llm_provider,
        models: ModelTiers {
            cheap: asked.model_cheap.or(tiers.cheap),
            standard: asked.model_standard.or(tiers.standard),
            premium: asked.model_premium.or(tiers.premium),
        },
        unattended: asked.unattended,
        category: asked.category,
        tags: asked.tags,
        concurrency: asked.concurrency,
        project,
    })
}

//! `compose_permissions`, read back where the provider would read it.

use std::fs;

use serde_json::{Value, json};

use super::rig::Rig;

fn granted(file: &Value, list: &str) -> Vec<String> {
    let entries = file["permissions"][list].as_array().unwrap().iter();
    entries.map(|entry| entry.as_str().unwrap().to_owned()).collect()
}

/// Lesson 58: it said success while the file said otherwise.
#[test]
fn a_role_is_merged_on_the_member_and_told_as_it_is_there() {
    let rig = Rig::with_web();
    let work = rig.sshd.path("work");
    let path = work.join(".claude/settings.local.json");
    fs::create_dir(work.join(".claude")).unwrap();
    fs::write(work.join("Cargo.toml"), "").unwrap();
    let theirs = json!({"model": "it's", "permissions": {"allow": ["Bash(terraform plan)"]}});
    fs::write(&path, theirs.to_string()).unwrap();
    let file = || serde_json::from_slice::<Value>(&fs::read(&path).unwrap()).unwrap();
    let ask = json!({"member_name": "web", "role": "doer", "grant": ["WebSearch"],
        "grant_reason": "it reads the docs"});
    let done = rig.daemon.tool("compose_permissions", ask);
    assert_eq!((&done["stacks"], &done["written"]), (&json!(["rust"]), &json!(true)), "{done}");
    assert_eq!(done["allow"], file()["permissions"]["allow"]);
    let allow = granted(&file(), "allow");
    for entry in ["Bash(terraform plan)", "Edit", "Bash(cargo:*)", "WebSearch"] {
        assert!(allow.iter().any(|allowed| allowed == entry), "{entry}: {allow:?}");
    }
    assert_eq!(file()["model"], "it's");
    let ask = json!({"member_name": "web", "role": "reviewer"});
    rig.daemon.tool("compose_permissions", ask.clone());
    assert!(granted(&file(), "deny").contains(&"Edit".to_owned()));
    assert!(!granted(&file(), "allow").contains(&"Bash(cargo:*)".to_owned()));
    let again = rig.daemon.tool("compose_permissions", ask);
    assert_eq!(again["written"], false, "{again}");
    assert_eq!(fs::read_dir(work.join(".claude")).unwrap().count(), 1, "nothing is left over");
}

#[test]
fn what_must_not_be_is_refused_and_nothing_is_written() {
    let rig = Rig::with_web();
    let path = rig.sshd.path("work/.claude/settings.local.json");
    let ask = |more: Value| {
        let mut ask = json!({"member_name": "web", "role": "doer", "grant_reason": "because"});
        ask.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        rig.refused("compose_permissions", ask)
    };
    let error = ask(json!({"grant": ["Bash(sudo:*)"]}));
    assert!(error.contains("never granted"), "{error}");
    let error = ask(json!({"grant": ["WebSearch"], "grant_reason": ""}));
    assert!(error.contains("grant_reason"), "{error}");
    assert!(!path.exists());
    fs::create_dir(path.parent().unwrap()).unwrap();
    fs::write(&path, "{ not json").unwrap();
    let error = ask(json!({}));
    assert!(error.contains("left as it is"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "{ not json");
    rig.daemon.tool("update_member", json!({"member_name": "web", "llm_provider": "codex"}));
    let error = ask(json!({}));
    assert!(error.contains("permission file"), "{error}");
}

//! What the files say, without a server.

use super::line::Line;
use super::*;

const ONE: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIBdIrJLmT5mQNn9IZbBGnL0cXuxXyVyRJTcKZRA4xX5y";
const TWO: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIPWv0uX8BdpTGPvVg4PpPxXAXOhHWQ1b2Z3AcNwLzq9Z";

fn blob(key: &str) -> Vec<u8> {
    use base64::engine::general_purpose::STANDARD;
    STANDARD.decode(key).unwrap()
}

/// Ours, and one of the user's.
fn files(ours: &str, theirs: &str) -> KnownHosts {
    let file = |name: &str, text: &str| (PathBuf::from(name), lines(text));
    KnownHosts { files: vec![file("ours", ours), file("theirs", theirs)] }
}

fn judge(theirs: &str, host: &str, port: u16) -> Verdict {
    files("", theirs).judge(&name(host, port), &blob(ONE))
}

#[test]
fn a_name_is_known_with_its_port_only() {
    let plain = format!("Box.example ssh-ed25519 {ONE} a comment\n");
    assert_eq!(judge(&plain, "BOX.example", 22), Verdict::Known);
    assert_eq!(judge(&plain, "box.example", 2222), Verdict::Unknown);
    let ported = format!("[box.example]:2222 ssh-ed25519 {ONE}\n");
    assert_eq!(judge(&ported, "box.example", 2222), Verdict::Known);
    assert_eq!(judge(&ported, "box.example", 22), Verdict::Unknown);
}

#[test]
fn patterns_match_and_negations_exclude() {
    let line = format!("*.example,!bad.example,b?x ssh-ed25519 {ONE}\n");
    for (host, verdict) in [
        ("a.example", Verdict::Known),
        ("a.b.example", Verdict::Known),
        ("bad.example", Verdict::Unknown),
        ("box", Verdict::Known),
        ("boox", Verdict::Unknown),
        ("example", Verdict::Unknown),
    ] {
        assert_eq!(judge(&line, host, 22), verdict, "{host}");
    }
}

#[test]
fn hashed_names_are_found() {
    // `ssh-keygen -H` of the line in the first test.
    use base64::engine::general_purpose::STANDARD;
    use hmac::{Hmac, KeyInit, Mac};
    let salt = [7_u8; 20];
    let mut mac = Hmac::<sha1::Sha1>::new_from_slice(&salt).unwrap();
    mac.update(b"[box]:2222");
    let hash = STANDARD.encode(mac.finalize().into_bytes());
    let line = format!("|1|{}|{hash} ssh-ed25519 {ONE}\n", STANDARD.encode(salt));
    assert_eq!(judge(&line, "box", 2222), Verdict::Known);
    assert_eq!(judge(&line, "box", 2223), Verdict::Unknown);
}

#[test]
fn another_key_is_a_change_even_of_another_kind() {
    let line = format!("box ssh-ed25519 {TWO}\n");
    let Verdict::Changed { known, place } = judge(&line, "box", 22) else { panic!("not changed") };
    assert_eq!(known, fingerprint(&blob(TWO)));
    assert_eq!(place, "theirs:1");
    let both = format!("box ssh-ed25519 {TWO}\nbox ssh-ed25519 {ONE}\n");
    assert_eq!(judge(&both, "box", 22), Verdict::Known);
}

#[test]
fn our_pin_overrules_the_users_file_but_not_a_revocation() {
    let (one, two) = (format!("box ssh-ed25519 {ONE}\n"), format!("box ssh-ed25519 {TWO}\n"));
    let known = files(&one, &two);
    assert_eq!(known.judge("box", &blob(ONE)), Verdict::Known);
    assert!(matches!(known.judge("box", &blob(TWO)), Verdict::Changed { .. }));
    let revoked = format!("@revoked * ssh-ed25519 {ONE}\n");
    let verdict = files(&one, &revoked).judge("box", &blob(ONE));
    assert_eq!(verdict, Verdict::Revoked { place: String::from("theirs:1") });
}

#[test]
fn an_authority_is_named_and_garbage_is_skipped() {
    let text = format!(
        "\u{0}garbage\nbox ssh-ed25519 !!!\nbox ssh-rsa {ONE}\n@what box ssh-ed25519 {ONE}\n\
         # comment\n\n@cert-authority *.example ssh-ed25519 {TWO}\n"
    );
    assert_eq!(judge(&text, "box", 22), Verdict::Unknown);
    let certified = Verdict::Certified { place: String::from("theirs:7") };
    assert_eq!(judge(&text, "a.example", 22), certified);
}

#[test]
fn the_kinds_of_known_keys_are_asked_for() {
    let known = files("", &format!("box ssh-ed25519 {ONE}\nbox ssh-ed25519 {TWO}\n"));
    assert_eq!(known.algorithms("box"), ["ssh-ed25519"]);
    assert_eq!(known.algorithms("other"), [""; 0]);
}

#[test]
fn pinning_replaces_one_host_and_leaves_the_rest() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("known_hosts");
    std::fs::write(&path, format!("# mine\nother ssh-ed25519 {TWO}\nbox ssh-ed25519 {TWO}\n"))
        .unwrap();
    pin(&path, "box", &blob(ONE)).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, format!("# mine\nother ssh-ed25519 {TWO}\nbox ssh-ed25519 {ONE}\n"));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

proptest::proptest! {
    #[test]
    fn no_line_upsets_the_reader(text in "(@revoked |@cert-authority |[|]1[|])?\\PC{0,60}") {
        if let Some(line) = Line::parse(&text, 1) {
            line.names("box");
        }
    }
}

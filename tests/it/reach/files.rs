//! The file service.

use bytes::Bytes;
use fleetd::reach::{EntryKind, FileProblem, Files, Put, ReachError};

use super::rig::{Rig, text};
use crate::support::Random;

const MIB: usize = 1024 * 1024;

async fn upload(files: &Files, path: &str, bytes: &[u8], put: Put) -> u64 {
    let upload = files.put(path, put).await.unwrap();
    for piece in bytes.chunks(MIB / 2) {
        upload.write(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    upload.finish(true).await.unwrap()
}

async fn download(files: &Files, path: &str, offset: u64) -> Vec<u8> {
    let mut download = files.get(path, offset).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(piece) = download.next().await.unwrap() {
        bytes.extend_from_slice(&piece);
    }
    bytes
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut random = Random::seeded(7);
    std::iter::repeat_with(|| random.next().to_le_bytes()).flatten().take(bytes).collect()
}

#[tokio::test]
async fn a_file_goes_there_and_back_and_is_resumed() {
    let rig = Rig::new();
    let link = rig.link().await;
    let files = link.files().await.unwrap();
    let home = rig.sshd.home();
    let path = format!("{}/file", home.display());
    let bytes = noise(20 * MIB + 7);
    assert_eq!(upload(&files, &path, &bytes, Put::default()).await, bytes.len() as u64);
    assert!(std::fs::read(&path).unwrap() == bytes);
    assert!(download(&files, &path, 0).await == bytes);
    assert!(download(&files, &path, 5_000_001).await == bytes[5_000_001..]);
    assert_eq!(download(&files, &path, bytes.len() as u64).await, b"");
    // Another half of it.
    std::fs::File::options().write(true).open(&path).unwrap().set_len(1_000_003).unwrap();
    let rest = Put { offset: 1_000_003, ..Put::default() };
    upload(&files, &path, &bytes[1_000_003..], rest).await;
    assert!(std::fs::read(&path).unwrap() == bytes);
    // Commands go on meanwhile.
    let half = files.put(&path, Put::default()).await.unwrap();
    half.write(Bytes::from_static(b"short")).await.unwrap();
    assert_eq!(text(&link, "echo x").await, "x\n");
    assert_eq!(half.finish(false).await.unwrap(), 5);
    assert_eq!(std::fs::read(&path).unwrap(), b"short");
}

#[tokio::test]
async fn names_are_listed_made_renamed_and_removed() {
    let rig = Rig::new();
    let files = rig.link().await.files().await.unwrap();
    let home = rig.sshd.home().display().to_string();
    let at = |name: &str| format!("{home}/{name}");
    files.make_dir(&at("dir"), 0o700).await.unwrap();
    upload(&files, &at("dir/a"), b"a", Put { mode: 0o640, ..Put::default() }).await;
    upload(&files, &at("dir/b"), b"bb", Put::default()).await;
    std::os::unix::fs::symlink("a", at("dir/link")).unwrap();
    let mut entries = files.list(&at("dir")).await.unwrap();
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    let seen: Vec<_> =
        entries.iter().map(|e| (e.name.as_str(), e.stat.kind, e.stat.bytes)).collect();
    let wanted =
        [("a", EntryKind::File, 1), ("b", EntryKind::File, 2), ("link", EntryKind::Link, 1)];
    assert_eq!(seen, wanted);
    assert_eq!(entries[0].stat.mode, 0o640);
    assert_eq!(files.stat(&at("dir/link")).await.unwrap().kind, EntryKind::File);
    assert_eq!(files.stat_link(&at("dir/link")).await.unwrap().kind, EntryKind::Link);
    let real = std::fs::canonicalize(at("dir/a")).unwrap();
    assert_eq!(files.real_path(&at("dir/link")).await.unwrap(), real.to_str().unwrap());
    // In the place of what was there, at once.
    files.rename(&at("dir/b"), &at("dir/it's $b")).await.unwrap();
    files.rename(&at("dir/it's $b"), &at("dir/a")).await.unwrap_err();
    files.replace(&at("dir/it's $b"), &at("dir/a")).await.unwrap();
    assert_eq!(std::fs::read(at("dir/a")).unwrap(), b"bb");
    let error = files.replace(&at("dir/a"), &at("dir")).await.unwrap_err();
    assert!(error.to_string().contains("a folder in its place"), "{error}");
    let error = files.replace(&at("dir/none"), &at("dir/a")).await.unwrap_err();
    assert!(error.to_string().contains("No such file"), "{error}");
    let kind = |error: ReachError| match error {
        ReachError::File { kind, .. } => kind,
        other => panic!("{other}"),
    };
    assert_eq!(kind(files.stat(&at("none")).await.unwrap_err()), FileProblem::NotFound);
    assert_eq!(kind(files.get(&at("none"), 0).await.unwrap_err()), FileProblem::NotFound);
    assert_eq!(kind(files.list(&at("none")).await.unwrap_err()), FileProblem::NotFound);
    let exclusive = Put { exclusive: true, ..Put::default() };
    files.put(&at("dir/a"), exclusive).await.unwrap_err();
    files.remove_dir(&at("dir")).await.unwrap_err();
    for name in ["dir/a", "dir/link"] {
        files.remove(&at(name)).await.unwrap();
    }
    files.remove_dir(&at("dir")).await.unwrap();
    assert!(!std::path::Path::new(&at("dir")).exists());
}

#[tokio::test]
async fn dropped_transfers_and_services_leave_the_link_as_it_was() {
    let rig = Rig::new();
    let link = rig.link().await;
    let path = format!("{}/big", rig.sshd.home().display());
    std::fs::write(&path, vec![1; 30 * MIB]).unwrap();
    for _ in 0..25 {
        let files = link.files().await.unwrap();
        let mut download = files.get(&path, 0).await.unwrap();
        assert!(download.next().await.unwrap().is_some());
        drop(download);
        let upload = files.put(&format!("{path}-2"), Put::default()).await.unwrap();
        upload.write(Bytes::from(vec![2; MIB])).await.unwrap();
        drop(upload);
        assert_eq!(files.stat(&path).await.unwrap().bytes, 30 * MIB as u64);
    }
    // All ten sessions are there for commands.
    let commands = (0..10).map(|_| text(&link, "sleep 0.2; echo x"));
    assert_eq!(futures_util::future::join_all(commands).await, ["x\n"; 10]);
    assert_eq!(link.state().borrow().generation, 1);
}

#[tokio::test]
async fn a_disk_that_is_full_is_told() {
    let rig = Rig::new();
    let files = rig.link().await.files().await.unwrap();
    let upload = files.put("/dev/full", Put::default()).await.unwrap();
    let _ = upload.write(Bytes::from_static(b"x")).await;
    let error = upload.finish(false).await.unwrap_err();
    assert!(matches!(error, ReachError::File { what: "writing", .. }), "{error}");
}

#[tokio::test]
async fn a_transfer_is_lost_with_its_connection() {
    let rig = Rig::new();
    let link = rig.link().await;
    let files = link.files().await.unwrap();
    let path = format!("{}/half", rig.sshd.home().display());
    let upload = files.put(&path, Put::default()).await.unwrap();
    upload.write(Bytes::from(vec![1; MIB])).await.unwrap();
    rig.sshd.kill_sessions();
    let error = upload.finish(true).await.unwrap_err();
    assert!(matches!(error, ReachError::Lost { .. }), "{error}");
    let error = files.stat(&path).await.unwrap_err();
    assert!(matches!(error, ReachError::Lost { .. }), "{error}");
}

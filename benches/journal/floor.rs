//! The least that makes a record durable for many who wait: a file, one
//! `fdatasync` for all of them.

use std::fs::File;
use std::io::Write;

use tokio::sync::{mpsc, oneshot};

pub type Append = (Vec<u8>, oneshot::Sender<()>);

/// A thread that appends whatever waits and answers after one `fdatasync`.
pub fn appender(mut file: File) -> mpsc::Sender<Append> {
    let (sender, mut waiting) = mpsc::channel::<Append>(1024);
    std::thread::spawn(move || {
        let mut group = Vec::new();
        let mut bytes = Vec::new();
        while waiting.blocking_recv_many(&mut group, 512) > 0 {
            bytes.clear();
            group.iter().for_each(|(body, _)| bytes.extend_from_slice(body));
            file.write_all(&bytes).expect("written");
            file.sync_data().expect("synced");
            for (_, reply) in group.drain(..) {
                let _ = reply.send(());
            }
        }
    });
    sender
}

pub async fn append(appender: &mpsc::Sender<Append>, body: Vec<u8>) {
    let (reply, answer) = oneshot::channel();
    appender.send((body, reply)).await.expect("an appender");
    answer.await.expect("an answer");
}

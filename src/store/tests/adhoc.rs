//! ad hoc
use crate::store::testing::*;
use std::time::*;
#[tokio::test(flavor = "multi_thread")]
#[ignore]
async fn real_full() {
    let dir = std::path::PathBuf::from(std::env::var("SMALL").unwrap()).join("state");
    std::fs::create_dir_all(&dir).unwrap();
    let mut o = options(&dir, KEEP);
    o.durability = crate::store::Durability::Full;
    let (store, report) = crate::store::Store::open(o, std::sync::Arc::new(|_| ())).unwrap();
    let f = Fixture { store, report, told: Default::default() };
    eprintln!("opened {:?}", f.report);
    let mut ok = 0;
    let mut full = 0;
    let mut other = 0;
    let mut last = Instant::now();
    let start = Instant::now();
    let mut ok_after = 0;
    while start.elapsed() < Duration::from_secs(std::env::var("SECS").unwrap().parse().unwrap()) {
        match f.store.publish(vec![event(&format!("x{}", ok + full + other))]).await {
            Ok(_) => {
                ok += 1;
                if full > 0 {
                    ok_after += 1;
                }
            }
            Err(crate::store::StoreError::Full { .. }) => full += 1,
            Err(e) => {
                other += 1;
                eprintln!("{e:?}");
            }
        }
        if full > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if last.elapsed() > Duration::from_secs(1) {
            last = Instant::now();
            eprintln!(
                "{:?} ok {ok} full {full} other {other} after {ok_after} is_full {} degraded {} held {}",
                start.elapsed(),
                f.store.is_full(),
                f.store.is_degraded(),
                f.held().await.len()
            );
            let d = f
                .store
                .write(|tx| {
                    tx.connection.execute("DELETE FROM cursor", [])?;
                    tx.begin_named(
                        "a",
                        "b",
                        None,
                        crate::model::Cursor { epoch: crate::model::Epoch(1), seq: 0 },
                    )
                })
                .await;
            if d.is_err() {
                eprintln!("change: {d:?}");
            }
            f.store.tick().await.unwrap();
        }
    }
    let held = f.held().await.len();
    assert_eq!(held, ok);
    f.store.close().await;
    drop(f);
    let mut o = options(&dir, KEEP);
    o.durability = crate::store::Durability::Full;
    let (store, report) = crate::store::Store::open(o, std::sync::Arc::new(|_| ())).unwrap();
    let f = Fixture { store, report, told: Default::default() };
    eprintln!("{:?}", f.report);
    assert_eq!(f.held().await.len(), ok);
}

//! Promise: a VM may be saved as often as one likes; its disk's layers stay few, and no state is lost.

use crate::host::{Host, checkpoint_name};
use engine::{Engine, Origin};

/// More than one layer each up to the bound, twice.
const ROUNDS: usize = 16;
/// The bound, and the one on top that is written to.
const LAYERS_MAX: usize = 9;

pub(crate) async fn many_checkpoints_keep_the_chain_short_and_every_state_right(host: &Host) {
    let (engine, source) = (host.engine().await, host.launch().await);
    let mut saved = Vec::new();
    for round in 0..ROUNDS {
        host.sh(
            &source,
            &format!(
                "echo {round} > /round; echo {round} >> /all; \
             head -c 500000 /dev/urandom > /file{round}; md5sum /file{round} >> /sums; sync"
            ),
        )
        .await;
        let name = checkpoint_name();
        engine.checkpoint(&source, &name).await.unwrap();
        saved.push(name);
        if round % 7 == 3 {
            engine.suspend(&source).await.unwrap();
            engine.resume(&source).await.unwrap();
        }
        let layers = host.path("vms").join(source.as_str()).join("layers");
        let count = std::fs::read_dir(layers).unwrap().count();
        assert!(count <= LAYERS_MAX, "round {round}: {count} layers");
    }
    let check = "echo 1 > /proc/sys/vm/drop_caches; md5sum -c /sums > /dev/null && cat /round && \
         md5sum < /all | cut -c 1-8";
    let last = host.sh(&source, check).await;
    host.stop([&source]).await;
    for round in [0, 7, 8, ROUNDS - 1] {
        let (fork, _) = host.launch_from(Origin::Checkpoint(saved[round].clone())).await;
        let seen = host.sh(&fork, check).await;
        assert_eq!(seen.lines().next(), Some(round.to_string().as_str()));
        assert!(round != ROUNDS - 1 || seen == last);
        host.stop([&fork]).await;
    }
    for name in &saved {
        engine.remove_checkpoint(name).await.unwrap();
    }
}

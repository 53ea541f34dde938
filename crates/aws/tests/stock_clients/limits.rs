//! Quotas and rates as stock clients see them.

use super::world::{World, succeed};
use aws::Rates;
use control::Quotas;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_much_or_too_often_is_refused_as_on_aws() {
    let rates = Rates { run: Some(3), tags: Some(1), connectors: Some(1), ..Rates::unlimited() };
    let quotas = Quotas { memory_mib: Some(1024), connectors: Some(0), ..Quotas::default() };
    let world = World::limited(rates, quotas).await;
    assert_eq!(succeed(world.python("limits_session.py")).await.trim(), "all good");
    world.stop().await;
}

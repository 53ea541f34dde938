//! Everything that boto3 can ask of the four services, in one session of it.

use super::world::{World, succeed};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn boto3_gets_from_every_operation_what_aws_would_answer() {
    let world = World::start().await;
    let output = succeed(world.python("boto3_session.py")).await;
    assert_eq!(output.trim(), "all good");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn boto3_finds_in_s3_what_it_finds_on_aws() {
    let world = World::start().await;
    let output = succeed(world.python("s3_session.py")).await;
    assert_eq!(output.trim(), "all good");
    world.stop().await;
}

//! What the VM's life means for its endpoint.

use crate::world::{State, World, status};
use std::sync::atomic::Ordering;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn a_flood_at_a_sleeping_vm_wakes_it_once() {
    let world = World::with_app().await;
    world.vm.state.send_replace(State::Wakeable);
    let answers = (0..50).map(|_| world.get("/head", ""));
    let answers = futures::future::join_all(answers).await;
    assert!(answers.iter().all(|answer| status(answer) == 200));
    assert_eq!(world.vm.woken.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_vm_that_does_not_run_is_a_502_without_a_body() {
    let world = World::with_app().await;
    world.vm.state.send_replace(State::Ended);
    let answer = world.get("/head", "").await;
    assert_eq!(status(&answer), 502);
    assert!(answer.contains("x-aws-proxy-error: MICROVM_CONNECT_FAILED\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    assert_eq!(world.vm.dials.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn when_the_vm_stops_its_connections_are_cut_and_made_anew() {
    let world = World::with_app().await;
    assert_eq!(status(&world.get("/head", "").await), 200);
    let mut stream = world.connect().await;
    stream.write_all(world.head("GET /events", "Connection: close\r\n").as_bytes()).await.unwrap();
    let mut tunnel = world.connect().await;
    let more = "Connection: upgrade\r\nUpgrade: raw\r\n";
    tunnel.write_all(world.head("GET /upgrade", more).as_bytes()).await.unwrap();
    let mut piece = [0; 4096];
    assert!(stream.read(&mut piece).await.unwrap() > 0);
    assert!(tunnel.read(&mut piece).await.unwrap() > 0);
    let dials = world.vm.dials.load(Ordering::SeqCst);
    world.vm.state.send_replace(State::Wakeable);
    for open in [&mut stream, &mut tunnel] {
        let mut rest = Vec::new();
        // Ends: the test would hang otherwise.
        let _ = open.read_to_end(&mut rest).await;
    }
    assert_eq!(status(&world.get("/head", "").await), 200);
    assert!(world.vm.dials.load(Ordering::SeqCst) > dials);
}

#[tokio::test]
async fn bytes_are_told_and_counted() {
    let world = World::with_app().await;
    let sized = world.head("POST /echo", "Connection: close\r\nContent-Length: 5\r\n") + "hello";
    world.said(sized).await;
    assert!(world.vm.noted.load(Ordering::Relaxed) >= 2);
    let text = world.gateway.metrics().render();
    for line in ["bytes_total{direction=\"in\"} 5", "bytes_total{direction=\"out\"} 5"] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(text.contains("warren_gateway_requests_total{code=\"2xx\"} 1\n"), "{text}");
}

#[tokio::test]
async fn closing_the_gateway_leaves_nothing_open() {
    let world = World::with_app().await;
    let mut stream = world.connect().await;
    stream.write_all(world.head("GET /head", "").as_bytes()).await.unwrap();
    let mut piece = [0; 4096];
    assert!(stream.read(&mut piece).await.unwrap() > 0);
    world.gateway.close().await;
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert!(
        world.gateway.metrics().render().contains("warren_gateway_open{kind=\"connection\"} 0\n")
    );
}

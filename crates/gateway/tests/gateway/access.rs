//! Who gets in, and what the others are told.

use crate::world::{ENDPOINT, World, microvm, status};
use control::{ProxyTokens, Reach, SystemClock};
use gateway::{AnyHost, Limit, Limits};
use std::{sync::Arc, time::Duration};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn request(host: &str, more: &str) -> String {
    format!("GET /head HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n")
}

fn auth(token: &str) -> String {
    format!("X-aws-proxy-auth: {token}\r\n")
}

#[track_caller]
fn is_refused(answer: &str, expected: u16, code: &str, text: &str) {
    assert_eq!(status(answer), expected, "{answer}");
    assert!(answer.contains(&format!("x-aws-proxy-error: {code}\r\n")), "{answer}");
    assert!(answer.contains("x-amzn-requestid: "), "{answer}");
    assert!(answer.ends_with(&format!("\r\n\r\n{text}")), "{answer}");
}

#[tokio::test]
async fn without_a_token_of_this_vm_nothing_is_reached() {
    let world = World::with_app().await;
    let missing = "Request missing authentication";
    let failed = "Token authentication failed";
    is_refused(&world.said(request(ENDPOINT, "")).await, 403, "UNAUTHORIZED", missing);
    let nonsense = request(ENDPOINT, &auth("nonsense"));
    is_refused(&world.said(nonsense).await, 403, "UNAUTHORIZED", missing);
    let stranger = ProxyTokens::of_random_key(Arc::new(SystemClock));
    let reach = || Reach::Ports(vec![1..=65535]);
    let life = Duration::from_secs(60);
    let forged = stranger.issue(&world.microvm, reach(), life).unwrap();
    is_refused(&world.said(request(ENDPOINT, &auth(&forged))).await, 403, "UNAUTHORIZED", missing);

    let mut other = microvm(&["HTTP_INGRESS"]);
    other.endpoint = "other.lambda-microvm.us-east-1.localhost".into();
    let other = world.tokens.issue(&other, reach(), life).unwrap();
    is_refused(&world.said(request(ENDPOINT, &auth(&other))).await, 403, "UNAUTHORIZED", failed);
    let own = world.token();
    for host in ["nobody.lambda-microvm.us-east-1.localhost", "localhost", "127.0.0.1:7421"] {
        is_refused(&world.said(request(host, &auth(&own))).await, 403, "UNAUTHORIZED", failed);
    }
    let expired = world.tokens.issue(&world.microvm, reach(), Duration::ZERO).unwrap();
    is_refused(&world.said(request(ENDPOINT, &auth(&expired))).await, 403, "UNAUTHORIZED", failed);
    assert_eq!(status(&world.said(request(ENDPOINT, &auth(&own))).await), 200);
}

#[tokio::test]
async fn a_token_reaches_its_own_ports_only() {
    let world = World::with_app().await;
    let app = *world.vm.ports.lock().unwrap().get(&8080).unwrap();
    world.put(9000, app);
    let denied = "Access to port denied";
    let narrow = auth(&world.token_for(Reach::Ports(vec![9000..=9001])));
    is_refused(&world.said(request(ENDPOINT, &narrow)).await, 403, "UNAUTHORIZED", denied);
    let at = |port: &str| request(ENDPOINT, &format!("{narrow}X-aws-proxy-port: {port}\r\n"));
    assert_eq!(status(&world.said(at("9000")).await), 200);
    is_refused(&world.said(at("9001")).await, 502, "APP_CONNECT_FAILED", "");
    is_refused(&world.said(at("9002")).await, 403, "UNAUTHORIZED", denied);
    let bad = "the port is not a number from 1 to 65535";
    is_refused(&world.said(at("99999")).await, 400, "BAD_REQUEST", bad);
}

#[tokio::test]
async fn connectors_shut_what_they_do_not_open() {
    for (connectors, expected) in
        [(["HTTP_INGRESS"], 200), (["SHELL_INGRESS"], 403), (["NO_INGRESS"], 403)]
    {
        let world = World { microvm: microvm(&connectors), ..World::with_app().await };
        assert_eq!(status(&world.get("/head", "").await), expected, "{connectors:?}");
    }
}

#[tokio::test]
async fn each_request_of_a_connection_is_judged_by_itself() {
    let world = World::with_app().await;
    let mut stream = world.connect().await;
    let mut buffer = vec![0; 65_536];
    stream.write_all(world.head("GET /head", "").as_bytes()).await.unwrap();
    let count = stream.read(&mut buffer).await.unwrap();
    assert!(buffer[..count].starts_with(b"HTTP/1.1 200"));
    let without = format!("GET /head HTTP/1.1\r\nHost: {ENDPOINT}\r\n\r\n");
    stream.write_all(without.as_bytes()).await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert_eq!(status(&rest), 403);
}

#[tokio::test]
async fn any_host_may_name_the_vm_by_path_or_header() {
    let world = World::with_app().await;
    let token = auth(&world.token());
    let id = world.microvm.id.to_string();
    for name in [id.as_str(), "4a1e", ENDPOINT, id.strip_prefix("microvm-").unwrap()] {
        let by_header = format!("{token}x-warren-microvm: {name}\r\n");
        let answer = world.said(request("127.0.0.1:7421", &by_header)).await;
        assert_eq!(status(&answer), 200, "{name}: {answer}");
        assert!(answer.contains(&format!("host: {ENDPOINT}\n")), "{answer}");
        assert!(!answer.contains("x-warren-microvm"), "{answer}");
        let by_path = request("127.0.0.1", &token)
            .replace("GET /head", &format!("GET /_warren/vm/{name}/head?a=b"));
        let answer = world.said(by_path).await;
        assert!(answer.contains("GET /head?a=b 1\n"), "{answer}");
    }
    let wrong = format!("{token}x-warren-microvm: other\r\n");
    assert_eq!(status(&world.said(request("127.0.0.1", &wrong)).await), 403);
    let strict = World::with(|config| config.any_host = AnyHost::Refused).await;
    let strict = World { tokens: world.tokens.clone(), ..strict };
    let by_header = format!("{token}x-warren-microvm: {id}\r\n");
    assert_eq!(status(&strict.said(request("127.0.0.1", &by_header)).await), 403);
}

#[tokio::test]
async fn a_vm_over_its_limits_is_answered_429() {
    let limits = Limits { connections: Limit::Fixed(1), ..Limits::OFF };
    let world = World::with(|config| config.limits = limits).await;
    world.put(8080, crate::world::app().await);
    let mut first = world.connect().await;
    first.write_all(world.head("GET /events", "").as_bytes()).await.unwrap();
    let mut buffer = vec![0; 4096];
    assert!(first.read(&mut buffer).await.unwrap() > 0);
    let second = world.get("/head", "").await;
    let text = "Rate exceeded: too many connections to this MicroVM";
    is_refused(&second, 429, "THROTTLED", text);
    assert!(second.contains("retry-after: 1\r\n"), "{second}");

    let limits = Limits { requests: Limit::Fixed(2), ..Limits::OFF };
    let world = World::with(|config| config.limits = limits).await;
    world.put(8080, crate::world::app().await);
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push(status(&world.get("/head", "").await));
    }
    assert!(seen.contains(&200) && seen.contains(&429), "{seen:?}");
}

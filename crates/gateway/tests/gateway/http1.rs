//! HTTP/1.1 through the gateway: heads, bodies of every framing, streams.

use crate::world::{ENDPOINT, World, raw, status};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use std::sync::atomic::Ordering;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn the_app_sees_the_request_as_the_client_made_it() {
    let world = World::with_app().await;
    let more = "traceparent: 00-1\r\nX-Twice: a\r\nX-Twice: b\r\nCookie: a=1; b=2\r\n\
                X-Forwarded-For: 1.2.3.4\r\nX-AWS-Proxy-Anything: x\r\nx_aws_proxy_auth: x\r\n";
    let answer = world.get("/head?q=%20a+b&c", more).await;
    assert_eq!(status(&answer), 200, "{answer}");
    assert!(answer.contains("GET /head?q=%20a+b&c 1\n"), "{answer}");
    for line in ["traceparent: 00-1", "x-twice: a\nx-twice: b", "cookie: a=1; b=2"] {
        assert!(answer.contains(line), "{line} in {answer}");
    }
    assert!(answer.contains(&format!("host: {ENDPOINT}\n")), "{answer}");
    let seen = answer.split("\r\n\r\n").nth(1).unwrap();
    assert!(seen.contains("x-amzn-requestid: ") && seen.contains("x-forwarded-for: 1.2.3.4"));
    assert!(!seen.contains("proxy") && !seen.contains("connection"), "{seen}");
}

#[tokio::test]
async fn the_client_sees_the_answer_without_what_is_the_gateways() {
    let world = World::with_app().await;
    let answer = world.get("/reserved", "").await;
    assert!(!answer.contains("FORGED") && !answer.contains("timeout=99"), "{answer}");
    assert!(answer.contains("set-cookie: a=1\r\nset-cookie: b=2\r\n"), "{answer}");
    assert_eq!(status(&world.get("/nothing", "").await), 404);
    let head = world.said(world.head("HEAD /head", "Connection: close\r\n")).await;
    assert_eq!(status(&head), 200);
    assert!(head.ends_with("\r\n\r\n"), "{head}");
}

#[tokio::test]
async fn bodies_go_through_in_every_framing() {
    let world = World::with_app().await;
    let sized = world.head("POST /echo", "Connection: close\r\nContent-Length: 5\r\n") + "hello";
    assert!(world.said(sized).await.contains("hello"));
    let chunked = world.head("POST /count", "Connection: close\r\nTransfer-Encoding: chunked\r\n");
    let answer = world.said(chunked + "3\r\nabc\r\n4;ext=1\r\ndefg\r\n0\r\n\r\n").await;
    assert!(answer.ends_with("\r\n\r\n7"), "{answer}");
    let old = world.head("GET /head", "").replace("HTTP/1.1", "HTTP/1.0");
    assert!(world.said(old).await.contains("GET /head 1\n"));
}

#[tokio::test]
async fn trailers_go_through_both_ways() {
    let world = World::with_app().await;
    let more =
        "Connection: close\r\nTE: trailers\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n";
    let answer =
        world.said(world.head("POST /echo", more) + "2\r\nhi\r\n0\r\nx-sum: 42\r\n\r\n").await;
    assert!(answer.ends_with("2\r\nhi\r\n0\r\nx-sum: 42\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn events_arrive_when_they_are_sent() {
    let world = World::with_app().await;
    let mut stream = world.connect().await;
    stream.write_all(world.head("GET /events", "").as_bytes()).await.unwrap();
    let mut seen = String::new();
    // The second event comes in ten minutes: the first is not held back for it.
    while !seen.contains("data: 1\n\n") {
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece).await.unwrap();
        assert!(count > 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&piece[..count]));
    }
}

#[tokio::test]
async fn a_body_is_repeated_while_it_is_sent() {
    let world = World::with_app().await;
    let mut stream = world.connect().await;
    let head = world.head("POST /echo", "Transfer-Encoding: chunked\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut seen = String::new();
    for word in ["first", "second"] {
        let chunk = format!("{:x}\r\n{word}\r\n", word.len());
        stream.write_all(chunk.as_bytes()).await.unwrap();
        while !seen.contains(word) {
            let mut piece = [0; 4096];
            let count = stream.read(&mut piece).await.unwrap();
            seen.push_str(&String::from_utf8_lossy(&piece[..count]));
        }
    }
}

#[tokio::test]
async fn a_client_that_asks_first_is_answered_by_the_app() {
    let world = World::with_app().await;
    // The app refuses: the client is not asked for its body.
    let more = "Expect: 100-continue\r\nContent-Length: 1000000\r\n";
    let answer = world.said(world.head("POST /refuse", more)).await;
    assert_eq!(status(&answer), 413, "{answer}");
    // The app wants it.
    let mut stream = world.connect().await;
    let more = "Expect: 100-continue\r\nContent-Length: 4\r\nConnection: close\r\n";
    stream.write_all(world.head("POST /count", more).as_bytes()).await.unwrap();
    let mut piece = [0; 256];
    let count = stream.read(&mut piece).await.unwrap();
    assert_eq!(&piece[..count], b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"body").await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert!(rest.ends_with("\r\n\r\n4"), "{rest}");
}

#[tokio::test]
async fn an_app_that_answers_nonsense_is_a_502() {
    let world = World::new().await;
    let switched = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n";
    for answer in ["nonsense\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", switched] {
        world.put(8080, raw(answer).await.address);
        let said = world.get("/", "").await;
        assert_eq!(status(&said), 502, "{answer}: {said}");
        assert!(said.contains("x-aws-proxy-error: APP_RESPONSE_FAILED"), "{said}");
        assert!(said.ends_with("\r\n\r\n"), "{said}");
    }
}

#[tokio::test]
async fn a_reader_that_does_not_read_stops_the_writer() {
    let world = World::with_app().await;
    let mut stream = world.connect().await;
    stream.write_all(world.head("GET /endless", "").as_bytes()).await.unwrap();
    let taken = || {
        let text = world.gateway.metrics().render();
        let line = text.lines().find(|line| line.contains("direction=\"out\"")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    // Buffers of the kernel fill up, then nothing moves any more.
    let mut before = u64::MAX;
    for _ in 0..200 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let now = taken();
        if now == before && now > 0 {
            return;
        }
        before = now;
    }
    panic!("{before} bytes were taken from the app for a client that reads none");
}

#[tokio::test]
async fn connections_to_the_app_are_used_again() {
    let world = World::with_app().await;
    let mut client = world.http1().await;
    for _ in 0..20 {
        let request = world.request("/head").body(Full::new(Bytes::new())).unwrap();
        client.ready().await.unwrap();
        let response = client.send_request(request).await.unwrap();
        response.into_body().collect().await.unwrap();
    }
    let dials = world.vm.dials.load(Ordering::SeqCst);
    // One finds out whether it speaks TLS; one is used, and perhaps another while it is given back.
    assert!(dials <= 5, "{dials} connections for 20 requests");
}

//! What attackers send: two readings of one request, heads without end, connections that give
//! nothing, resets without end. Each is refused, and the gateway goes on.

use crate::world::{ENDPOINT, World, raw, status};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

/// What a smuggled request would be found by.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn a_request_that_can_be_read_in_two_ways_is_refused() {
    let world = World::new().await;
    let mut app = raw(OK).await;
    world.put(8080, app.address);
    let chunked = format!("0\r\n\r\n{SMUGGLED}");
    for (what, lines) in [
        ("two lengths", "Content-Length: 3\r\nContent-Length: 4\r\n"),
        ("two lengths in one", "Content-Length: 3, 4\r\n"),
        ("a length with a sign", "Content-Length: +3\r\n"),
        ("a negative length", "Content-Length: -3\r\n"),
        ("a length in hexadecimal", "Content-Length: 0x3\r\n"),
        ("a length beyond any", "Content-Length: 99999999999999999999\r\n"),
        ("a coding that is not chunked", "Transfer-Encoding: identity\r\n"),
        ("chunked before another coding", "Transfer-Encoding: chunked, gzip\r\n"),
        ("another coding before chunked", "Transfer-Encoding: gzip, chunked\r\n"),
        ("chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        ("a coding that looks like chunked", "Transfer-Encoding: xchunked\r\n"),
        ("a coding in quotes", "Transfer-Encoding: \"chunked\"\r\n"),
        ("a space before the colon", "Transfer-Encoding : chunked\r\n"),
        ("a vertical tab", "Transfer-Encoding: \x0bchunked\r\n"),
        ("a folded line", "X: y\r\n Transfer-Encoding: chunked\r\n"),
        ("a control character", "X: a\x00b\r\n"),
        ("two hosts", "Host: other\r\n"),
        ("a bare carriage return", "X: a\rTransfer-Encoding: chunked\r\n"),
    ] {
        let answer = world.said(world.head("POST /", lines) + &chunked).await;
        assert_eq!(status(&answer), 400, "{what}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{what}: {answer}");
    }
    assert!(app.received.try_recv().is_err(), "something reached the app");
}

/// RFC 9112 6.1: chunked wins, the length is not passed on, and the connection ends there.
#[tokio::test]
async fn a_length_beside_chunked_smuggles_nothing() {
    let world = World::new().await;
    for lines in [
        "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n",
        "Content-Length: 6\r\ntransfer-encoding:\tchunked\r\n",
    ] {
        let mut app = raw(OK).await;
        world.put(8080, app.address);
        let answer = world.said(world.head("POST /", lines) + "0\r\n\r\n" + SMUGGLED).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        if let Some(received) = app.received.recv().await {
            let received = String::from_utf8_lossy(&received).to_ascii_lowercase();
            assert!(!received.contains("content-length"), "{received}");
            assert!(!received.contains("smuggled"), "{received}");
        }
        while let Ok(more) = app.received.try_recv() {
            assert!(!String::from_utf8_lossy(&more).contains("smuggled"));
        }
    }
}

#[tokio::test]
async fn a_malformed_chunk_ends_the_request() {
    let world = World::with_app().await;
    for body in
        ["zz\r\n", "5\r\nab\r\n0\r\n\r\n", "-1\r\na\r\n", "ffffffffffffffffff\r\n", "1\nab\n0\n\n"]
    {
        let head = world.head("POST /count", "Transfer-Encoding: chunked\r\n");
        let answer = world.said(head + body).await;
        assert_ne!(status(&answer), 200, "{body:?}: {answer}");
    }
}

#[tokio::test]
async fn a_pipelined_request_is_judged_by_itself() {
    let world = World::with_app().await;
    let first = world.head("GET /head", "");
    let second = format!("GET /head HTTP/1.1\r\nHost: {ENDPOINT}\r\n\r\n");
    let answer = world.said(first + &second).await;
    assert_eq!(answer.matches("HTTP/1.1 200 ").count(), 1, "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 403 ").count(), 1, "{answer}");
}

#[tokio::test]
async fn a_head_beyond_the_bound_is_refused() {
    let world = World::with_app().await;
    let large = format!("X-Large: {}\r\n", "x".repeat(200_000));
    assert_eq!(status(&world.said(world.head("GET /head", &large)).await), 431);
    let many = "X-One: 1\r\n".repeat(1000);
    assert_eq!(status(&world.said(world.head("GET /head", &many)).await), 431);
    let path = format!("GET /{}", "x".repeat(200_000));
    assert!((400..=431).contains(&status(&world.said(world.head(&path, "")).await)));
    let fair = format!("X-Fair: {}\r\nConnection: close\r\n", "x".repeat(16_000));
    assert_eq!(status(&world.said(world.head("GET /head", &fair)).await), 200);
}

#[tokio::test]
async fn who_is_too_slow_with_a_head_is_cut_off() {
    let soon = Duration::from_millis(200);
    let world = World::with(|config| {
        config.first_request_max = soon;
        config.keep_alive_max = soon;
    })
    .await;
    world.put(8080, crate::world::app().await);
    for beginning in
        ["", "G", "GET / HTTP/1.1\r\nHost: x\r\n", "PRI * HTTP/2.0\r\n", "\x16\x03\x01"]
    {
        let mut stream = world.connect().await;
        stream.write_all(beginning.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        // Ends: the test would hang otherwise.
        let _ = stream.read_to_end(&mut rest).await;
        assert!(!rest.starts_with(b"HTTP/1.1 200"), "{beginning:?}");
    }
    // So is a connection without a further request.
    let said = world.said(world.head("GET /head", "")).await;
    assert_eq!(status(&said), 200);
    // One whose answer is not complete is not.
    let mut stream = world.connect().await;
    stream.write_all(world.head("GET /events", "").as_bytes()).await.unwrap();
    let mut piece = [0; 4096];
    assert!(stream.read(&mut piece).await.unwrap() > 0);
    let silent = tokio::time::timeout(soon * 4, stream.read(&mut piece)).await;
    assert!(silent.is_err(), "{silent:?}");
}

#[tokio::test]
async fn a_silent_exchange_ends_after_the_idle_time() {
    let world = World::with(|config| config.idle_max = Duration::from_millis(300)).await;
    world.put(8080, crate::world::app().await);
    let answer = world.said(world.head("GET /events", "")).await;
    assert!(answer.contains("data: 1\n\n"), "{answer}");
}

#[tokio::test]
async fn more_connections_than_places_wait() {
    let world = World::with(|config| config.connections_max = 2).await;
    world.put(8080, crate::world::app().await);
    let held = [world.connect().await, world.connect().await];
    let waiting = tokio::spawn({
        let (request, address) = (world.head("GET /head", "Connection: close\r\n"), world.address);
        async move {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!waiting.is_finished());
    drop(held);
    assert_eq!(status(&waiting.await.unwrap()), 200);
}

/// CVE-2023-44487: streams that are opened and reset at once.
#[tokio::test]
async fn rapid_resets_end_the_connection_and_harm_no_other() {
    let world = World::with_app().await;
    let (client, connection) = h2::client::handshake(world.connect().await).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let mut resets = 0;
    while resets < 20_000 {
        let Ok(ready) = client.clone().ready().await else { break };
        client = ready;
        let request = world.request("/events").body(()).unwrap();
        let Ok((response, mut body)) = client.send_request(request, false) else { break };
        body.send_reset(h2::Reason::CANCEL);
        drop(response);
        resets += 1;
        // Lets the connection's task send.
        tokio::task::yield_now().await;
    }
    drop(client);
    let _ = connection.await.unwrap();
    assert!(resets < 20_000, "nobody minded");
    assert_eq!(status(&world.get("/head", "").await), 200);
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_with_it() {
    let world = World::new().await;
    let mut app = raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n").await;
    world.put(8080, app.address);
    let mut stream = world.connect().await;
    stream.write_all(world.head("GET /", "").as_bytes()).await.unwrap();
    let mut piece = [0; 1024];
    assert!(stream.read(&mut piece).await.unwrap() > 0);
    drop(stream);
    // The app's connection ends, so that it does not go on for nobody.
    assert!(app.received.recv().await.is_some());
}

#[tokio::test]
async fn a_half_closed_client_harms_nobody() {
    let world = World::with_app().await;
    let mut stream = world.connect().await;
    stream.write_all(world.head("POST /count", "Content-Length: 10\r\n").as_bytes()).await.unwrap();
    stream.write_all(b"half").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    assert_ne!(status(&answer), 200, "{answer}");
    assert_eq!(status(&world.get("/head", "").await), 200);
}

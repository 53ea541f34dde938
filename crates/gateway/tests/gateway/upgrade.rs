//! Upgrades: WebSockets with the gateway's subprotocols, other protocols, half-closed ends.

use crate::world::{ENDPOINT, World, status};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::{Error, Message, client::IntoClientRequest};

async fn answer_head(stream: &mut tokio::net::TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8_lossy(&head).into_owned()
}

#[tokio::test]
async fn any_protocol_may_be_switched_to_and_ends_may_close_apart() {
    let world = World::with_app().await;
    let mut stream = world.connect().await;
    let more = "Connection: Upgrade\r\nUpgrade: x-raw/1\r\n";
    stream.write_all(world.head("GET /upgrade", more).as_bytes()).await.unwrap();
    let head = answer_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("upgrade: x-raw/1\r\n"), "{head}");
    let big = vec![b'z'; 3_000_000];
    let (mut from, mut to) = stream.split();
    let sending = async {
        to.write_all(&big).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let mut back = Vec::new();
    let (_, count) = tokio::join!(sending, from.read_to_end(&mut back));
    // What came after our half was closed is here too.
    assert_eq!(count.unwrap(), big.len());
}

fn handshake(world: &World, protocols: &[String], port: &str) -> http::Request<()> {
    let url = format!("ws://{}/upgrade", world.address);
    let mut request = url.into_client_request().unwrap();
    let headers = request.headers_mut();
    headers.insert("host", ENDPOINT.parse().unwrap());
    headers.insert("origin", port.parse().unwrap());
    headers.insert("sec-websocket-protocol", protocols.join(", ").parse().unwrap());
    request
}

#[tokio::test]
async fn a_browser_brings_its_token_among_the_subprotocols() {
    let world = World::with_app().await;
    let token = format!("lambda-microvms.authentication.{}", world.token());
    let marker = "lambda-microvms".to_owned();
    let port = "lambda-microvms.port.8080".to_owned();
    let own = "chat".to_owned();
    let offers = [token.clone(), marker.clone(), port.clone(), own.clone()];
    let mut stream = world.connect().await;
    let request = format!(
        "GET /upgrade HTTP/1.1\r\nHost: {ENDPOINT}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: {}\r\n\r\n",
        offers.join(", ")
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = answer_head(&mut stream).await;
    assert!(head.contains("sec-websocket-protocol: lambda-microvms\r\n"), "{head}");
    assert!(head.contains("x-offered: chat\r\n"), "the app sees its own only: {head}");

    for (missing, offers) in [
        ("the marker", vec![token.clone(), port.clone()]),
        ("the token", vec![marker.clone(), port.clone()]),
    ] {
        let request = handshake(&world, &offers, "8080");
        let error = tokio_tungstenite::client_async(request, world.connect().await).await;
        let Err(Error::Http(response)) = error else { panic!("{missing}: it was let in") };
        assert_eq!(response.status(), 403, "{missing}");
    }
    let bad = handshake(&world, &[marker, token, "lambda-microvms.port.x".into()], "8080");
    let error = tokio_tungstenite::client_async(bad, world.connect().await).await;
    let Err(Error::Http(response)) = error else { panic!("a bad port was let in") };
    assert_eq!(response.status(), 400);
}

/// A WebSocket app of tungstenite's behind the gateway.
#[tokio::test]
async fn messages_go_both_ways() {
    let world = World::new().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.put(8080, listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
                while let Some(Ok(message)) = socket.next().await {
                    if socket.send(message).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    let mut request = handshake(&world, &["x".into()], "8080");
    request.headers_mut().remove("sec-websocket-protocol");
    request.headers_mut().insert("x-aws-proxy-auth", world.token().parse().unwrap());
    let (mut socket, _) =
        tokio_tungstenite::client_async(request, world.connect().await).await.unwrap();
    for size in [0, 1, 125, 70_000, 1 << 20] {
        let message = Message::binary(vec![1; size]);
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
}

#[tokio::test]
async fn no_upgrade_to_another_http_reaches_the_app() {
    let world = World::with_app().await;
    let more = "Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\n\
                HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n";
    let answer = world.said(world.head("GET /head", more)).await;
    assert_eq!(status(&answer), 200, "{answer}");
    assert!(!answer.contains("h2c") && !answer.contains("http2-settings"), "{answer}");
}

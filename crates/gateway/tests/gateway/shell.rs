//! The shell: who may have one, and its form on the wire.

use crate::world::{ENDPOINT, World, status};
use control::{Reach, TerminalSize};
use futures::{SinkExt, StreamExt};
use gateway::{EXIT_STATUS_PROTOCOL, ShellQuery};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Error, Message, client::IntoClientRequest, protocol::frame::coding::CloseCode},
};

async fn open(
    world: &World,
    path: &str,
    more: &str,
    token: &str,
) -> Result<WebSocketStream<TcpStream>, Error> {
    let mut request = format!("ws://{}{path}", world.address).into_client_request().unwrap();
    let headers = request.headers_mut();
    headers.insert("host", ENDPOINT.parse().unwrap());
    let offers = format!("lambda-microvms, lambda-microvms.authentication.{token}{more}");
    headers.insert("sec-websocket-protocol", offers.parse().unwrap());
    let stream = world.connect().await;
    tokio_tungstenite::client_async(request, stream).await.map(|(socket, _)| socket)
}

#[track_caller]
fn refused_with(opened: Result<WebSocketStream<TcpStream>, Error>) -> u16 {
    match opened {
        Err(Error::Http(response)) => response.status().as_u16(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was opened"),
    }
}

#[tokio::test]
async fn a_session_has_the_form_of_aws() {
    let world = World::new().await;
    let token = world.token_for(Reach::Shell);
    let mut socket = open(&world, "/shell", ", lambda-microvms.port.8022", &token).await.unwrap();
    let hello = socket.next().await.unwrap().unwrap();
    let hello: serde_json::Value = serde_json::from_str(hello.to_text().unwrap()).unwrap();
    assert_eq!(hello["type"], "session_init");
    assert!(hello["session_id"].is_string());
    // Bytes as they are, even where they are no text.
    let bytes = Message::binary(vec![0xff, 0xc3, 0x28, 3]);
    socket.send(bytes.clone()).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), bytes);
    socket.send(Message::text(r#"{"type":"resize","cols":132,"rows":50}"#)).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::binary("132x50"));
    // A text that is no control is typed.
    socket.send(Message::text(r#"{"type":"other"}"#)).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::binary(r#"{"type":"other"}"#));
    socket.send(Message::binary(vec![4])).await.unwrap();
    let Message::Close(Some(close)) = socket.next().await.unwrap().unwrap() else { panic!() };
    assert_eq!((close.code, close.reason.as_str()), (CloseCode::Normal, "shell exited"));
    let execs = world.vm.execs.lock().unwrap();
    assert_eq!(execs[0].terminal, Some(TerminalSize { columns: 80, rows: 24 }));
    assert_eq!((execs[0].user.as_str(), execs[0].argv.len()), ("root", 0));
}

#[tokio::test]
async fn a_client_that_asks_is_told_how_it_ended() {
    let world = World::new().await;
    let token = world.token_for(Reach::Shell);
    let query = ShellQuery {
        user: "me".into(),
        term: "vt100".into(),
        command: vec!["sh".into(), "-c".into(), "exit 7".into()],
    };
    let more = format!(", {EXIT_STATUS_PROTOCOL}");
    let path = format!("/shell?{}", query.encode());
    let mut socket = open(&world, &path, &more, &token).await.unwrap();
    socket.next().await.unwrap().unwrap();
    socket.send(Message::binary(vec![4])).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text(r#"{"type":"exit","code":7}"#));
    let execs = world.vm.execs.lock().unwrap();
    assert_eq!((execs[0].user.as_str(), &execs[0].argv), ("me", &query.command));
    assert!(execs[0].env.contains(&("TERM".into(), "vt100".into())));
}

#[tokio::test]
async fn a_paste_of_a_mebibyte_arrives_whole() {
    let world = World::new().await;
    let token = world.token_for(Reach::Shell);
    let mut socket = open(&world, "/shell", "", &token).await.unwrap();
    socket.next().await.unwrap().unwrap();
    let paste: Vec<u8> = (0..1 << 20).map(|n: u32| (n % 251) as u8).collect();
    socket.send(Message::binary(paste.clone())).await.unwrap();
    let mut back = Vec::new();
    while back.len() < paste.len() {
        back.extend(socket.next().await.unwrap().unwrap().into_data());
    }
    assert!(back == paste);
}

#[tokio::test]
async fn only_a_shells_token_opens_one_and_it_opens_nothing_else() {
    let world = World::with_app().await;
    let shell = world.token_for(Reach::Shell);
    assert_eq!(refused_with(open(&world, "/other", "", &shell).await), 403);
    let port = ", lambda-microvms.port.8080";
    assert_eq!(refused_with(open(&world, "/shell", port, &shell).await), 403);
    // With a token for ports the path is the app's.
    let token = world.token();
    assert_eq!(refused_with(open(&world, "/shell", "", &token).await), 404);
    let plain = format!(
        "GET /shell HTTP/1.1\r\nHost: {ENDPOINT}\r\nConnection: close\r\nX-aws-proxy-auth: {shell}\r\n\r\n"
    );
    assert_eq!(status(&world.said(plain).await), 502);
    assert!(world.vm.execs.lock().unwrap().is_empty());
}

//! HTTP/2 on either side: by ALPN and by prior knowledge, gRPC's four forms, apps with TLS.

use crate::world::{DOMAIN, ENDPOINT, World, app};
use bytes::Bytes;
use futures::{SinkExt, StreamExt, channel::mpsc};
use gateway::{Certificate, TlsMode};
use http::{Method, Response, StatusCode, Version};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use std::{convert::Infallible, net::SocketAddr, sync::Arc};
use tokio::net::TcpListener;
use tokio_rustls::{TlsAcceptor, TlsConnector};

async fn text(response: Response<Incoming>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn http_2_by_prior_knowledge_reaches_an_app_of_http_1() {
    let world = World::with_app().await;
    let mut client = world.http2().await;
    let request = world
        .request("/head?a=b")
        .method(Method::PUT)
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(Full::new(Bytes::from("body")))
        .unwrap();
    let response = client.send_request(request).await.unwrap();
    assert_eq!((response.status(), response.version()), (StatusCode::OK, Version::HTTP_2));
    let seen = text(response).await;
    assert!(seen.starts_with("PUT /head?a=b 1\n"), "{seen}");
    assert!(
        seen.contains("cookie: a=1; b=2") && seen.contains(&format!("host: {ENDPOINT}")),
        "{seen}"
    );
}

#[tokio::test]
async fn the_header_forces_http_2_to_the_app() {
    let world = World::with_app().await;
    let mut client = world.http1().await;
    let request = world
        .request("/head")
        .header("x-aws-proxy-force-h2", "true")
        .header("te", "trailers")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response = client.send_request(request).await.unwrap();
    let seen = text(response).await;
    assert!(seen.starts_with(&format!("GET http://{ENDPOINT}/head 2\n")), "{seen}");
    assert!(seen.contains("te: trailers"), "{seen}");
    // An app that speaks HTTP/1.1 only does not understand it.
    world.put(8090, crate::world::raw("HTTP/1.1 400 Bad Request\r\n\r\n").await.address);
    let answer = world.get("/", "x-aws-proxy-force-h2: true\r\nX-aws-proxy-port: 8090\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
}

/// Unary, client's stream, server's stream and both at once are one form on the wire: messages that
/// come when they come, and trailers at the end.
#[tokio::test]
async fn grpc_streams_both_ways_at_once_and_ends_in_trailers() {
    let world = World::with_app().await;
    let mut client = world.http2().await;
    let (mut messages, body) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
    let request = world
        .request("/grpc")
        .method(Method::POST)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(StreamBody::new(body))
        .unwrap();
    let response = client.send_request(request);
    let response = tokio::spawn(response);
    messages.send(Ok(Frame::data("first".into()))).await.unwrap();
    let mut body = response.await.unwrap().unwrap().into_body();
    let frame = body.frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "first");
    messages.send(Ok(Frame::data("second".into()))).await.unwrap();
    let frame = body.frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "second");
    drop(messages);
    let trailers = loop {
        let frame = body.frame().await.expect("trailers come last").unwrap();
        if let Ok(trailers) = frame.into_trailers() {
            break trailers;
        }
    };
    assert_eq!(trailers["grpc-status"], "0");
    // It was HTTP/2 up to the app: one connection, after the one that asked for TLS.
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn many_requests_share_a_connection() {
    let world = World::with_app().await;
    let client = world.http2().await;
    let requests = (0..100).map(|n| {
        let mut client = client.clone();
        let request = world.request("/echo").method(Method::POST);
        let request = request.body(Full::new(Bytes::from(format!("{n}")))).unwrap();
        async move {
            let response = client.send_request(request).await.unwrap();
            assert_eq!(text(response).await, format!("{n}"));
        }
    });
    futures::future::join_all(requests).await;
}

/// The usual app behind TLS, with these protocols.
async fn tls_app(protocols: &'static [&'static str]) -> (SocketAddr, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let certificate = Certificate::self_signed(dir.path(), "app.localhost").unwrap();
    let acceptor = TlsAcceptor::from(certificate.server_config(protocols));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(|request| async move {
                    let request: http::Request<Incoming> = request;
                    let said = format!("tls {:?}", request.version());
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(said))))
                });
                let _ = auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    (address, dir)
}

#[tokio::test]
async fn an_app_with_tls_is_found_out_and_chooses_its_protocol() {
    let world = World::new().await;
    for (port, protocols, expected) in [
        (8080, &["h2", "http/1.1"][..], "tls HTTP/2.0"),
        (8081, &["http/1.1"][..], "tls HTTP/1.1"),
        (8082, &[][..], "tls HTTP/1.1"),
    ] {
        let (address, _dir) = tls_app(protocols).await;
        world.put(port, address);
        for _ in 0..2 {
            let answer = world.get("/", &format!("X-aws-proxy-port: {port}\r\n")).await;
            assert!(answer.ends_with(expected), "{protocols:?}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_client_that_trusts_warrens_authority_is_served_over_tls() {
    let dir = tempfile::tempdir().unwrap();
    let certificate = Certificate::self_signed(dir.path(), DOMAIN).unwrap();
    let world = World::with(|config| config.tls = TlsMode::Optional(certificate)).await;
    world.put(8080, app().await);
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(gateway::authority_path(dir.path())).unwrap();
    roots.add(authority).unwrap();
    for (protocol, version) in [("h2", Version::HTTP_2), ("http/1.1", Version::HTTP_11)] {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.into()];
        let name = ServerName::try_from(ENDPOINT).unwrap();
        let stream = world.connect().await;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol.as_bytes()));
        let request = world.request("/head").body(Empty::<Bytes>::new()).unwrap();
        let response = if protocol == "h2" {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                    .await
                    .unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        } else {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        };
        assert_eq!((response.status(), response.version()), (StatusCode::OK, version));
    }
    // The same port takes plain connections too, unless TLS is required.
    assert!(world.get("/head", "").await.starts_with("HTTP/1.1 200"));
    let certificate = Certificate::self_signed(dir.path(), DOMAIN).unwrap();
    let strict = World::with(|config| config.tls = TlsMode::Required(certificate)).await;
    assert!(!strict.get("/head", "").await.contains("HTTP/1.1 200"));
}

#[tokio::test]
async fn an_upload_over_http_2_is_not_held_back() {
    let world = World::with_app().await;
    let mut client = world.http2().await;
    let piece = Bytes::from(vec![7; 1 << 20]);
    let pieces = futures::stream::iter(std::iter::repeat_n(piece, 64))
        .map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
    let request =
        world.request("/count").method(Method::POST).body(StreamBody::new(pieces)).unwrap();
    let response = client.send_request(request).await.unwrap();
    assert_eq!(text(response).await, (64 << 20).to_string());
}

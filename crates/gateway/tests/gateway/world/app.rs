//! An app in HTTP/1.1 and HTTP/2: repeats, streams, upgrades, refuses.

use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, Request, Response, StatusCode, Version, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use std::{convert::Infallible, net::SocketAddr, time::Duration};
use tokio::net::TcpListener;

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

pub(crate) async fn app() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let _ = auto::Builder::new(TokioExecutor::new())
                    .serve_connection_with_upgrades(TokioIo::new(stream), service_fn(answer))
                    .await;
            });
        }
    });
    address
}

fn text(status: u16, text: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(text.into()).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

async fn answer(mut request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    Ok(match request.uri().path() {
        // The body as it comes, with its trailers.
        "/echo" => {
            let mut response = Response::new(request.into_body().boxed_unsync());
            response.headers_mut().insert("trailer", "x-sum".parse().unwrap());
            response
        }
        // As a gRPC server does it.
        "/grpc" => {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            let body = request.into_body().with_trailers(async { Some(Ok(trailers)) });
            let mut response = Response::new(body.boxed_unsync());
            response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
            response
        }
        "/head" => text(200, head(&request)),
        "/count" => {
            let mut body = request.into_body();
            let mut bytes = 0;
            while let Some(Ok(frame)) = body.frame().await {
                bytes += frame.data_ref().map_or(0, Bytes::len);
            }
            text(200, bytes.to_string())
        }
        // Without looking at the body.
        "/refuse" => text(413, "too much"),
        "/reserved" => {
            let mut response = text(200, "");
            let headers = response.headers_mut();
            headers.insert("x-aws-proxy-error", "FORGED".parse().unwrap());
            headers.insert("keep-alive", "timeout=99".parse().unwrap());
            headers.append("set-cookie", "a=1".parse().unwrap());
            headers.append("set-cookie", "b=2".parse().unwrap());
            response
        }
        // One event now, the next much later.
        "/events" => {
            let events = futures::stream::iter(["data: 1\n\n", "data: 2\n\n"]);
            let paced = events.enumerate().then(|(n, event)| async move {
                if n > 0 {
                    tokio::time::sleep(Duration::from_secs(600)).await;
                }
                Ok(Frame::data(Bytes::from(event)))
            });
            let mut response = Response::new(StreamBody::new(paced).boxed_unsync());
            response.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
            response
        }
        "/endless" => {
            let piece = Bytes::from(vec![b'x'; 64 * 1024]);
            let endless = futures::stream::repeat_with(move || Ok(Frame::data(piece.clone())));
            Response::new(StreamBody::new(endless).boxed_unsync())
        }
        "/upgrade" => {
            let upgrading = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let (mut from, mut to) = tokio::io::split(TokioIo::new(upgrading.await.unwrap()));
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = tokio::io::AsyncWriteExt::shutdown(&mut to).await;
            });
            let mut response = text(101, "");
            let headers = response.headers_mut();
            headers.insert(header::CONNECTION, "upgrade".parse().unwrap());
            let to = request.headers().get(header::UPGRADE).cloned().unwrap();
            headers.insert(header::UPGRADE, to);
            if let Some(protocols) = request.headers().get(header::SEC_WEBSOCKET_PROTOCOL) {
                headers.insert("x-offered", protocols.clone());
            }
            response
        }
        _ => text(404, "no such path"),
    })
}

/// The request's head as the app sees it, a line for each header.
fn head(request: &Request<Incoming>) -> String {
    let version = match request.version() {
        Version::HTTP_2 => "2",
        _ => "1",
    };
    let mut lines = vec![format!("{} {} {version}", request.method(), request.uri())];
    for (name, value) in request.headers() {
        lines.push(format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())));
    }
    lines.join("\n")
}

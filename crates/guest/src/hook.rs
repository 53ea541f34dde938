//! Calls a lifecycle hook of the app over loopback HTTP.
//!
//! A new connection for each call: one kept from before a suspend is dead after it, and a server
//! that closes idle connections would cost the VM its life (`spec/lambda-microvms.md`, section 4).

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    thread::sleep,
    time::{Duration, Instant},
};
use wire::{HookOutcome, HookRequest};

/// Longest head of an answer, in bytes; its body is not looked at.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Between two attempts at a port where nobody listens yet.
const RETRY_WAIT: Duration = Duration::from_millis(5);

/// Calls it, connecting again until the time is over: an app that has just been thawed may need a moment.
pub(crate) fn call(request: &HookRequest) -> HookOutcome {
    let deadline = Instant::now() + Duration::from_millis(request.timeout_ms.into());
    loop {
        let outcome = attempt(request, deadline);
        let again = matches!(outcome, HookOutcome::Refused);
        if !again || Instant::now() + RETRY_WAIT >= deadline {
            return outcome;
        }
        sleep(RETRY_WAIT);
    }
}

fn attempt(request: &HookRequest, deadline: Instant) -> HookOutcome {
    match exchange(request, deadline) {
        Ok(status) => HookOutcome::Answered { status },
        Err(e) => match e.kind() {
            ErrorKind::ConnectionRefused => HookOutcome::Refused,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => HookOutcome::TimedOut,
            _ => HookOutcome::Broken { error: e.to_string() },
        },
    }
}

/// Time until the deadline; an error once it has passed, since zero means "for ever" to a socket.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn exchange(request: &HookRequest, deadline: Instant) -> io::Result<u16> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, request.port));
    let mut stream = TcpStream::connect_timeout(&address, left(deadline)?)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(left(deadline)?))?;
    stream.write_all(head_and_body(request).as_bytes())?;
    read_status(&mut stream, deadline)
}

fn head_and_body(request: &HookRequest) -> String {
    let HookRequest { port, path, body, .. } = request;
    let kind = if body.is_some() { "Content-Type: application/json\r\n" } else { "" };
    let body = body.as_deref().unwrap_or_default();
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost:{port}\r\n{kind}Content-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}

fn read_status(stream: &mut TcpStream, deadline: Instant) -> io::Result<u16> {
    let broken = |text: &str| io::Error::new(ErrorKind::InvalidData, text.to_owned());
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    loop {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut piece)? {
            0 => return Err(broken("the connection was closed before an answer")),
            n => answer.extend_from_slice(&piece[..n]),
        }
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut headers);
        match response.parse(&answer) {
            Ok(httparse::Status::Complete(_)) => {
                return response.code.ok_or_else(|| broken("an answer without a status"));
            }
            Ok(httparse::Status::Partial) if answer.len() < HEAD_BYTES_MAX => {}
            Ok(httparse::Status::Partial) => return Err(broken("the answer's head is too long")),
            Err(e) => return Err(broken(&format!("the answer is not HTTP: {e}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{net::TcpListener, thread};

    fn check(answer: &'static [u8], pause_ms: u64, expected: &HookOutcome) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0; 4096];
            let n = stream.read(&mut request).unwrap();
            sleep(Duration::from_millis(pause_ms));
            let _ = stream.write_all(answer);
            String::from_utf8_lossy(&request[..n]).into_owned()
        });
        let outcome = call(&HookRequest {
            port,
            path: "/run".into(),
            body: Some("{}".into()),
            timeout_ms: 300,
        });
        assert_eq!(&outcome, expected);
        assert!(server.join().unwrap().starts_with("POST /run HTTP/1.1\r\nHost: localhost:"));
    }

    #[test]
    fn the_status_is_told() {
        check(
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            0,
            &HookOutcome::Answered { status: 200 },
        );
        check(b"HTTP/1.0 503 Busy\r\n\r\nlater", 0, &HookOutcome::Answered { status: 503 });
    }

    #[test]
    fn silence_is_a_time_out_and_nonsense_is_named() {
        check(b"", 600, &HookOutcome::TimedOut);
        let error = "the answer is not HTTP: invalid HTTP version".into();
        check(b"SSH-2.0-OpenSSH\r\n", 0, &HookOutcome::Broken { error });
    }

    #[test]
    fn a_port_that_nobody_listens_on_is_refused_when_the_time_is_over() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let request = HookRequest { port, path: "/".into(), body: None, timeout_ms: 50 };
        assert_eq!(call(&request), HookOutcome::Refused);
    }
}

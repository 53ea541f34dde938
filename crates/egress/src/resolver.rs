//! The resolver that a VM sees: passes queries on to the host's own, and says so when it cannot.
//!
//! Every query goes out from a socket of its own, so that its port cannot be guessed, and its
//! answer is taken only from the resolver that was asked and only for the question that was asked.

use crate::{
    accept::{self, Tasks},
    dns::{self, Message, Query, Rcode},
    stats::{Counters, count},
    upstream::Upstreams,
};
use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    time::timeout,
};

/// Queries of one VM under way at once by UDP; more are told SERVFAIL.
const IN_FLIGHT_MAX: usize = 64;
/// Connections of one VM at once by TCP.
const TCP_CONNECTIONS_MAX: usize = 16;
/// Largest UDP message either way, bytes; more than clients announce by EDNS.
const UDP_BYTES_MAX: usize = 8192;
/// How long one upstream may take before the next is asked.
const UPSTREAM_TIMEOUT: Duration = Duration::from_millis(1500);
/// How long a query may take in all: clients ask again after 5 s.
const QUERY_TIMEOUT: Duration = Duration::from_millis(4500);
/// How long a TCP connection may be silent.
const TCP_IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed receive, which would otherwise be tried again at once for ever.
const RECEIVE_PAUSE: Duration = Duration::from_millis(10);

/// Serves one VM.
pub(crate) struct Resolver {
    pub(crate) upstreams: Arc<Upstreams>,
    pub(crate) counters: Arc<Counters>,
}

pub(crate) fn serve(tasks: &Tasks, udp: UdpSocket, tcp: TcpListener, resolver: Resolver) {
    let resolver = Arc::new(resolver);
    tasks.spawn(serve_udp(tasks.clone(), Arc::new(udp), resolver.clone()));
    accept::serve(tasks, tcp, TCP_CONNECTIONS_MAX, move |stream| {
        let resolver = resolver.clone();
        async move {
            if let Err(error) = serve_tcp(stream, &resolver).await {
                tracing::debug!(%error, "a guest's DNS connection broke");
            }
        }
    });
}

async fn serve_udp(tasks: Tasks, socket: Arc<UdpSocket>, resolver: Arc<Resolver>) {
    let places = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let mut buffer = vec![0; UDP_BYTES_MAX];
    loop {
        let (length, guest) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // An earlier answer that the guest did not want any more, or worse.
            Err(error) => {
                tracing::debug!(%error, "a guest's query could not be received");
                tokio::time::sleep(RECEIVE_PAUSE).await;
                continue;
            }
        };
        let message = buffer.get(..length).unwrap_or_default().to_vec();
        let place = places.clone().try_acquire_owned();
        let (socket, resolver) = (socket.clone(), resolver.clone());
        match place {
            Ok(place) => tasks.spawn(async move {
                if let Some(answer) = resolver.answer(&message, Transport::Udp).await {
                    // A guest that has gone away needs no answer.
                    let _ = socket.send_to(&answer, guest).await;
                }
                drop(place);
            }),
            Err(_full) => {
                count(&resolver.counters.dns.queries);
                count(&resolver.counters.dns.failed);
                // try_send: a queue that is full of answers is no reason to stop receiving.
                let _ = socket.try_send_to(&dns::error(&message, Rcode::ServFail), guest);
            }
        }
    }
}

/// Queries on one connection, one after the other, each with its length in front (RFC 7766).
async fn serve_tcp(mut stream: TcpStream, resolver: &Resolver) -> io::Result<()> {
    loop {
        let Some(message) = timeout(TCP_IDLE_TIMEOUT, read_framed(&mut stream)).await?? else {
            return Ok(());
        };
        let Some(answer) = resolver.answer(&message, Transport::Tcp).await else { return Ok(()) };
        timeout(TCP_IDLE_TIMEOUT, write_framed(&mut stream, &answer)).await??;
    }
}

#[derive(Clone, Copy)]
enum Transport {
    Udp,
    Tcp,
}

impl Resolver {
    /// The upstream's answer or our own; None for what must not be answered.
    async fn answer(&self, message: &[u8], transport: Transport) -> Option<Vec<u8>> {
        count(&self.counters.dns.queries);
        let query = match Message::parse(message) {
            Message::Query(query) => query,
            Message::Malformed => {
                count(&self.counters.dns.failed);
                return Some(dns::error(message, Rcode::Refused));
            }
            Message::Noise => {
                count(&self.counters.dns.failed);
                return None;
            }
        };
        let answer = timeout(QUERY_TIMEOUT, self.forward(query, transport)).await;
        Some(answer.ok().flatten().unwrap_or_else(|| {
            count(&self.counters.dns.failed);
            dns::error(message, Rcode::ServFail)
        }))
    }

    /// Asks one upstream after the other, by the transport that the guest used: an answer that was
    /// cut for UDP goes back as it is, and the guest comes again by TCP.
    async fn forward(&self, query: Query<'_>, transport: Transport) -> Option<Vec<u8>> {
        for upstream in self.upstreams.current().await {
            let asked = async {
                match transport {
                    Transport::Udp => ask_udp(upstream, query).await,
                    Transport::Tcp => ask_tcp(upstream, query).await,
                }
            };
            match timeout(UPSTREAM_TIMEOUT, asked).await {
                Ok(Ok(answer)) => return Some(answer),
                Ok(Err(error)) => tracing::debug!(%upstream, %error, "an upstream resolver failed"),
                Err(_elapsed) => tracing::debug!(%upstream, "an upstream resolver is silent"),
            }
        }
        None
    }
}

async fn ask_udp(upstream: SocketAddr, query: Query<'_>) -> io::Result<Vec<u8>> {
    let any = match upstream {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any).await?;
    // Connected: the kernel takes datagrams from this upstream only, and reports its refusal.
    socket.connect(upstream).await?;
    socket.send(query.bytes()).await?;
    let mut buffer = vec![0; UDP_BYTES_MAX];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if buffer.get(..length).is_some_and(|answer| query.is_answered_by(answer)) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn ask_tcp(upstream: SocketAddr, query: Query<'_>) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(upstream).await?;
    write_framed(&mut stream, query.bytes()).await?;
    let answer = read_framed(&mut stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    if query.is_answered_by(&answer) {
        Ok(answer)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is to another question"))
    }
}

/// One message; None where the other side has said all.
async fn read_framed(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 2];
    match stream.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

async fn write_framed(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a message over 65535 bytes"))?;
    // One write: some servers do not put a split length together.
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend(message);
    stream.write_all(&framed).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(id: u8) -> Vec<u8> {
        let mut message = vec![0, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        message.extend(b"\x07example\x03com\x00\x00\x01\x00\x01");
        message
    }

    /// The query turned into its own answer, with something behind it.
    fn answer_to(query: &[u8], tail: &[u8]) -> Vec<u8> {
        let mut answer = query.to_vec();
        answer[2] |= 0x80;
        answer.extend(tail);
        answer
    }

    /// A VM's resolver with these upstreams: where it listens, what it counts, what ends it.
    async fn guest_side(upstreams: Vec<SocketAddr>) -> (SocketAddr, SocketAddr, Arc<Counters>) {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (at_udp, at_tcp) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
        let counters = Arc::new(Counters::default());
        let upstreams = Arc::new(Upstreams::fixed(upstreams));
        serve(&Tasks::new(), udp, tcp, Resolver { upstreams, counters: counters.clone() });
        (at_udp, at_tcp, counters)
    }

    async fn ask(resolver: SocketAddr, message: &[u8]) -> Vec<u8> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(message, resolver).await.unwrap();
        let mut buffer = vec![0; UDP_BYTES_MAX];
        let length = socket.recv(&mut buffer).await.unwrap();
        buffer.truncate(length);
        buffer
    }

    #[tokio::test]
    async fn a_query_gets_the_upstreams_answer_and_no_forged_one() {
        let upstream = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (resolver, _, counters) = guest_side(vec![upstream.local_addr().unwrap()]).await;
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (length, from) = upstream.recv_from(&mut buffer).await.unwrap();
            let asked = &buffer[..length];
            let wrong_id = answer_to(&query(99), b"forged");
            upstream.send_to(&wrong_id, from).await.unwrap();
            upstream.send_to(&answer_to(asked, b"record"), from).await.unwrap();
        });
        assert_eq!(ask(resolver, &query(7)).await, answer_to(&query(7), b"record"));
        assert_eq!(counters.read().dns.queries, 1);
        assert_eq!(counters.read().dns.failed, 0);
    }

    #[tokio::test]
    async fn a_dead_upstream_is_passed_over_and_without_any_the_guest_hears_servfail() {
        let dead = {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            socket.local_addr().unwrap()
        };
        let alive = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (resolver, _, _) = guest_side(vec![dead, alive.local_addr().unwrap()]).await;
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (length, from) = alive.recv_from(&mut buffer).await.unwrap();
            alive.send_to(&answer_to(&buffer[..length], b""), from).await.unwrap();
        });
        assert_eq!(ask(resolver, &query(1)).await, answer_to(&query(1), b""));

        for upstreams in [vec![], vec![dead]] {
            let (resolver, _, counters) = guest_side(upstreams).await;
            assert_eq!(ask(resolver, &query(1)).await, dns::error(&query(1), Rcode::ServFail));
            assert_eq!(counters.read().dns.failed, 1);
        }
    }

    #[tokio::test]
    async fn what_is_no_query_is_refused_and_an_answer_gets_no_answer() {
        let (resolver, _, counters) = guest_side(vec![]).await;
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(&answer_to(&query(1), b""), resolver).await.unwrap();
        socket.send_to(b"short", resolver).await.unwrap();
        let cut = &query(2)[..20];
        socket.send_to(cut, resolver).await.unwrap();
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).await.unwrap();
        assert_eq!(buffer[..length], dns::error(cut, Rcode::Refused), "the first that comes back");
        assert_eq!(counters.read().dns.queries, 3);
    }

    #[tokio::test]
    async fn long_answers_pass_by_tcp_several_on_a_connection() {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (_, resolver, _) = guest_side(vec![upstream.local_addr().unwrap()]).await;
        let long = vec![1; 40_000];
        let tail = long.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = upstream.accept().await {
                let asked = read_framed(&mut stream).await.unwrap().unwrap();
                write_framed(&mut stream, &answer_to(&asked, &tail)).await.unwrap();
            }
        });
        let mut guest = TcpStream::connect(resolver).await.unwrap();
        for id in [1, 2] {
            write_framed(&mut guest, &query(id)).await.unwrap();
            let answer = read_framed(&mut guest).await.unwrap().unwrap();
            assert_eq!(answer, answer_to(&query(id), &long));
        }
    }
}

//! Whether an app speaks TLS, found out by greeting it in TLS and looking at the first byte of its
//! answer, as AWS does (a plain server may find that greeting in its log, once).
//!
//! The other way round, plain first, decides nothing: servers answer a plain request on a TLS port
//! with an alert, a plain page, or by hanging up.

use crate::config::PROBE_MAX;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// What an app is spoken to over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scheme {
    Plain,
    Tls,
}

/// First bytes of TLS records: an alert, and a handshake message.
const ALERT: u8 = 0x15;
const HANDSHAKE: u8 = 0x16;

/// Uses up the connection.
pub(crate) async fn scheme_of(mut connection: TcpStream) -> Scheme {
    let answer = async {
        connection.write_all(&greeting()).await?;
        connection.read_u8().await
    };
    match timeout(PROBE_MAX, answer).await {
        Ok(Ok(ALERT | HANDSHAKE)) => Scheme::Tls,
        // It answered something else, hung up, or waits for more of what it takes for a line.
        Ok(Ok(_) | Err(_)) | Err(_) => Scheme::Plain,
    }
}

/// A ClientHello (RFC 8446 4.1.2) that every TLS 1.2 and 1.3 server answers. Its session id ends the
/// lines and the head of a request, so that a plain server need not wait for their end.
fn greeting() -> Vec<u8> {
    const CIPHERS: [u16; 10] =
        [0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0x009c];
    const GROUPS: [u16; 3] = [0x001d, 0x0017, 0x0018];
    const SIGNATURES: [u16; 9] =
        [0x0403, 0x0503, 0x0603, 0x0807, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501];
    let list = |items: &[u16]| -> Vec<u8> { items.iter().flat_map(|i| i.to_be_bytes()).collect() };
    let extension = |kind: u16, body: Vec<u8>| [&kind.to_be_bytes()[..], &sized(&body)].concat();
    let extensions = [
        extension(10, sized(&list(&GROUPS))),
        extension(11, vec![1, 0]),
        extension(13, sized(&list(&SIGNATURES))),
        extension(43, vec![4, 3, 4, 3, 3]),
        // No key yet: the server asks for one, which is answer enough.
        extension(51, sized(&[])),
    ]
    .concat();
    let hello = [
        &[3, 3][..],
        &[0x77; 32],
        &[32],
        &b"\r\n\r\n".repeat(8),
        &sized(&list(&CIPHERS)),
        &[1, 0],
        &sized(&extensions),
    ]
    .concat();
    // The handshake's length has three bytes, of which the first is 0 here.
    let message = [&[1, 0][..], &sized(&hello)].concat();
    [&[HANDSHAKE, 3, 1][..], &sized(&message)].concat()
}

/// With its length in two bytes before it.
fn sized(body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes()[..], body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn probed(answer: impl Fn(Vec<u8>) -> Vec<u8> + Send + 'static) -> Scheme {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = vec![0; 4096];
            let count = stream.read(&mut bytes).await.unwrap();
            bytes.truncate(count);
            stream.write_all(&answer(bytes)).await.unwrap();
        });
        scheme_of(TcpStream::connect(address).await.unwrap()).await
    }

    #[tokio::test]
    async fn the_first_byte_of_the_answer_decides() {
        assert_eq!(probed(|_| b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()).await, Scheme::Plain);
        assert_eq!(probed(|_| vec![0, 0, 6, 4, 0]).await, Scheme::Plain);
        assert_eq!(probed(|_| Vec::new()).await, Scheme::Plain);
        assert_eq!(probed(|_| vec![ALERT, 3, 3, 0, 2, 2, 40]).await, Scheme::Tls);
    }

    #[tokio::test]
    async fn a_tls_server_understands_the_greeting() {
        let dir = tempfile::tempdir().unwrap();
        let certificate = crate::Certificate::self_signed(dir.path(), "x.localhost").unwrap();
        let scheme = probed(move |greeting| {
            let config = certificate.server_config(&[]);
            let mut server = rustls::ServerConnection::new(config).unwrap();
            server.read_tls(&mut &greeting[..]).unwrap();
            // Fails where it is not understood; the answer is then an alert.
            server.process_new_packets().unwrap();
            let mut answer = Vec::new();
            server.write_tls(&mut answer).unwrap();
            assert_eq!(answer.first(), Some(&HANDSHAKE));
            answer
        });
        assert_eq!(scheme.await, Scheme::Tls);
    }
}

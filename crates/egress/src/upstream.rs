//! Which resolvers the host uses, read from its resolv.conf whenever that may have changed.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long a reading stands: a host that changes networks is followed within this time.
const KEPT: Duration = Duration::from_secs(5);
/// Resolvers that are used, as many as glibc does.
const UPSTREAMS_MAX: usize = 3;
const DNS_PORT: u16 = 53;
/// A resolv.conf larger than this is not read, bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The host's resolvers.
#[derive(Debug)]
pub(crate) struct Upstreams {
    resolv_conf: PathBuf,
    known: Mutex<Option<(Instant, Vec<SocketAddr>)>>,
}

impl Upstreams {
    pub(crate) fn new(resolv_conf: PathBuf) -> Self {
        Self { resolv_conf, known: Mutex::new(None) }
    }

    /// Always the same addresses, for tests with a resolver of their own.
    #[cfg(test)]
    pub(crate) fn fixed(upstreams: Vec<SocketAddr>) -> Self {
        let far = Instant::now() + Duration::from_secs(3600);
        Self { resolv_conf: PathBuf::new(), known: Mutex::new(Some((far, upstreams))) }
    }

    /// In the order in which they are to be asked; empty where the host has none.
    pub(crate) async fn current(&self) -> Vec<SocketAddr> {
        if let Some((until, upstreams)) =
            &*self.known.lock().unwrap_or_else(PoisonError::into_inner)
            && Instant::now() < *until
        {
            return upstreams.clone();
        }
        let upstreams = self.read().await;
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((Instant::now() + KEPT, upstreams.clone()));
        upstreams
    }

    async fn read(&self) -> Vec<SocketAddr> {
        let read = async {
            let length = tokio::fs::metadata(&self.resolv_conf).await?.len();
            if length > FILE_BYTES_MAX {
                return Err(std::io::ErrorKind::FileTooLarge.into());
            }
            tokio::fs::read_to_string(&self.resolv_conf).await
        };
        match read.await {
            Ok(text) => parse(&text),
            Err(error) => {
                let file = self.resolv_conf.display();
                tracing::warn!(%file, %error, "the host's resolvers are not known: guests cannot resolve names");
                Vec::new()
            }
        }
    }
}

/// The `nameserver` lines (resolv.conf(5)). One with a zone, or that is not an address, is left out.
fn parse(text: &str) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
            Some(SocketAddr::new(address.parse::<IpAddr>().ok()?, DNS_PORT))
        })
        .take(UPSTREAMS_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nameserver_lines_are_read_and_all_else_is_passed_over() {
        let text = "# nameserver 9.9.9.9\nsearch lan\nnameserver 127.0.0.53\nnameserver\tfd00::1\n\
                    nameserver fe80::1%eth0\nnameserver x\noptions edns0\n";
        let expected: Vec<SocketAddr> =
            ["127.0.0.53:53", "[fd00::1]:53"].map(|a| a.parse().unwrap()).into();
        assert_eq!(parse(text), expected);
    }
}

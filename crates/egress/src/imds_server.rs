//! HTTP in front of [`Imds`]: small, bounded requests from one VM.

use crate::{
    accept::{self, Tasks},
    imds::Imds,
    stats::Counters,
};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// Connections at once; SDKs open one for each credential fetch.
const CONNECTIONS_MAX: usize = 32;
/// Longest time for a request's head to come in, and for an open connection to be silent.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest life of a connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(300);
/// Largest request head, bytes; hyper's least.
const HEAD_BYTES_MAX: usize = 8192;
/// Hops that an answer lives: to the VM's own kernel and no container behind it, as EC2 does
/// unless told otherwise.
const ANSWER_HOPS: u32 = 1;

pub(crate) fn serve(tasks: &Tasks, listener: TcpListener, imds: Imds, counters: Arc<Counters>) {
    let imds = Arc::new(imds);
    accept::serve(tasks, listener, CONNECTIONS_MAX, move |stream| {
        connection(stream, imds.clone(), counters.clone())
    });
}

async fn connection(stream: TcpStream, imds: Arc<Imds>, counters: Arc<Counters>) {
    if let Err(error) = stream.set_ttl(ANSWER_HOPS) {
        // Without it a container in the VM could ask on: rather no answer.
        tracing::error!(%error, "the hop limit of the metadata service cannot be set");
        return;
    }
    let answer = service_fn(|request: Request<Incoming>| {
        let response = imds.answer(&request.into_parts().0, &counters.imds);
        async { Ok::<_, Infallible>(response) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), answer);
    if let Ok(Err(error)) = timeout(CONNECTION_TIMEOUT, serving).await {
        tracing::debug!(%error, "a connection to the metadata service broke");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        imds::Identity,
        role::{Role, RoleCredentials},
    };
    use async_trait::async_trait;
    use bytes::Bytes;
    use control::{Clock, ImageArn, ImageVersion, MicrovmId, Timestamp, Uptime};
    use http::{HeaderMap, StatusCode};
    use http_body_util::{BodyExt, Empty};
    use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

    /// A clock that stands still until it is moved.
    #[derive(Default)]
    struct HandClock(AtomicI64);

    #[async_trait]
    impl Clock for HandClock {
        fn now(&self) -> Timestamp {
            Timestamp::from_ms(self.0.load(Relaxed))
        }
        fn uptime(&self) -> Uptime {
            let ms = u64::try_from(self.0.load(Relaxed)).unwrap_or(0);
            Uptime { boot: String::new(), elapsed: Duration::from_millis(ms) }
        }
        async fn sleep(&self, _: Duration) {
            std::future::pending().await
        }
    }

    struct Vm {
        address: std::net::SocketAddr,
        clock: Arc<HandClock>,
        counters: Arc<Counters>,
        tasks: Tasks,
    }

    enum HasRole {
        Yes,
        No,
    }

    async fn vm(role: HasRole) -> Vm {
        let clock = Arc::new(HandClock::default());
        let issuing = clock.clone();
        let role = match role {
            HasRole::No => None,
            HasRole::Yes => Some(Role::new(
                Box::new(move |lifetime| RoleCredentials {
                    access_key_id: format!("ASIA{}", issuing.now().ms()),
                    secret_access_key: "s".into(),
                    token: "t".into(),
                    issued_at: issuing.now(),
                    expires_at: issuing.now().plus(lifetime),
                }),
                clock.clone(),
            )),
        };
        let identity = Identity {
            id: MicrovmId::parse("microvm-00000000-0000-4000-8000-000000000000").unwrap(),
            image: ImageArn::parse("arn:aws:lambda:us-east-1:000000000000:microvm-image:w")
                .unwrap(),
            version: ImageVersion::FIRST,
        };
        let imds = Imds::new(identity, role, clock.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tasks, counters) = (Tasks::new(), Arc::new(Counters::default()));
        serve(&tasks, listener, imds, counters.clone());
        Vm { address, clock, counters, tasks }
    }

    impl Vm {
        async fn ask(
            &self,
            method: &str,
            path: &str,
            headers: &[(&'static str, &str)],
        ) -> (StatusCode, HeaderMap, String) {
            let stream = TcpStream::connect(self.address).await.unwrap();
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            let mut request = Request::builder().method(method).uri(path).header("host", "imds");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let request = request.body(Empty::<Bytes>::new()).unwrap();
            let (head, body) = sender.send_request(request).await.unwrap().into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            (head.status, head.headers, String::from_utf8(body.to_vec()).unwrap())
        }

        async fn token(&self) -> String {
            let ttl = [("x-aws-ec2-metadata-token-ttl-seconds", "21600")];
            let (status, headers, token) = self.ask("PUT", "/latest/api/token", &ttl).await;
            assert_eq!(status, 200);
            assert_eq!(headers["x-aws-ec2-metadata-token-ttl-seconds"], "21600");
            token
        }

        async fn get(&self, token: &str, path: &str) -> (u16, String) {
            let token = [("x-aws-ec2-metadata-token", token)];
            let (status, _, body) = self.ask("GET", path, &token).await;
            (status.as_u16(), body)
        }
    }

    const ROLES: &str = "/latest/meta-data/iam/security-credentials/";

    #[tokio::test]
    async fn an_sdk_gets_the_roles_credentials_and_gets_new_ones_before_they_expire() {
        let vm = vm(HasRole::Yes).await;
        let token = vm.token().await;
        assert_eq!(vm.get(&token, ROLES).await, (200, "execution_role".into()));
        let path = format!("{ROLES}execution_role");
        let (_, body) = vm.get(&token, &path).await;
        let credentials: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            credentials,
            serde_json::json!({
                "Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "1970-01-01T00:00:00Z",
                "AccessKeyId": "ASIA0", "SecretAccessKey": "s", "Token": "t",
                "Expiration": "1970-01-01T01:00:00Z",
            })
        );
        vm.clock.0.store(1_799_000, Relaxed);
        assert!(vm.get(&token, &path).await.1.contains(r#""ASIA0""#));
        vm.clock.0.store(1_800_000, Relaxed);
        assert!(vm.get(&token, &path).await.1.contains(r#""ASIA1800000""#));
        assert_eq!(vm.counters.read().imds.credentials, 3);
    }

    #[tokio::test]
    async fn version_1_and_tokens_that_are_not_ours_are_401() {
        let (one, other) = (vm(HasRole::Yes).await, vm(HasRole::Yes).await);
        assert_eq!(one.ask("GET", ROLES, &[]).await.0, 401);
        assert_eq!(one.get("AAAA", ROLES).await.0, 401);
        assert_eq!(one.get(&other.token().await, ROLES).await.0, 401, "another VM's token");
        let token = one.token().await;
        one.clock.0.store(21_600_000, Relaxed);
        assert_eq!(one.get(&token, ROLES).await.0, 401, "an expired token");
    }

    #[tokio::test]
    async fn a_token_is_given_as_ec2_gives_it_and_never_to_a_proxy() {
        let vm = vm(HasRole::Yes).await;
        let ttl = "x-aws-ec2-metadata-token-ttl-seconds";
        let put = async |headers: &[(&'static str, &str)]| {
            vm.ask("PUT", "/latest/api/token", headers).await.0.as_u16()
        };
        assert_eq!(put(&[]).await, 400);
        for bad in ["0", "21601", "-1", "soon"] {
            assert_eq!(put(&[(ttl, bad)]).await, 400, "{bad}");
        }
        assert_eq!(put(&[(ttl, "60"), ("x-forwarded-for", "1.2.3.4")]).await, 403);
        assert_eq!(vm.ask("GET", "/latest/api/token", &[]).await.0, 405);
        assert_eq!(vm.ask("PUT", ROLES, &[]).await.0, 405);
    }

    #[tokio::test]
    async fn the_tree_tells_what_a_vm_is_and_404_where_there_is_nothing() {
        let vm = vm(HasRole::Yes).await;
        let token = vm.token().await;
        let region = vm.get(&token, "/latest/meta-data/placement/region").await;
        assert_eq!(region, (200, "us-east-1".into()));
        let id = vm.get(&token, "/latest/meta-data/instance-id").await.1;
        assert_eq!(id, "microvm-00000000-0000-4000-8000-000000000000");
        let document = vm.get(&token, "/latest/dynamic/instance-identity/document").await.1;
        assert!(document.contains(r#""accountId": "000000000000""#), "{document}");
        let extended = "/latest/meta-data/iam/security-credentials-extended/";
        assert_eq!(vm.get(&token, extended).await.0, 404, "SDKs then ask in the plain place");
    }

    #[tokio::test]
    async fn without_a_role_there_are_no_credentials() {
        let vm = vm(HasRole::No).await;
        let token = vm.token().await;
        assert_eq!(vm.get(&token, ROLES).await.0, 404);
        assert_eq!(vm.get(&token, &format!("{ROLES}execution_role")).await.0, 404);
        assert_eq!(vm.get(&token, "/latest/meta-data/").await.1, "instance-id\nplacement/");
    }

    #[tokio::test]
    async fn when_the_vm_goes_nothing_listens_any_more() {
        let vm = vm(HasRole::Yes).await;
        vm.token().await;
        vm.tasks.end().await;
        assert!(TcpStream::connect(vm.address).await.is_err());
    }
}

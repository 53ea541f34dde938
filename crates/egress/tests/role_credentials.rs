//! The credentials that a VM gets by its metadata service are its execution role's, as control's
//! own issuer understands them.

use bytes::Bytes;
use control::{
    BackDoor, Control, ControlConfig, ImageArn, ImageVersion, MicrovmId, Outside, RoleArn,
    VmAttachment,
    testing::{FakeArtifacts, FakeBackDoor, FakeBuilder, FakeEngine, ManualClock},
};
use egress::{Egress, EgressConfig};
use engine::GuestSockets;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::net::TcpStream;

struct House {
    control: Arc<Control>,
    clock: Arc<ManualClock>,
    egress: Egress,
    _dir: tempfile::TempDir,
}

async fn house() -> House {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new());
    let outside = Outside {
        engine: Arc::new(FakeEngine::new()),
        back_door: Arc::new(FakeBackDoor::default()),
        artifacts: Arc::new(FakeArtifacts),
        image_builder: Arc::new(FakeBuilder),
        clock: clock.clone(),
    };
    let control = Control::open(ControlConfig::new(dir.path()), outside).await.unwrap();
    let config = EgressConfig {
        aws_api: "127.0.0.1:7420".parse().unwrap(),
        platform: None,
        resolv_conf: "/etc/resolv.conf".into(),
    };
    let egress = Egress::new(config, clock.clone());
    House { control, clock, egress, _dir: dir }
}

impl House {
    fn vm(&self) -> VmAttachment {
        VmAttachment {
            id: MicrovmId::random(),
            image: ImageArn::parse("arn:aws:lambda:us-east-1:000000000000:microvm-image:worker")
                .unwrap(),
            version: ImageVersion::FIRST,
            execution_role: Some(
                RoleArn::parse("arn:aws:iam::000000000000:role/warren-execution").unwrap(),
            ),
            egress_connectors: Vec::new(),
            credentials: self.control.credentials().clone(),
        }
    }

    /// Attaches with sockets on loopback; returns where the metadata service is.
    async fn attach(&self, vm: VmAttachment) -> SocketAddr {
        let tcp = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let sockets = GuestSockets {
            imds: tcp(),
            aws: tcp(),
            platform: tcp(),
            dns_udp: std::net::UdpSocket::bind("127.0.0.1:0").unwrap(),
            dns_tcp: tcp(),
        };
        let imds = sockets.imds.local_addr().unwrap();
        self.egress.attach(vm, sockets).await.unwrap();
        imds
    }
}

async fn ask(imds: SocketAddr, method: &str, path: &str, header: (&str, &str)) -> String {
    let stream = TcpStream::connect(imds).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "169.254.169.254")
        .header(header.0, header.1)
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200, "{method} {path}");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

async fn credentials(imds: SocketAddr) -> serde_json::Value {
    let ttl = ("x-aws-ec2-metadata-token-ttl-seconds", "21600");
    let token = ask(imds, "PUT", "/latest/api/token", ttl).await;
    let header = ("x-aws-ec2-metadata-token", token.as_str());
    let path = "/latest/meta-data/iam/security-credentials/execution_role";
    serde_json::from_str(&ask(imds, "GET", path, header).await).unwrap()
}

#[tokio::test]
async fn control_takes_them_for_a_session_of_the_execution_role() {
    let house = house().await;
    let vm = house.vm();
    let imds = house.attach(vm.clone()).await;
    let open = |given: &serde_json::Value| {
        let text = |member: &str| given[member].as_str().unwrap().to_owned();
        let issuer = house.control.credentials();
        let session = issuer.open_session_token(&text("AccessKeyId"), &text("Token")).unwrap();
        assert_eq!(session.secret_access_key.expose(), text("SecretAccessKey"));
        session
    };
    let first = open(&credentials(imds).await);
    assert_eq!(first.role.name(), "warren-execution");
    assert_eq!(first.session_name, vm.id.executor_session());

    // Hours later they are others, still good, of the same session.
    house.clock.advance(Duration::from_secs(3 * 3600));
    let later = open(&credentials(imds).await);
    assert_ne!(later.access_key_id, first.access_key_id);
    assert_eq!(later.session_name, first.session_name);
    house.egress.shut_down().await;
    house.control.shutdown().await;
}

#[tokio::test]
async fn attaching_again_replaces_the_sockets_and_a_second_vm_has_a_session_of_its_own() {
    let house = house().await;
    let vm = house.vm();
    let old = house.attach(vm.clone()).await;
    let new = house.attach(vm.clone()).await;
    assert!(TcpStream::connect(old).await.is_err(), "the old sockets are closed");
    let other = house.attach(house.vm()).await;
    assert_ne!(credentials(new).await["AccessKeyId"], credentials(other).await["AccessKeyId"]);
    house.egress.detach(&vm.id).await;
    assert!(TcpStream::connect(new).await.is_err());
    assert!(TcpStream::connect(other).await.is_ok(), "the other VM is served on");
    house.control.shutdown().await;
}

//! A gateway on a free port with one VM behind it, whose ports are local servers of the test's.

mod app;

pub(crate) use app::app;

use async_trait::async_trait;
use control::{
    ExecInput, ExecOutput, ExecRequest, ExecSession, ExitStatus, ImageArn, ImageName, ImageVersion,
    MAXIMUM_DURATION, Microvm, MicrovmId, MicrovmState, ProxyTokens, Reach, SystemClock, Timestamp,
};
use gateway::{Gateway, GatewayConfig, Traffic, Unreachable, Vms};
use http::Request;
use hyper::{body::Body, client::conn as client};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

pub(crate) const DOMAIN: &str = "lambda-microvm.us-east-1.localhost";
pub(crate) const ENDPOINT: &str = "4a1e.lambda-microvm.us-east-1.localhost";

/// What the one VM is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Running,
    /// Runs when somebody asks.
    Wakeable,
    /// Does not run whoever asks.
    Ended,
}

/// A VM that is a table of local ports.
pub(crate) struct Local {
    pub(crate) ports: Mutex<HashMap<u16, SocketAddr>>,
    pub(crate) state: watch::Sender<State>,
    pub(crate) woken: AtomicUsize,
    pub(crate) dials: AtomicUsize,
    pub(crate) noted: Arc<AtomicUsize>,
    pub(crate) execs: Mutex<Vec<ExecRequest>>,
}

struct Noted(Arc<AtomicUsize>);

impl Traffic for Noted {
    fn bytes_crossed(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn becomes_stream(&self) {}
}

#[async_trait]
impl Vms for Local {
    async fn ensure_running(&self, _: &MicrovmId) -> Result<(), Unreachable> {
        self.state.send_if_modified(|state| {
            let wakes = *state == State::Wakeable;
            if wakes {
                self.woken.fetch_add(1, Ordering::SeqCst);
                *state = State::Running;
            }
            wakes
        });
        if *self.state.borrow() == State::Running {
            return Ok(());
        }
        Err(Unreachable::Vm("it has ended".into()))
    }

    fn traffic(&self, _: &MicrovmId) -> Box<dyn Traffic> {
        Box::new(Noted(self.noted.clone()))
    }

    async fn stops_running(&self, _: &MicrovmId) {
        let _ = self.state.subscribe().wait_for(|state| *state != State::Running).await;
    }

    async fn dial(&self, _: &MicrovmId, port: u16) -> Result<TcpStream, Unreachable> {
        self.dials.fetch_add(1, Ordering::SeqCst);
        let address = self.ports.lock().unwrap().get(&port).copied();
        let address = address.ok_or_else(|| Unreachable::App("nothing listens".into()))?;
        TcpStream::connect(address).await.map_err(|e| Unreachable::App(e.to_string()))
    }

    /// A shell that repeats what is typed, tells sizes, and ends with 7 at Ctrl-D.
    async fn exec(&self, _: &MicrovmId, request: ExecRequest) -> Result<ExecSession, Unreachable> {
        self.execs.lock().unwrap().push(request);
        let (input, mut typed) = mpsc::channel(4);
        let (shown, output) = mpsc::channel(4);
        tokio::spawn(async move {
            while let Some(event) = typed.recv().await {
                let piece = match event {
                    ExecInput::Data(data) if data == [4] => {
                        let _ = shown.send(ExecOutput::Exited(ExitStatus::Code(7))).await;
                        return;
                    }
                    ExecInput::Data(data) => data,
                    ExecInput::Resize(size) => {
                        format!("{}x{}", size.columns, size.rows).into_bytes()
                    }
                    ExecInput::Close | ExecInput::Signal(_) => return,
                };
                if shown.send(ExecOutput::Stdout(piece)).await.is_err() {
                    return;
                }
            }
        });
        Ok(ExecSession { input, output })
    }
}

pub(crate) struct World {
    pub(crate) gateway: Gateway,
    pub(crate) address: SocketAddr,
    pub(crate) vm: Arc<Local>,
    pub(crate) tokens: Arc<ProxyTokens>,
    pub(crate) microvm: Microvm,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// With settings of the test's own.
    pub(crate) async fn with(adjust: impl FnOnce(&mut GatewayConfig)) -> Self {
        let mut config = GatewayConfig::new(DOMAIN);
        adjust(&mut config);
        let vm = Arc::new(Local {
            ports: Mutex::default(),
            state: watch::Sender::new(State::Running),
            woken: AtomicUsize::new(0),
            dials: AtomicUsize::new(0),
            noted: Arc::default(),
            execs: Mutex::default(),
        });
        let tokens = Arc::new(ProxyTokens::of_random_key(Arc::new(SystemClock)));
        let gateway = Gateway::new(config, vm.clone(), tokens.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = gateway.clone();
        tokio::spawn(async move { serving.serve(listener).await });
        Self { gateway, address, vm, tokens, microvm: microvm(&["ALL_INGRESS"]) }
    }

    /// With the usual app on port 8080.
    pub(crate) async fn with_app() -> Self {
        let world = Self::new().await;
        world.put(8080, app().await);
        world
    }

    pub(crate) fn put(&self, port: u16, address: SocketAddr) {
        self.vm.ports.lock().unwrap().insert(port, address);
    }

    /// A token for every port.
    pub(crate) fn token(&self) -> String {
        self.token_for(Reach::Ports(vec![1..=u16::MAX]))
    }

    pub(crate) fn token_for(&self, reach: Reach) -> String {
        self.tokens.issue(&self.microvm, reach, Duration::from_secs(60)).unwrap()
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A request for a client of hyper's.
    pub(crate) fn request(&self, path: &str) -> http::request::Builder {
        Request::builder()
            .uri(format!("http://{ENDPOINT}{path}"))
            .header("host", ENDPOINT)
            .header("x-aws-proxy-auth", self.token())
    }

    pub(crate) async fn http1<B>(&self) -> client::http1::SendRequest<B>
    where
        B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        let io = TokioIo::new(self.connect().await);
        let (sender, connection) = client::http1::handshake(io).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender
    }

    /// HTTP/2 without asking first.
    pub(crate) async fn http2<B>(&self) -> client::http2::SendRequest<B>
    where
        B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
    {
        let io = TokioIo::new(self.connect().await);
        let (sender, connection) =
            client::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// A request's head, ended by an empty line, with host and token.
    pub(crate) fn head(&self, line: &str, more: &str) -> String {
        let token = self.token();
        format!("{line} HTTP/1.1\r\nHost: {ENDPOINT}\r\nX-aws-proxy-auth: {token}\r\n{more}\r\n")
    }

    /// What comes back on a connection of its own until that is closed.
    pub(crate) async fn said(&self, request: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_ref()).await.unwrap();
        let mut answer = Vec::new();
        // A reset after the answer is as good as a close.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// A GET with `Connection: close`.
    pub(crate) async fn get(&self, path: &str, more: &str) -> String {
        self.said(self.head(&format!("GET {path}"), &format!("Connection: close\r\n{more}"))).await
    }
}

pub(crate) fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0)
}

pub(crate) fn microvm(connectors: &[&str]) -> Microvm {
    let managed = "arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector";
    Microvm {
        id: MicrovmId::random(),
        state: MicrovmState::Running,
        state_reason: None,
        endpoint: ENDPOINT.to_owned(),
        image: ImageArn {
            region: "us-east-1".to_owned(),
            account: "000000000000".to_owned(),
            name: ImageName::parse("app").unwrap(),
        },
        version: ImageVersion::FIRST,
        memory_mib: 512,
        execution_role: None,
        idle_policy: None,
        maximum_duration: MAXIMUM_DURATION,
        started_at: Timestamp::from_ms(0),
        terminated_at: None,
        ingress_connectors: connectors.iter().map(|name| format!("{managed}:{name}")).collect(),
        egress_connectors: Vec::new(),
        log: None,
    }
}

/// An app that answers every connection in the same way, and keeps what it was sent.
pub(crate) struct Raw {
    pub(crate) address: SocketAddr,
    pub(crate) received: mpsc::UnboundedReceiver<Vec<u8>>,
}

/// Sends `answer` once the head of a request is there, then whatever else comes is kept too.
pub(crate) async fn raw(answer: &'static str) -> Raw {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (keep, received) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let keep = keep.clone();
            tokio::spawn(async move {
                let mut all = Vec::new();
                let mut piece = vec![0; 65_536];
                let mut answered = false;
                while let Ok(count @ 1..) = stream.read(&mut piece).await {
                    all.extend_from_slice(&piece[..count]);
                    if all[0] == 0x16 {
                        // The gateway's greeting in TLS.
                        return;
                    }
                    if !answered && all.windows(4).any(|w| w == b"\r\n\r\n") {
                        answered = true;
                        let _ = stream.write_all(answer.as_bytes()).await;
                    }
                }
                let _ = keep.send(all);
            });
        }
    });
    Raw { address, received }
}

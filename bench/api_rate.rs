//! Calls a second of GetMicrovm and ListMicrovms with 10,000 MicroVMs in the store, over HTTP with a
//! signature on each; beside moto's server, asked for one and for fifty of 10,000 parameters.
//!
//! `cargo run --release -p aws --example api-rate [-- --moto PATH/moto_server]`, with
//! `scripts/oracles --moto` for the latter. Client and server share the machine's cores.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a report and its progress")]

use anyhow::{Context as _, ensure};
use aws::{AuthSettings, Authenticator, AwsState, CLOCK_SKEW, IamConfig, Rates, Throttles, router};
use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use control::{
    BuildProgress, Control, ControlConfig, CreateImage, ImageName, MicrovmState, Outside,
    RunMicrovm, SystemClock,
    testing::{FakeArtifacts, FakeBackDoor, FakeBuilder, FakeEngine, image_spec},
};
use objects::Objects;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Rows in the store.
const ROWS: usize = 10_000;
/// Connections that ask at once, each for the next answer as soon as it has one.
const CONNECTIONS: usize = 8;
/// How long each is measured.
const MEASURED: Duration = Duration::from_secs(5);
/// Different requests that the connections go through.
const REQUESTS: usize = 2_000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let moto = std::env::args().skip_while(|argument| argument != "--moto").nth(1);
    println!("{:32} {:>10} {:>9} {:>9}", "call", "calls/s", "p50 ms", "p99 ms");
    warren().await?;
    if let Some(program) = moto {
        beside(&program).await?;
    }
    Ok(())
}

async fn warren() -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let id = one_microvm(data.path()).await?;
    multiply(data.path(), &id).await?;
    let control = open(data.path()).await?;
    let config = control.config();
    let (region, account) = (config.region.clone(), config.account.clone());
    let settings = AuthSettings {
        iam: IamConfig::standard(&region, &account),
        region,
        account,
        clock_skew: CLOCK_SKEW,
        clock: Arc::new(SystemClock),
    };
    let state = AwsState {
        authenticator: Arc::new(Authenticator::new(settings, control.credentials().clone())?),
        throttles: Arc::new(Throttles::new(Rates::unlimited())),
        objects: Arc::new(Objects::open(&data.path().join("objects")).await?),
        s3_domains: Vec::new(),
        control: control.clone(),
        calls: tokio_util::task::TaskTracker::new(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let service = router(state).into_make_service_with_connect_info::<SocketAddr>();
    let server = tokio::spawn(async move { axum::serve(listener, service).await });

    let operator = control.credentials().operator();
    let key =
        Credentials::from_keys(&operator.access_key_id, operator.secret_access_key.expose(), None);
    let get = |n: usize| format!("/2025-09-09/microvms/{}", row_id(n * ROWS / REQUESTS));
    let gets = (0..REQUESTS).map(|n| signed(&key, address, &get(n))).collect::<Result<_, _>>()?;
    show("GetMicrovm", measure(address, gets).await?);
    let list = signed(&key, address, "/2025-09-09/microvms?maxResults=50")?;
    show("ListMicrovms, 50 of 10,000", measure(address, vec![list]).await?);
    let image = "/2025-09-09/microvms?imageIdentifier=worker&maxResults=50";
    show(
        "ListMicrovms of an image, 50",
        measure(address, vec![signed(&key, address, image)?]).await?,
    );
    server.abort();
    control.shutdown().await;
    Ok(())
}

async fn open(data: &Path) -> anyhow::Result<Arc<Control>> {
    let outside = Outside {
        engine: Arc::new(FakeEngine::new()),
        back_door: Arc::new(FakeBackDoor::default()),
        artifacts: Arc::new(FakeArtifacts),
        image_builder: Arc::new(FakeBuilder),
        clock: Arc::new(SystemClock),
    };
    Ok(Control::open(ControlConfig::new(data), outside).await?)
}

/// Runs one MicroVM to its end, so that the store has a row as it writes them.
async fn one_microvm(data: &Path) -> anyhow::Result<String> {
    let control = open(data).await?;
    let name = ImageName::parse("worker")?;
    let (spec, tags) = (image_spec(), BTreeMap::new());
    let request = CreateImage { name: name.clone(), spec, tags, client_token: None };
    let mut progress = control.images().create(request).await?.progress.context("a new build")?;
    while let Some(step) = progress.recv().await {
        if let BuildProgress::Finished { result, .. } = step {
            result.map_err(anyhow::Error::msg)?;
        }
    }
    let vm = control.run_microvm(RunMicrovm::of(name)).await?;
    control.terminate_microvm(&vm.id).await?;
    while control.get_microvm(&vm.id).await?.state != MicrovmState::Terminated {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    control.shutdown().await;
    Ok(vm.id.to_string())
}

fn row_id(n: usize) -> String {
    format!("microvm-{n:08x}-0000-4000-8000-000000000000")
}

/// Makes [`ROWS`] rows of one.
async fn multiply(data: &Path, id: &str) -> anyhow::Result<()> {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(data.join("control.db"));
    let pool = sqlx::SqlitePool::connect_with(options).await?;
    let columns: Vec<String> =
        sqlx::query_scalar("SELECT name FROM pragma_table_info('microvms') WHERE name <> 'id'")
            .fetch_all(&pool)
            .await?;
    let copied: Vec<String> = columns
        .iter()
        .map(|column| match column.as_str() {
            "started_at" => "started_at + n".to_owned(),
            other => other.to_owned(),
        })
        .collect();
    let statement = format!(
        "WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c WHERE n + 1 < {ROWS})
         INSERT INTO microvms (id, {}) SELECT printf('microvm-%08x-0000-4000-8000-000000000000', n),
         {} FROM microvms, c WHERE microvms.id = $1",
        columns.join(", "),
        copied.join(", ")
    );
    let done = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(id).execute(&pool).await?;
    ensure!(done.rows_affected() == ROWS as u64, "{} rows", done.rows_affected());
    pool.close().await;
    Ok(())
}

fn signed(key: &Credentials, address: SocketAddr, path: &str) -> anyhow::Result<Vec<u8>> {
    let identity = key.clone().into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region("us-east-1")
        .name("lambda")
        .time(SystemTime::now())
        .settings(SigningSettings::default())
        .build()?
        .into();
    let (url, host) = (format!("http://{address}{path}"), address.to_string());
    let headers = [("host", host.as_str())];
    let request =
        SignableRequest::new("GET", url.as_str(), headers.into_iter(), SignableBody::Bytes(b""))?;
    let (instructions, _) = sign(request, &params)?.into_parts();
    let mut text = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n");
    for (name, value) in instructions.headers() {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    Ok(text.into_bytes())
}

struct Measured {
    per_s: f64,
    p50_ms: f64,
    p99_ms: f64,
}

fn show(call: &str, measured: Measured) {
    let Measured { per_s, p50_ms, p99_ms } = measured;
    println!("{call:32} {per_s:>10.0} {p50_ms:>9.2} {p99_ms:>9.2}");
}

async fn measure(address: SocketAddr, requests: Vec<Vec<u8>>) -> anyhow::Result<Measured> {
    let (requests, began) = (Arc::new(requests), Instant::now());
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|n| {
            let requests = requests.clone();
            tokio::spawn(async move { ask(address, &requests, n, began + MEASURED).await })
        })
        .collect();
    let mut times = Vec::new();
    for client in clients {
        times.extend(client.await??);
    }
    let per_s = times.len() as f64 / began.elapsed().as_secs_f64();
    times.sort();
    let ms = |part: usize| {
        times.get(times.len() * part / 100).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
    };
    Ok(Measured { per_s, p50_ms: ms(50), p99_ms: ms(99) })
}

/// One connection, one request after the other, each beginning where another connection does not.
async fn ask(
    address: SocketAddr,
    requests: &[Vec<u8>],
    from: usize,
    until: Instant,
) -> anyhow::Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut times, mut buffer) = (Vec::new(), Vec::new());
    for n in (from..).step_by(CONNECTIONS) {
        let began = Instant::now();
        if began >= until {
            break;
        }
        let request = requests.get(n % requests.len()).context("there are requests")?;
        stream.write_all(request).await?;
        read_answer(&mut stream, &mut buffer).await?;
        times.push(began.elapsed());
    }
    Ok(times)
}

/// Reads one answer with a Content-Length, and holds that it is a good one.
async fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> anyhow::Result<()> {
    buffer.clear();
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).to_lowercase();
            ensure!(head.starts_with("http/1.1 200"), "{}", String::from_utf8_lossy(buffer));
            let length = head.split("content-length: ").nth(1).and_then(|rest| {
                rest.split("\r\n").next().and_then(|number| number.trim().parse::<usize>().ok())
            });
            if buffer.len() >= end + 4 + length.context("a Content-Length")? {
                return Ok(());
            }
        }
        ensure!(stream.read_buf(buffer).await? > 0, "the connection ended");
    }
}

/// moto's server as a child, ended with its owner.
struct Moto(Child);

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn beside(program: &str) -> anyhow::Result<()> {
    let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let _moto = Moto(
        Command::new(program)
            .args(["-H", "127.0.0.1", "-p", &address.port().to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("{program}: run `scripts/oracles --moto`"))?,
    );
    let began = Instant::now();
    while TcpStream::connect(address).await.is_err() {
        ensure!(began.elapsed() < Duration::from_secs(60), "moto does not listen");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    eprintln!("api-rate: {ROWS} parameters for moto");
    let puts: Vec<Vec<u8>> = (0..ROWS)
        .map(|n| {
            let body = format!(r#"{{"Name":"p{n}","Value":"v","Type":"String"}}"#);
            parameter_call(address, "PutParameter", &body)
        })
        .collect();
    let (mut stream, mut buffer) = (TcpStream::connect(address).await?, Vec::new());
    for put in &puts {
        stream.write_all(put).await?;
        if read_answer(&mut stream, &mut buffer).await.is_err() {
            stream = TcpStream::connect(address).await?;
        }
    }
    let one = |n: usize| format!(r#"{{"Name":"p{}"}}"#, n * ROWS / REQUESTS);
    let gets = (0..REQUESTS).map(|n| parameter_call(address, "GetParameter", &one(n))).collect();
    show("moto: ssm GetParameter", measure(address, gets).await?);
    let list = parameter_call(address, "DescribeParameters", r#"{"MaxResults":50}"#);
    show("moto: ssm DescribeParameters, 50", measure(address, vec![list]).await?);
    Ok(())
}

/// moto checks no signature.
fn parameter_call(address: SocketAddr, operation: &str, body: &str) -> Vec<u8> {
    format!(
        "POST / HTTP/1.1\r\nhost: {address}\r\nx-amz-target: AmazonSSM.{operation}\r\n\
         content-type: application/x-amz-json-1.1\r\ncontent-length: {}\r\n\
         authorization: AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/ssm/aws4_request, \
         SignedHeaders=host, Signature=0\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

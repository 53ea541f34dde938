//! Warren's gateway and nginx as a reverse proxy, before the same upstream, on the same machine, in
//! turns of one run, under wrk (HTTP/1.1) and h2load (HTTP/2): what counts are the ratios.
//!
//! The upstream is an nginx too, and "the VM" a local port, so that what is compared is the proxies and
//! not a VM. It needs no root; Debian has nginx-light, wrk and nghttp2-client.

#![expect(clippy::print_stdout, reason = "a report")]
#![forbid(unsafe_code)]

use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use clap::Parser;
use control::{
    ExecRequest, ExecSession, ImageArn, ImageName, ImageVersion, MAXIMUM_DURATION, Microvm,
    MicrovmId, MicrovmState, ProxyTokens, Reach, SystemClock, Timestamp,
};
use gateway::{Gateway, GatewayConfig, Traffic, Unreachable, Vms};
use std::{
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};
use tokio::net::{TcpListener, TcpStream};

/// Measure the gateway against nginx
#[derive(Debug, Parser)]
struct Arguments {
    /// Turns of each
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Seconds of each
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
}

const ENDPOINT: &str = "bench.lambda-microvm.us-east-1.localhost";
/// Of nginx's throughput, and of its 99th percentile.
const THROUGHPUT_GOAL: f64 = 0.9;
const P99_GOAL: f64 = 1.2;

/// What is asked for, and how.
struct Case {
    name: &'static str,
    tool: Tool,
    path: &'static str,
    connections: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tool {
    Wrk,
    H2load,
}

const CASES: [Case; 4] = [
    Case {
        name: "HTTP/1.1, 1 KiB, 32 connections",
        tool: Tool::Wrk,
        path: "/small",
        connections: 32,
    },
    Case { name: "HTTP/1.1, 1 KiB, 1 connection", tool: Tool::Wrk, path: "/small", connections: 1 },
    Case {
        name: "HTTP/1.1, 1 MiB, 8 connections",
        tool: Tool::Wrk,
        path: "/large",
        connections: 8,
    },
    Case {
        name: "HTTP/2, 1 KiB, 8 x 16 streams",
        tool: Tool::H2load,
        path: "/small",
        connections: 8,
    },
];

/// Requests a second, and the 99th percentile in milliseconds where the tool says it.
#[derive(Clone, Copy, Debug)]
struct Sample {
    rate: f64,
    p99_ms: Option<f64>,
}

/// A VM that is a local port.
struct Local(SocketAddr);

struct Unnoted;

impl Traffic for Unnoted {
    fn bytes_crossed(&self) {}
    fn becomes_stream(&self) {}
}

#[async_trait]
impl Vms for Local {
    async fn ensure_running(&self, _: &MicrovmId) -> Result<(), Unreachable> {
        Ok(())
    }
    fn traffic(&self, _: &MicrovmId) -> Box<dyn Traffic> {
        Box::new(Unnoted)
    }
    async fn stops_running(&self, _: &MicrovmId) {
        std::future::pending().await
    }
    async fn dial(&self, _: &MicrovmId, _: u16) -> Result<TcpStream, Unreachable> {
        TcpStream::connect(self.0).await.map_err(|e| Unreachable::App(e.to_string()))
    }
    async fn exec(&self, _: &MicrovmId, _: ExecRequest) -> Result<ExecSession, Unreachable> {
        Err(Unreachable::Vm("it has no shell".into()))
    }
}

/// Ended with this value.
struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers end with it.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { runs, seconds } = Arguments::parse();
    let dir = tempfile::tempdir()?;
    let [upstream, plain, http2] = [free_port()?, free_port()?, free_port()?];
    let _nginx = start_nginx(dir.path(), upstream, [plain, http2])?;
    let vm = Arc::new(Local(SocketAddr::from(([127, 0, 0, 1], upstream))));
    let tokens = Arc::new(ProxyTokens::of_random_key(Arc::new(SystemClock)));
    let life = Duration::from_secs(3600);
    let token = tokens.issue(&microvm(), Reach::Ports(vec![8080..=8080]), life)?;
    let gateway =
        Gateway::new(GatewayConfig::new("lambda-microvm.us-east-1.localhost"), vm, tokens);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let own = listener.local_addr()?.port();
    let serving = gateway.clone();
    tokio::spawn(async move { serving.serve(listener).await });
    println!(
        "{:34} {:>12} {:>12} {:>7}   {:>9} {:>9} {:>7}",
        "", "warren/s", "nginx/s", "ratio", "p99 ms", "nginx", "ratio"
    );
    for case in &CASES {
        let theirs = if case.tool == Tool::Wrk { plain } else { http2 };
        let (mut warren, mut nginx) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            warren.push(load(case, own, &token, seconds).await?);
            nginx.push(load(case, theirs, &token, seconds).await?);
        }
        print_case(case, &warren, &nginx);
    }
    println!("goals: throughput at least {THROUGHPUT_GOAL}, p99 at most {P99_GOAL}, of nginx");
    gateway.close().await;
    Ok(())
}

fn print_case(case: &Case, warren: &[Sample], nginx: &[Sample]) {
    let rate = |samples: &[Sample]| median(samples.iter().map(|s| s.rate).collect());
    let p99 = |samples: &[Sample]| {
        let known: Option<Vec<f64>> = samples.iter().map(|s| s.p99_ms).collect();
        known.map(median)
    };
    let (ours, theirs) = (rate(warren), rate(nginx));
    print!("{:34} {ours:12.0} {theirs:12.0} {:7.2}", case.name, ours / theirs);
    if let (Some(ours), Some(theirs)) = (p99(warren), p99(nginx)) {
        print!("   {ours:9.2} {theirs:9.2} {:7.2}", ours / theirs);
    }
    println!();
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn start_nginx(dir: &Path, upstream: u16, [plain, http2]: [u16; 2]) -> anyhow::Result<Nginx> {
    let root = dir.join("root");
    std::fs::create_dir(&root)?;
    std::fs::write(root.join("small"), vec![b's'; 1024])?;
    std::fs::write(root.join("large"), vec![b'l'; 1024 * 1024])?;
    let proxy = "location / { proxy_pass http://app; proxy_http_version 1.1; \
                 proxy_set_header Connection \"\"; proxy_set_header Host $host; }";
    let text = format!(
        "daemon off; worker_processes auto; pid {pid}; error_log stderr error;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; sendfile on; tcp_nodelay on; keepalive_requests 1000000;\n\
         client_body_temp_path {tmp}; proxy_temp_path {tmp}; fastcgi_temp_path {tmp};\n\
         uwsgi_temp_path {tmp}; scgi_temp_path {tmp};\n\
         upstream app {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 1000000; }}\n\
         server {{ listen 127.0.0.1:{upstream}; root {root}; }}\n\
         server {{ listen 127.0.0.1:{plain}; {proxy} }}\n\
         server {{ listen 127.0.0.1:{http2} http2; {proxy} }} }}\n",
        pid = dir.join("pid").display(),
        tmp = dir.join("tmp").display(),
        root = root.display(),
    );
    let conf = dir.join("nginx.conf");
    std::fs::write(&conf, text)?;
    let child = Command::new("nginx")
        .arg("-c")
        .arg(&conf)
        .arg("-p")
        .arg(dir)
        .spawn()
        .context("nginx does not start: apt install nginx-light")?;
    let nginx = Nginx(child);
    for _ in 0..100 {
        if std::net::TcpStream::connect(("127.0.0.1", http2)).is_ok() {
            return Ok(nginx);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    anyhow::bail!("nginx does not listen")
}

async fn load(case: &Case, port: u16, token: &str, seconds: u32) -> anyhow::Result<Sample> {
    let url = format!("http://127.0.0.1:{port}{}", case.path);
    let (connections, seconds) = (case.connections.to_string(), seconds.to_string());
    let auth = format!("X-aws-proxy-auth: {token}");
    let mut command = match case.tool {
        Tool::Wrk => {
            let mut command = Command::new("wrk");
            command.args(["-t1", "--latency", "-c", &connections, "-d", &seconds]);
            command.args(["-H", &format!("Host: {ENDPOINT}")]);
            command
        }
        Tool::H2load => {
            let mut command = Command::new("h2load");
            command.args(["-t1", "-m16", "-c", &connections, "-D", &seconds]);
            command.args(["-H", &format!(":authority: {ENDPOINT}")]);
            command
        }
    };
    command.args(["-H", &auth, &url]).stderr(Stdio::inherit());
    let output = tokio::task::spawn_blocking(move || command.output()).await?;
    let output = output.context("apt install wrk nghttp2-client")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let failed = ["Non-2xx", " 3xx, 1"].iter().any(|mark| text.contains(mark));
    ensure!(output.status.success() && !failed, "the load failed:\n{text}");
    let sample = match case.tool {
        Tool::Wrk => of_wrk(&text),
        Tool::H2load => of_h2load(&text),
    };
    sample.with_context(|| format!("the tool's report is not understood:\n{text}"))
}

fn of_wrk(text: &str) -> Option<Sample> {
    let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:"))?;
    let p99 = text.lines().find_map(|line| line.trim().strip_prefix("99%"))?.trim();
    Some(Sample { rate: rate.trim().parse().ok()?, p99_ms: Some(milliseconds(p99)?) })
}

fn of_h2load(text: &str) -> Option<Sample> {
    let line = text.lines().find(|line| line.starts_with("finished in"))?;
    let rate = line.split(", ").find_map(|part| part.strip_suffix(" req/s"))?;
    Some(Sample { rate: rate.parse().ok()?, p99_ms: None })
}

fn milliseconds(text: &str) -> Option<f64> {
    for (unit, factor) in [("us", 0.001), ("ms", 1.0), ("s", 1000.0)] {
        if let Some(number) = text.strip_suffix(unit)
            && let Ok(number) = number.parse::<f64>()
        {
            return Some(number * factor);
        }
    }
    None
}

fn microvm() -> Microvm {
    let connector = "arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector";
    Microvm {
        id: MicrovmId::random(),
        state: MicrovmState::Running,
        state_reason: None,
        endpoint: ENDPOINT.to_owned(),
        image: ImageArn {
            region: "us-east-1".to_owned(),
            account: "000000000000".to_owned(),
            name: ImageName::parse("bench").expect("the constant is a name"),
        },
        version: ImageVersion::FIRST,
        memory_mib: 512,
        execution_role: None,
        idle_policy: None,
        maximum_duration: MAXIMUM_DURATION,
        started_at: Timestamp::from_ms(0),
        terminated_at: None,
        ingress_connectors: vec![format!("{connector}:HTTP_INGRESS")],
        egress_connectors: Vec::new(),
        log: None,
    }
}

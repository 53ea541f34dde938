//! What no client sends: requests without a signature, to nowhere, of the wrong form. Each gets an
//! answer in its protocol's shape, never a page or a hang-up.

use super::world::{PATIENCE, World};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Sends a request as it is written and holds status, type and a part of the body against what is
/// expected.
async fn check(world: &World, head: &str, body: &[u8], expected: (u16, &str, &str)) {
    let answer = tokio::time::timeout(PATIENCE, exchange(world, head, body)).await.unwrap();
    let (status, kind, part) = expected;
    let lower = answer.to_lowercase();
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head}\n{answer}");
    assert!(lower.contains(&format!("content-type: {kind}\r\n")), "{head}\n{answer}");
    assert!(lower.contains("x-amzn-requestid: "), "{head}\n{answer}");
    assert!(answer.contains(part), "{head}\n{answer}");
}

async fn exchange(world: &World, head: &str, body: &[u8]) -> String {
    let address = world.endpoint.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "{}\r\nhost: anything.example\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        head.replace('\n', "\r\n"),
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The server may answer and close before it has read all of a body that is too large.
    let _ = stream.write_all(body).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

const JSON: &str = "application/json";
const JSON_1_1: &str = "application/x-amz-json-1.1";
const XML: &str = "text/xml";
const SIGNED: &str = "authorization: AWS4-HMAC-SHA256 Credential=AKIAX/20260101/us-east-1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_malformed_request_is_answered_in_its_protocol() {
    let world = World::start().await;
    let check = |head: String, body: &'static [u8], expected| {
        let world = &world;
        async move { check(world, &head, body, expected).await }
    };
    let unsigned = "MissingAuthenticationTokenException";
    let get = |path: &str| format!("GET {path} HTTP/1.1");
    check(get("/2025-09-09/microvms"), b"", (403, JSON, "Missing Authentication Token")).await;
    check(get("/"), b"", (404, JSON, "GET / is not available")).await;
    check(get("/favicon.ico"), b"", (404, JSON, "UnknownOperation")).await;
    check(get("/2025-09-09/nothing"), b"", (404, JSON, "GET /2025-09-09/nothing")).await;
    check(get("/2025-09-09/microvms/%ff%00/x"), b"", (404, JSON, "Unknown operation")).await;
    let target = |target: &str| format!("POST / HTTP/1.1\nx-amz-target: {target}");
    check(target("secretsmanager.GetSecretValue"), b"{}", (400, JSON_1_1, unsigned)).await;
    check(target("Logs_20140328.Nothing"), b"{}", (400, JSON_1_1, "Nothing of the service logs"))
        .await;
    check(target("DynamoDB_20120810.ListTables"), b"", (400, JSON_1_1, "UnknownOperation")).await;
    check(target("nonsense"), b"", (400, JSON_1_1, "UnknownOperationException")).await;
    let form = |service: &str| {
        format!(
            "POST / HTTP/1.1\ncontent-type: application/x-www-form-urlencoded\n\
             {SIGNED}/{service}/aws4_request, SignedHeaders=host, Signature=0"
        )
    };
    let identity = b"Action=GetCallerIdentity&Version=2011-06-15";
    let incomplete = "<Code>IncompleteSignature</Code>";
    check(form("sts"), identity, (400, XML, incomplete)).await;
    check(form("iam"), b"Action=ListRoles", (400, XML, "<Code>InvalidAction</Code>")).await;
    check(form("sts"), b"Action=<x>", (400, XML, "&lt;x&gt; of the service sts")).await;
    let bearer = "GET /2025-09-09/microvms HTTP/1.1\nauthorization: Bearer secret".to_owned();
    check(bearer, b"", (403, JSON, "Unsupported AWS 'algorithm': 'Bearer'.")).await;
    let s3 = format!("GET /bucket HTTP/1.1\n{SIGNED}/s3/aws4_request, SignedHeaders=host");
    let malformed = "<Code>AuthorizationHeaderMalformed</Code>";
    check(s3, b"", (400, "application/xml", malformed)).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_beyond_the_bound_is_refused_without_being_kept() {
    let world = World::start().await;
    let body = vec![b'x'; aws::REQUEST_BODY_BYTES_MAX + 1];
    let expected = (413, JSON, "Request must be smaller than");
    check(&world, "POST /2025-09-09/microvms HTTP/1.1", &body, expected).await;
    world.stop().await;
}

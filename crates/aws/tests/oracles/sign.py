"""Signs a table of odd requests with botocore's own signers and prints them as JSON lines.

One line a request: name, service, method, target, headers, body (base64).
"""

import base64
import json

from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

HOST = "127.0.0.1:7420"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
IMAGE = "arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Amicrovm-image%3Aclaude-worker"

PATHS = [
    "/",
    "/2025-09-09/microvms",
    f"/2025-09-09/microvm-images/{IMAGE}",
    f"/2025-09-09/microvm-images/{IMAGE}/versions/1.0",
    "/2025-09-09/microvm-images/arn:aws:lambda:us-east-1:0:microvm-image:raw-colons",
    "/a%20b", "/a+b", "/a~b-._c", "/%C3%BC", "/a%2Fb", "/a!$&'()*,;=:@b", "/a%25b",
    "/a//b", "/a/./b/../c", "/a/b/", "/../x", "/x/..",
]
QUERIES = [
    "", "a=1", "b=2&a=1", "a=2&a=1", "a=", "A=1&a=2", "a=b%20c", "a=%2B%26%3D", "a=%C3%BC",
    "imageIdentifier=claude-worker&maxResults=5", "tagKeys=a&tagKeys=b", "a=~-._",
    "nextToken=eyJ4IjoxfQ%3D%3D",
]
HEADERS = [
    {}, {"X-Amz-Target": "Logs_20140328.PutLogEvents"}, {"X-Custom": "  many   spaces  "},
    {"Content-Type": "application/x-amz-json-1.1"}, {"x-empty": ""},
]
BODIES = [b"", b'{"a": 1}', bytes(range(256)), "Grüße".encode()]


def show(name, service, request):
    prepared = request.prepare()
    body = prepared.body or b""
    headers = [
        [key, value.decode() if isinstance(value, bytes) else value]
        for key, value in prepared.headers.items()
    ]
    if not any(key.lower() == "host" for key, _ in headers):
        headers.append(["Host", HOST])
    print(json.dumps({
        "name": name,
        "service": service,
        "method": prepared.method,
        "target": prepared.url.split(HOST, 1)[1] or "/",
        "headers": headers,
        "body": base64.b64encode(body if isinstance(body, bytes) else body.encode()).decode(),
    }))


def sign(name, service, signer, method, path, query="", headers=None, body=b"", token=None):
    url = f"http://{HOST}{path}" + (f"?{query}" if query else "")
    request = AWSRequest(method=method, url=url, headers=dict(headers or {}), data=body)
    credentials = Credentials("AKIDEXAMPLE", SECRET, token)
    signer(credentials, service, "us-east-1").add_auth(request)
    show(name, service, request)


def main():
    for path in PATHS:
        sign(f"path {path}", "lambda", SigV4Auth, "GET", path)
        sign(f"presigned path {path}", "lambda", SigV4QueryAuth, "GET", path)
    for path in ["/bucket/key", "/b/a%20b", "/b/a//b", "/b/%C3%BC", "/b/a%2Bb", "/b/a~b"]:
        sign(f"s3 path {path}", "s3", S3SigV4Auth, "PUT", path, body=b"object")
        sign(f"s3 presigned path {path}", "s3", S3SigV4QueryAuth, "GET", path)
    for query in QUERIES:
        sign(f"query {query}", "lambda", SigV4Auth, "GET", "/2025-09-09/microvms", query)
        sign(f"presigned query {query}", "sts", SigV4QueryAuth, "GET", "/", query)
    for headers in HEADERS:
        sign(f"headers {headers}", "logs", SigV4Auth, "POST", "/", headers=headers, body=b"{}")
    for body in BODIES:
        sign(f"body {body!r}", "secretsmanager", SigV4Auth, "POST", "/", body=body)
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]:
        sign(f"method {method}", "lambda", SigV4Auth, method, "/x")
    sign("session token", "lambda", SigV4Auth, "GET", "/x", token="FwoG/token+with==signs")
    sign("presigned session token", "sts", SigV4QueryAuth, "GET", "/", token="FwoG/t+w==")


main()

"""The three calls to AWS that a worker makes, signed with the credentials that IMDSv2 gives: a secret, a parameter,
the end of its own VM. In place of boto3, which is larger than all the rest."""

import datetime
import hashlib
import hmac
import json
import os
import urllib.parse
import urllib.request

IMDS = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254")
TIMEOUT_S = 10


def _fetch(url, method="GET", headers=None, body=None):
    request = urllib.request.Request(url, method=method, headers=headers or {}, data=body)
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        return answer.read().decode()


def _credentials():
    token = _fetch(f"{IMDS}/latest/api/token", "PUT", {"x-aws-ec2-metadata-token-ttl-seconds": "300"})
    base = f"{IMDS}/latest/meta-data/iam/security-credentials/"
    header = {"x-aws-ec2-metadata-token": token}
    role = _fetch(base, headers=header).splitlines()[0].strip()
    return json.loads(_fetch(base + role, headers=header))


def _call(service, region, method, path, target=None, body=b""):
    """One signed request (SigV4)."""
    keys = _credentials()
    base = os.environ.get("AWS_ENDPOINT_URL", f"https://{service}.{region}.amazonaws.com")
    url = urllib.parse.urljoin(base, path)
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    headers = {
        "host": urllib.parse.urlsplit(url).netloc,
        "x-amz-date": date,
        "x-amz-security-token": keys["Token"],
    }
    if target:
        headers |= {"content-type": "application/x-amz-json-1.1", "x-amz-target": target}
    names = sorted(headers)
    lines = [method, urllib.parse.urlsplit(url).path, "", *(f"{name}:{headers[name]}" for name in names), ""]
    canonical = "\n".join([*lines, ";".join(names), hashlib.sha256(body).hexdigest()])
    scope = [date[:8], region, service, "aws4_request"]
    key = ("AWS4" + keys["SecretAccessKey"]).encode()
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    for part in [*scope, "\n".join(["AWS4-HMAC-SHA256", date, "/".join(scope), digest])]:
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={keys['AccessKeyId']}/{'/'.join(scope)}, "
        f"SignedHeaders={';'.join(names)}, Signature={key.hex()}"
    )
    text = _fetch(url, method, headers, body or None)
    return json.loads(text) if text else {}


def secret(region, name):
    body = json.dumps({"SecretId": name}).encode()
    return _call("secretsmanager", region, "POST", "/", "secretsmanager.GetSecretValue", body)["SecretString"].strip()


def parameter(region, name):
    body = json.dumps({"Name": name, "WithDecryption": True}).encode()
    return _call("ssm", region, "POST", "/", "AmazonSSM.GetParameter", body)["Parameter"]["Value"].strip()


def terminate(region, microvm):
    _call("lambda", region, "DELETE", f"/2025-09-09/microvms/{urllib.parse.quote(microvm, safe='')}")

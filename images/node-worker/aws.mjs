// The three calls to AWS that a worker makes, signed with the credentials that IMDSv2 gives: a secret, a
// parameter, the end of its own VM. In place of three SDKs of some ten megabytes each.

import { createHash, createHmac } from 'node:crypto';

const IMDS = process.env.AWS_EC2_METADATA_SERVICE_ENDPOINT ?? 'http://169.254.169.254';
const TIMEOUT_MS = 10_000;

const sha256 = (data) => createHash('sha256').update(data).digest('hex');
const hmac = (key, data) => createHmac('sha256', key).update(data).digest();

async function answered(what, response) {
  const text = await response.text();
  if (!response.ok) throw new Error(`${what}: ${response.status} ${text.slice(0, 300)}`);
  return text;
}

async function credentials() {
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  const token = await answered('IMDS token', await fetch(`${IMDS}/latest/api/token`, {
    method: 'PUT', headers: { 'x-aws-ec2-metadata-token-ttl-seconds': '300' }, signal,
  }));
  const get = async (path) => answered(`IMDS ${path}`, await fetch(`${IMDS}/latest/meta-data/${path}`, {
    headers: { 'x-aws-ec2-metadata-token': token }, signal,
  }));
  const role = (await get('iam/security-credentials/')).split('\n')[0].trim();
  return JSON.parse(await get(`iam/security-credentials/${role}`));
}

/** One signed request (SigV4); `host` is AWS's name for the service's endpoint. */
async function call({ service, host, region, method, path, target, body = '' }) {
  const { AccessKeyId, SecretAccessKey, Token } = await credentials();
  const url = new URL(path, process.env.AWS_ENDPOINT_URL ?? `https://${host}.${region}.amazonaws.com`);
  const date = new Date().toISOString().replace(/[-:]|\.\d{3}/g, '');
  const headers = { host: url.host, 'x-amz-date': date, 'x-amz-security-token': Token };
  if (target) Object.assign(headers, { 'content-type': 'application/x-amz-json-1.1', 'x-amz-target': target });
  const names = Object.keys(headers).sort();
  const canonical = [
    method, url.pathname, '', ...names.map((name) => `${name}:${headers[name]}`), '', names.join(';'), sha256(body),
  ].join('\n');
  const scope = [date.slice(0, 8), region, service, 'aws4_request'];
  const key = scope.reduce(hmac, `AWS4${SecretAccessKey}`);
  const signature = hmac(key, ['AWS4-HMAC-SHA256', date, scope.join('/'), sha256(canonical)].join('\n')).toString('hex');
  headers.authorization =
    `AWS4-HMAC-SHA256 Credential=${AccessKeyId}/${scope.join('/')}, SignedHeaders=${names.join(';')}, Signature=${signature}`;
  delete headers.host;
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  const text = await answered(target ?? `${method} ${path}`, await fetch(url, { method, headers, body: body || undefined, signal }));
  return text ? JSON.parse(text) : {};
}

export async function secret(region, id) {
  const body = JSON.stringify({ SecretId: id });
  const target = 'secretsmanager.GetSecretValue';
  const answer = await call({ service: 'secretsmanager', host: 'secretsmanager', region, method: 'POST', path: '/', target, body });
  return answer.SecretString.trim();
}

export async function parameter(region, name) {
  const body = JSON.stringify({ Name: name, WithDecryption: true });
  const answer = await call({ service: 'ssm', host: 'ssm', region, method: 'POST', path: '/', target: 'AmazonSSM.GetParameter', body });
  return answer.Parameter.Value.trim();
}

export async function terminate(region, microvm) {
  const path = `/2025-09-09/microvms/${encodeURIComponent(microvm)}`;
  await call({ service: 'lambda', host: 'lambda', region, method: 'DELETE', path });
}

// The official TypeScript worker as the app of a MicroVM image. Its hooks are up when the image is built and stay
// in the snapshot; `/run` tells each VM its one session.

import http from 'node:http';
import { mkdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import Anthropic from '@anthropic-ai/sdk';
import { EnvironmentWorker } from '@anthropic-ai/sdk/helpers/beta/environments';
import * as aws from './aws.mjs';

const PREFIX = '/aws/lambda-microvms/runtime/v1/';
const WORKDIR = process.env.WORKDIR ?? '/workspace';
const number = (name, usual) => Number(process.env[name] ?? usual);
const HOOK_PORT = number('HOOK_PORT', 9000);
/** How long the VM stays without work. */
const IDLE_EXIT_MS = number('WORK_IDLE_EXIT_MS', 360_000);
/** How long an item is kept after a turn; SDK default. */
const MAX_IDLE_MS = number('WORK_MAX_IDLE_MS', 60_000);
const BODY_LEN_MAX = 128 * 1024;
/** A poll hides an item from its own VM for two seconds. */
const PAUSE_AFTER_FOREIGN_MS = 3_000;
const DRAIN_MS = 25_000;

const stop = new AbortController();
let running = null;

function log(message, more = {}) {
  console.error(JSON.stringify({ message, ...more }));
}

/** What `/run` says, or a text that says what is wrong with it. */
function parseRun(body) {
  const { microvmId, runHookPayload } = JSON.parse(body);
  const session = JSON.parse(runHookPayload ?? '{}').session ?? {};
  for (const name of ['ANTHROPIC_SESSION_ID', 'ANTHROPIC_ENVIRONMENT_ID']) {
    if (!session[name]) throw new Error(`runHookPayload has no session.${name}`);
  }
  return {
    microvmId,
    sessionId: session.ANTHROPIC_SESSION_ID,
    environmentId: session.ANTHROPIC_ENVIRONMENT_ID,
    baseURL: session.ANTHROPIC_BASE_URL ?? process.env.ANTHROPIC_BASE_URL,
    region: session.AWS_REGION ?? process.env.AWS_REGION ?? 'us-east-1',
    workId: session.ANTHROPIC_WORK_ID,
    workSecret: session.ANTHROPIC_WORK_SECRET,
    keySecret: session.ENVIRONMENT_KEY_SECRET_ID,
    keyParameter: session.ENVIRONMENT_KEY_PARAM_NAME,
  };
}

/** Serves the one item that the host has claimed: no environment key is needed. */
async function serveClaimed(run) {
  const client = new Anthropic({ baseURL: run.baseURL, authToken: 'unused', apiKey: null });
  const worker = new EnvironmentWorker({ client, workdir: WORKDIR, maxIdleMs: Math.max(MAX_IDLE_MS, IDLE_EXIT_MS) });
  const { workId, workSecret, environmentId, sessionId } = run;
  await worker.handleItem({ workId, workSecret, environmentId, sessionId, signal: stop.signal });
}

/** Polls for items of this VM's session, and leaves all others to their own VMs. */
async function serveQueue(run) {
  const environmentKey = run.keySecret
    ? await aws.secret(run.region, run.keySecret)
    : await aws.parameter(run.region, run.keyParameter);
  const client = new Anthropic({ baseURL: run.baseURL, authToken: environmentKey, apiKey: null });
  const work = client.beta.environments.work;
  const { environmentId, sessionId } = run;
  let waitingSince = Date.now();
  while (!stop.signal.aborted && Date.now() - waitingSince < IDLE_EXIT_MS) {
    const options = { signal: stop.signal };
    let item = null;
    try {
      item = await work.poll(environmentId, { block_ms: 999, reclaim_older_than_ms: 2000 }, options);
    } catch (error) {
      if (stop.signal.aborted) break;
      if (error.status >= 400 && error.status < 500 && error.status !== 408 && error.status !== 429) throw error;
      log('poll', { error: String(error) });
      await sleep(PAUSE_AFTER_FOREIGN_MS);
      continue;
    }
    if (item?.data?.id !== sessionId) {
      if (item) await sleep(PAUSE_AFTER_FOREIGN_MS, undefined, { signal: stop.signal }).catch(() => {});
      continue;
    }
    await work.ack(item.id, { environment_id: environmentId });
    const worker = new EnvironmentWorker({ client, environmentId, environmentKey, workdir: WORKDIR, maxIdleMs: MAX_IDLE_MS });
    await worker.handleItem({ workId: item.id, workSecret: item.secret ?? undefined, environmentId, sessionId, signal: stop.signal });
    waitingSince = Date.now();
    const session = await client.beta.sessions.retrieve(sessionId).catch((error) => ({ status: error.status === 404 ? 'terminated' : 'unknown' }));
    if (session.status === 'terminated') return;
  }
}

async function serve(run) {
  log('a run begins', { session: run.sessionId });
  let code = 0;
  try {
    await (run.workId && run.workSecret ? serveClaimed(run) : serveQueue(run));
  } catch (error) {
    if (!stop.signal.aborted) {
      log('the session cannot be served', { error: String(error) });
      code = 1;
    }
  }
  if (!stop.signal.aborted && code === 0 && run.microvmId) {
    await aws.terminate(run.region, run.microvmId).catch((error) => log('TerminateMicrovm', { error: String(error) }));
  }
  // The answer to a hook that waits for this comes first.
  setTimeout(() => process.exit(code), 100);
}

async function bodyOf(request) {
  let body = '';
  for await (const piece of request) {
    body += piece;
    if (body.length > BODY_LEN_MAX) throw new Error('the body is too long');
  }
  return body;
}

async function answer(request) {
  const { url } = request;
  const hook = url.startsWith(PREFIX) ? url.slice(PREFIX.length) : null;
  const body = await bodyOf(request);
  switch (hook) {
    case 'ready': case 'validate': case 'resume': case 'suspend':
      return [200, {}];
    case 'run':
      try {
        const run = parseRun(body);
        // The same run again is one run.
        running ??= serve(run);
        return [200, {}];
      } catch (error) {
        return [400, { message: String(error) }];
      }
    case 'terminate':
      stop.abort();
      await Promise.race([running, sleep(DRAIN_MS)]);
      return [200, {}];
    default:
      return [404, { message: `no hook is at ${url}` }];
  }
}

mkdirSync(WORKDIR, { recursive: true });
process.chdir(WORKDIR);
for (const name of ['SIGTERM', 'SIGINT']) {
  process.on(name, async () => {
    stop.abort();
    await Promise.race([running, sleep(DRAIN_MS)]);
    process.exit(0);
  });
}
http.createServer(async (request, response) => {
  const [status, body] = await answer(request).catch((error) => [400, { message: String(error) }]);
  // A connection that was kept would be dead after a suspend.
  response.writeHead(status, { 'content-type': 'application/json', connection: 'close' });
  response.end(JSON.stringify(body));
}).listen(HOOK_PORT, '0.0.0.0', () => log('hooks are served', { port: HOOK_PORT }));

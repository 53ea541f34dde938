// Every method of the SDK's managed-agents resources. The methods are listed from the package;
// one that is not called below fails the test.
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { Anthropic, toFile } from './sdk.mjs';

const { BASE_URL, API_KEY, ENVIRONMENT_ID: environment, ENVIRONMENT_KEY } = process.env;
const client = new Anthropic({ baseURL: BASE_URL, apiKey: API_KEY, maxRetries: 0 });
const { beta } = client;
const called = new Set();

// What the emulator does not play; a resource that the SDK gains is not in here and so missed.
const ELSEWHERE = new Set(['messages', 'models', 'tunnels', 'userProfiles', 'dreams']);

function methods(resource, path) {
  const prototype = Object.getPrototypeOf(resource);
  const found = [];
  for (const name of Object.getOwnPropertyNames(prototype)) {
    if (name === 'constructor') continue;
    const [here, original] = [`${path}.${name}`, prototype[name]];
    found.push(here);
    prototype[name] = function (...args) {
      called.add(here);
      return original.apply(this, args);
    };
  }
  for (const [name, child] of Object.entries(resource)) {
    if (child === client || child?._client !== client) continue;
    if (path === 'beta' && ELSEWHERE.has(name)) continue;
    if (path === 'beta' && name === 'organization') {
      found.push(...methods(child.webhooks, 'beta.organization.webhooks'));
    } else {
      found.push(...methods(child, `${path}.${name}`));
    }
  }
  return found;
}
const all = methods(beta, 'beta');

const ids = async (list) => (await Array.fromAsync(list)).map((entry) => entry.id);
const refused = async (status, call) => {
  try {
    await call();
  } catch (error) {
    assert.equal(error.status, status, error);
    assert(error.requestID.startsWith('req_'));
    return error.error.error;
  }
  throw new Error('the call went through');
};
const text = (value) => [{ type: 'text', text: value }];

async function environments() {
  const made = await beta.environments.create({ name: 'methods', config: { type: 'self_hosted' } });
  await beta.environments.update(made.id, { description: 'described' });
  assert.equal((await beta.environments.retrieve(made.id)).description, 'described');
  assert((await ids(beta.environments.list({ limit: 1 }))).includes(made.id));
  await beta.environments.archive(made.id);
  await beta.environments.delete(made.id);
}

async function skills() {
  const head = '---\nname: counting\ndescription: Counts\n---\n';
  const files = async (body) => [await toFile(Buffer.from(body), 'counting/SKILL.md')];
  const skill = await beta.skills.create({ files: await files(head), display_name: 'Counting' });
  assert.equal((await beta.skills.retrieve(skill.id)).display_name, 'Counting');
  assert.deepEqual(await ids(beta.skills.list({ source: 'custom' })), [skill.id]);
  const { versions } = beta.skills;
  const second = await versions.create(skill.id, { files: await files(head + 'more') });
  const latest = await versions.retrieve('latest', { skill_id: skill.id });
  assert.equal(latest.id, second.id);
  assert.equal((await ids(versions.list(skill.id, { limit: 1 }))).length, 2);
  const archive = await versions.download(second.id, { skill_id: skill.id });
  assert.equal(Buffer.from(await archive.arrayBuffer()).subarray(0, 2).toString(), 'PK');
  await versions.delete(second.id, { skill_id: skill.id });
  await beta.skills.delete(skill.id);
  await refused(404, () => beta.skills.retrieve(skill.id));
}

async function files() {
  const file = await beta.files.upload({ file: await toFile(Buffer.from('hello'), 'note.txt') });
  assert.equal((await beta.files.retrieveMetadata(file.id)).size_bytes, 5);
  assert.equal(await (await beta.files.download(file.id)).text(), 'hello');
  assert.deepEqual(await ids(beta.files.list()), [file.id]);
  await beta.files.delete(file.id);
}

async function memoryStores(agent) {
  const { memoryStores: stores } = beta;
  const { memories, memoryVersions: versions } = stores;
  const store = await stores.create({ name: 'User Preferences' });
  const within = { memory_store_id: store.id };
  await stores.update(store.id, { metadata: { user: '7' } });
  assert.deepEqual((await stores.retrieve(store.id)).metadata, { user: '7' });
  const note = await memories.create(store.id, { path: '/notes/a.md', content: 'one' });
  const taken = await refused(409, () => memories.create(store.id, { path: '/notes', content: '' }));
  assert.equal(taken.conflicting_memory_id, note.id);
  await memories.update(note.id, { ...within, content: '1' });
  assert.equal((await memories.retrieve(note.id, within)).content, '1');
  const top = await Array.fromAsync(memories.list(store.id, { depth: 1 }));
  assert.deepEqual(top, [{ type: 'memory_prefix', path: '/notes/' }]);
  await memories.delete(note.id, within);
  const kept = await ids(versions.list(store.id, { memory_id: note.id, limit: 1 }));
  assert.equal(kept.length, 3);
  assert.equal((await versions.retrieve(kept[2], within)).content, 'one');
  assert.equal((await versions.redact(kept[2], within)).content, null);
  assert((await ids(stores.list())).includes(store.id));
  await sessions(agent, store);
  await stores.archive(store.id);
  await stores.delete(store.id);
}

async function vaults() {
  const vault = await beta.vaults.create({ display_name: 'Alice' });
  await beta.vaults.update(vault.id, { metadata: { a: 'b' } });
  assert.equal((await beta.vaults.retrieve(vault.id)).metadata.a, 'b');
  assert.deepEqual(await ids(beta.vaults.list()), [vault.id]);
  const { credentials } = beta.vaults;
  const within = { vault_id: vault.id };
  const made = await credentials.create(vault.id, {
    auth: { type: 'mcp_oauth', access_token: 't', mcp_server_url: 'https://example.com/mcp' },
  });
  await credentials.update(made.id, { ...within, display_name: 'tickets' });
  assert.equal((await credentials.retrieve(made.id, within)).display_name, 'tickets');
  assert.deepEqual(await ids(credentials.list(vault.id)), [made.id]);
  assert.equal((await credentials.mcpOAuthValidate(made.id, within)).status, 'unknown');
  await credentials.archive(made.id, within);
  await credentials.delete(made.id, within);
  await beta.vaults.archive(vault.id);
  await beta.vaults.delete(vault.id);
}

async function webhooks() {
  const { webhooks: endpoints } = beta.organization;
  const made = await endpoints.create({
    url: 'https://example.com/hook', enabled_events: ['external_key.failed'],
  });
  await endpoints.update(made.id, { state: 'disabled' });
  assert.equal((await endpoints.retrieve(made.id)).state, 'disabled');
  assert.deepEqual(await ids(endpoints.list({ limit: 1 })), [made.id]);
  const fresh = await endpoints.regenerateSigningSecret(made.id);
  assert.notEqual(fresh.signing_secret, made.signing_secret);
  await endpoints.delete(made.id);
  const data = { type: 'session.created', id: 's', organization_id: 'o', workspace_id: 'w' };
  const body = JSON.stringify({ type: 'event', id: 'whe_1', created_at: '2026-11-23T12:00:00Z', data });
  const time = Math.floor(Date.now() / 1000).toString();
  const key = Buffer.from(made.signing_secret.replace('whsec_', ''), 'base64');
  const signature = createHmac('sha256', key).update(`whe_1.${time}.${body}`).digest('base64');
  const headers = {
    'webhook-id': 'whe_1', 'webhook-timestamp': time, 'webhook-signature': `v1,${signature}`,
  };
  const event = beta.webhooks.unwrap(body, { headers, key: made.signing_secret });
  assert.equal(event.data.type, 'session.created');
  assert.equal(beta.webhooks.parseUnverified(body).id, 'whe_1');
}

async function agents() {
  const made = await beta.agents.create({
    name: 'methods',
    model: 'scripted',
    tools: [
      { type: 'agent_toolset_20260401' },
      { type: 'custom', name: 'lookup', description: 'Looks up', input_schema: { type: 'object' } },
    ],
  });
  const agent = await beta.agents.update(made.id, { version: 1, system: 'Be brief.' });
  assert.equal((await beta.agents.retrieve(agent.id, { version: 1 })).system, null);
  const versions = await Array.fromAsync(beta.agents.versions.list(agent.id, { limit: 1 }));
  assert.deepEqual(versions.map(({ version }) => version), [2, 1]);
  assert((await ids(beta.agents.list())).includes(agent.id));
  return agent;
}

async function play(stream, session) {
  const script = { calls: [{ tool: 'lookup', input: { key: 'a' } }] };
  const said = { type: 'user.message', content: text(JSON.stringify(script)) };
  await beta.sessions.events.send(session, { events: [said] });
  for await (const event of stream) {
    if (event.type !== 'session.status_idle') continue;
    if (event.stop_reason.type !== 'requires_action') return;
    const results = event.stop_reason.event_ids.map((id) => ({
      type: 'user.custom_tool_result', custom_tool_use_id: id, content: text('found'),
    }));
    await beta.sessions.events.send(session, { events: results });
  }
}

async function sessions(agent, store) {
  const session = await beta.sessions.create({
    agent: agent.id,
    environment_id: environment,
    resources: [{ type: 'memory_store', memory_store_id: store.id }],
  });
  const within = { session_id: session.id };
  const listed = beta.sessions.list({ memory_store_id: store.id, limit: 1 });
  assert.deepEqual(await ids(listed), [session.id]);
  await beta.sessions.update(session.id, { title: 'renamed' });
  const { threads } = beta.sessions;
  const [thread] = await ids(threads.list(session.id));
  assert.equal((await threads.retrieve(thread, within)).session_id, session.id);
  await play(await beta.sessions.events.stream(session.id), session.id);
  await play(await threads.events.stream(thread, within), session.id);
  const events = await ids(beta.sessions.events.list(session.id, { limit: 5 }));
  assert.deepEqual(await ids(threads.events.list(thread, within)), events);
  await resources(within, store);
  await work(session.id);
  const runner = beta.sessions.events.toolRunner(session.id, { tools: [], maxIdleMs: 50 });
  for await (const _ of runner) throw new Error('a session whose turn is over calls nothing');
  await beta.sessions.archive(session.id);
  assert.equal((await threads.archive(thread, within)).status, 'terminated');
  assert.equal((await beta.sessions.retrieve(session.id)).title, 'renamed');
  await beta.sessions.delete(session.id);
}

async function resources(within, store) {
  const { resources } = beta.sessions;
  const listed = await Array.fromAsync(resources.list(within.session_id));
  assert.deepEqual(listed.map(({ memory_store_id: id }) => id), [store.id]);
  assert.equal((await resources.retrieve(store.id, within)).access, 'read_write');
  await refused(400, () => resources.add(within.session_id, { type: 'file', file_id: 'file_1' }));
  await refused(400, () => resources.update(store.id, { ...within, authorization_token: 't' }));
  await refused(400, () => resources.delete(store.id, within));
}

async function work(session) {
  const operator = beta.environments.work;
  const worker = new Anthropic({ baseURL: BASE_URL, apiKey: ENVIRONMENT_KEY, maxRetries: 0 });
  const mine = worker.beta.environments.work;
  const within = { environment_id: environment };
  assert((await operator.stats(environment)).depth >= 1);
  let item = null;
  while (item?.data.id !== session) {
    item = await mine.poll(environment, { block_ms: 999, reclaim_older_than_ms: 1 });
  }
  assert.equal((await mine.ack(item.id, within)).state, 'starting');
  const beat = await mine.heartbeat(item.id, { ...within, expected_last_heartbeat: 'NO_HEARTBEAT' });
  assert.equal(beat.lease_extended, true);
  await operator.update(item.id, { ...within, metadata: { a: 'b' } });
  assert.deepEqual((await operator.retrieve(item.id, within)).metadata, { a: 'b' });
  assert((await ids(operator.list(environment, { limit: 1 }))).includes(item.id));
  assert.equal((await mine.stop(item.id, { ...within, force: true })).state, 'stopped');
  const options = { environmentId: environment, environmentKey: ENVIRONMENT_KEY };
  for await (const _ of operator.poller({ ...options, drain: true })) throw new Error('nothing waits');
  assert.equal(typeof operator.worker({ ...options, workdir: '/tmp' }).run, 'function');
}

async function deployments(agent) {
  const { deployments, deploymentRuns } = beta;
  const made = await deployments.create({
    name: 'nightly',
    agent: agent.id,
    environment_id: environment,
    initial_events: [{ type: 'user.message', content: text('hello') }],
    schedule: { type: 'cron', expression: '0 3 * * *', timezone: 'Europe/Berlin' },
  });
  assert.equal(made.schedule.upcoming_runs_at.length, 5);
  assert.equal((await deployments.pause(made.id)).paused_reason.type, 'manual');
  assert.equal((await deployments.unpause(made.id)).status, 'active');
  await deployments.update(made.id, { description: 'each night' });
  const run = await deployments.run(made.id);
  assert.equal((await beta.sessions.retrieve(run.session_id)).deployment_id, made.id);
  assert.equal((await deploymentRuns.retrieve(run.id)).deployment_id, made.id);
  assert.deepEqual(await ids(deploymentRuns.list({ deployment_id: made.id })), [run.id]);
  assert.deepEqual(await ids(deployments.list()), [made.id]);
  assert.equal((await deployments.retrieve(made.id)).description, 'each night');
  await deployments.archive(made.id);
  await beta.agents.archive(agent.id);
}

const agent = await agents();
for (const part of [environments, skills, files, memoryStores, vaults, webhooks, deployments]) {
  await part(agent);
}
const missed = all.filter((name) => !called.has(name));
console.log(JSON.stringify({ missed, called: called.size }));

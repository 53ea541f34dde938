// A client of the platform: makes what a session needs, plays its worker, hears it out.
import { Anthropic } from './sdk.mjs';

const client = new Anthropic({
  baseURL: process.env.BASE_URL, apiKey: process.env.API_KEY, maxRetries: 0,
});
const { agents, environments, sessions } = client.beta;

const agent = await agents.create({
  name: 'oracle', model: 'scripted', tools: [{ type: 'agent_toolset_20260401' }],
});
const environment = await environments.create({ name: 'oracle', config: { type: 'self_hosted' } });
const session = await sessions.create({ agent: agent.id, environment_id: environment.id });

const stream = await sessions.events.stream(session.id);
const script = { calls: [{ tool: 'bash', input: { command: 'true' } }] };
await sessions.events.send(session.id, {
  events: [{ type: 'user.message', content: [{ type: 'text', text: JSON.stringify(script) }] }],
});

const streamed = [];
for await (const event of stream) {
  streamed.push(event.type);
  if (event.type !== 'session.status_idle') continue;
  if (event.stop_reason.type !== 'requires_action') break;
  await sessions.events.send(session.id, {
    events: event.stop_reason.event_ids.map((id) => ({
      type: 'user.tool_result', tool_use_id: id, is_error: false,
      content: [{ type: 'text', text: 'done' }],
    })),
  });
}

const listed = [];
for await (const event of sessions.events.list(session.id, { limit: 4 })) listed.push(event.type);
let count = 0;
for await (const _ of agents.list({ limit: 1 })) count += 1;
const failure = async (call) => {
  try {
    await call();
  } catch (error) {
    return error;
  }
  throw new Error('the call went through');
};
const missing = await failure(() => sessions.retrieve('sesn_missing'));
const conflict = await failure(() => environments.create({ name: 'oracle' }));
const archived = await sessions.archive(session.id);
console.log(JSON.stringify({
  streamed,
  listed,
  agents: count,
  not_found: missing.error.error.type,
  conflict_request_id:
    conflict instanceof Anthropic.ConflictError && conflict.requestID.startsWith('req_'),
  archived: archived.status,
}));

// The SDK's check of a webhook delivery.
import { Anthropic } from './sdk.mjs';

const { SECRET, BODY, HEADERS } = process.env;
const client = new Anthropic({ apiKey: 'unused', webhookKey: SECRET });
const headers = JSON.parse(HEADERS);
const event = client.beta.webhooks.unwrap(BODY, { headers });
let altered_refused = false;
try {
  client.beta.webhooks.unwrap(`${BODY} `, { headers });
} catch {
  altered_refused = true;
}
console.log(JSON.stringify({ type: event.data.type, id: event.data.id, altered_refused }));

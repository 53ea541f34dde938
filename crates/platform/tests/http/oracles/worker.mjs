// The SDK's own worker, which serves sessions until it is killed.
import { Anthropic } from './sdk.mjs';

const client = new Anthropic({ baseURL: process.env.BASE_URL, apiKey: null });
const worker = client.beta.environments.work.worker({
  environmentId: process.env.ENVIRONMENT_ID,
  environmentKey: process.env.ENVIRONMENT_KEY,
  workdir: process.env.WORKDIR,
  maxIdleMs: 2000,
});
console.log('ready');
await worker.run();

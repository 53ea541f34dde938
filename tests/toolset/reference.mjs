// Plays tool calls with the official toolset: one JSON object a line on stdin,
// {"tool":"bash","input":{…}}, one a line on stdout, {"text":"…","is_error":false}.
// Usage: node reference.mjs <directory that holds node_modules> <workdir>
//
// The process stands in the workdir, as the official worker does by default. An empty text is
// shown as the official session runner posts it.

import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import path from 'node:path';

const [oracles, workdir] = process.argv.slice(2);
const require = createRequire(path.join(path.resolve(oracles), 'package.json'));
const module = require.resolve('@anthropic-ai/sdk/tools/agent-toolset/node');
const { betaAgentToolset20260401 } = await import(pathToFileURL(module));

const tools = new Map(betaAgentToolset20260401({ workdir }).map((tool) => [tool.name, tool]));

function shown(content) {
  const text = typeof content === 'string' ? content : content.map((block) => block.text).join('\n');
  return text || '(no output)';
}

async function play({ tool: name, input }) {
  const tool = tools.get(name);
  try {
    return { text: shown(await tool.run(tool.parse ? tool.parse(input) : input, {})), is_error: false };
  } catch (error) {
    const own = error?.content ?? `Error: ${error?.message ?? error}`;
    return { text: shown(own), is_error: true };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  if (line.trim() === '') continue;
  process.stdout.write(JSON.stringify(await play(JSON.parse(line))) + '\n');
}
for (const tool of tools.values()) await tool.close?.();
process.exit(0);

// Loads the SDK from where the tests have it; node looks for packages beside the script only.
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';

const require = createRequire(join(resolve(process.env.WARREN_ORACLES), 'package.json'));
export const { Anthropic, toFile } = require('@anthropic-ai/sdk');

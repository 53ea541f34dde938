"""The SDK's own worker, which serves sessions until it is killed."""

import asyncio
import os

import anthropic

client = anthropic.AsyncAnthropic(base_url=os.environ["BASE_URL"], api_key="unused")
worker = client.beta.environments.work.worker(
    environment_id=os.environ["ENVIRONMENT_ID"],
    environment_key=os.environ["ENVIRONMENT_KEY"],
    workdir=os.environ["WORKDIR"],
    max_idle=2.0,
)
print("ready", flush=True)
asyncio.run(worker.run())

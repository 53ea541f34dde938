"""The official Python worker as the app of a MicroVM image. Its hooks are up when the image is built and stay in the
snapshot; `/run` tells each VM its one session."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time

import aws
from anthropic import APIStatusError, AsyncAnthropic
from anthropic.lib.environments import EnvironmentWorker

PREFIX = "/aws/lambda-microvms/runtime/v1/"
WORKDIR = os.environ.get("WORKDIR", "/workspace")
HOOK_PORT = int(os.environ.get("HOOK_PORT", "9000"))
# How long the VM stays without work, and an item is kept after a turn.
IDLE_EXIT_S = int(os.environ.get("WORK_IDLE_EXIT_MS", "360000")) / 1000
MAX_IDLE_S = int(os.environ.get("WORK_MAX_IDLE_MS", "60000")) / 1000
# A poll hides an item from its own VM for two seconds.
PAUSE_AFTER_FOREIGN_S = 3
DRAIN_S = 25
BODY_LEN_MAX = 128 * 1024
TRANSIENT = (408, 409, 429)


def log(message, **more):
    print(json.dumps({"message": message, **more}), file=sys.stderr, flush=True)


def parse_run(body):
    envelope = json.loads(body)
    session = json.loads(envelope.get("runHookPayload") or "{}").get("session") or {}
    for name in ("ANTHROPIC_SESSION_ID", "ANTHROPIC_ENVIRONMENT_ID"):
        if not session.get(name):
            raise ValueError(f"runHookPayload has no session.{name}")
    session["microvm"] = envelope.get("microvmId")
    session.setdefault("AWS_REGION", os.environ.get("AWS_REGION", "us-east-1"))
    return session


def client_of(run, key):
    return AsyncAnthropic(auth_token=key, api_key=None, base_url=run.get("ANTHROPIC_BASE_URL"))


async def serve_claimed(run):
    """Serves the one item that the host has claimed: no environment key is needed."""
    async with client_of(run, "unused") as client:
        worker = EnvironmentWorker(client, workdir=WORKDIR, max_idle=max(MAX_IDLE_S, IDLE_EXIT_S))
        await worker.handle_item(
            work_id=run["ANTHROPIC_WORK_ID"],
            work_secret=run["ANTHROPIC_WORK_SECRET"],
            environment_id=run["ANTHROPIC_ENVIRONMENT_ID"],
            session_id=run["ANTHROPIC_SESSION_ID"],
        )


async def serve_queue(run):
    """Polls for items of this VM's session, and leaves all others to their own VMs."""
    region, environment, session = run["AWS_REGION"], run["ANTHROPIC_ENVIRONMENT_ID"], run["ANTHROPIC_SESSION_ID"]
    if run.get("ENVIRONMENT_KEY_SECRET_ID"):
        key = await asyncio.to_thread(aws.secret, region, run["ENVIRONMENT_KEY_SECRET_ID"])
    else:
        key = await asyncio.to_thread(aws.parameter, region, run["ENVIRONMENT_KEY_PARAM_NAME"])
    waiting_since = time.monotonic()
    async with client_of(run, key) as client:
        work = client.beta.environments.work
        while time.monotonic() - waiting_since < IDLE_EXIT_S:
            try:
                item = await work.poll(environment, block_ms=999, reclaim_older_than_ms=2000)
            except APIStatusError as error:
                if 400 <= error.status_code < 500 and error.status_code not in TRANSIENT:
                    raise
                log("poll", error=str(error))
                await asyncio.sleep(PAUSE_AFTER_FOREIGN_S)
                continue
            if item is None:
                continue
            if item.data.id != session:
                await asyncio.sleep(PAUSE_AFTER_FOREIGN_S)
                continue
            await work.ack(item.id, environment_id=environment)
            worker = EnvironmentWorker(client, environment_key=key, workdir=WORKDIR, max_idle=MAX_IDLE_S)
            await worker.handle_item(
                work_id=item.id, work_secret=item.secret, environment_id=environment, session_id=session
            )
            waiting_since = time.monotonic()
            with contextlib.suppress(APIStatusError):
                if (await client.beta.sessions.retrieve(session)).status == "terminated":
                    return


async def serve(run):
    log("a run begins", session=run["ANTHROPIC_SESSION_ID"])
    claimed = run.get("ANTHROPIC_WORK_ID") and run.get("ANTHROPIC_WORK_SECRET")
    await (serve_claimed(run) if claimed else serve_queue(run))
    if run["microvm"]:
        try:
            await asyncio.to_thread(aws.terminate, run["AWS_REGION"], run["microvm"])
        except OSError as error:
            log("TerminateMicrovm", error=str(error))


class Hooks:
    def __init__(self):
        self.running = None
        self.ended = asyncio.Event()
        self.code = 0

    def begin(self, run):
        # The same run again is one run.
        if self.running is None:
            self.running = asyncio.create_task(serve(run))
            self.running.add_done_callback(self.end)

    def end(self, task):
        if not task.cancelled() and (error := task.exception()) is not None:
            log("the session cannot be served", error=repr(error))
            self.code = 1
        self.ended.set()

    async def drain(self):
        if self.running is not None:
            self.running.cancel()
            await asyncio.wait([self.running], timeout=DRAIN_S)
        self.ended.set()

    async def answer(self, path, body):
        match path.removeprefix(PREFIX):
            case "ready" | "validate" | "resume" | "suspend":
                return 200, {}
            case "run":
                try:
                    self.begin(parse_run(body))
                except (ValueError, AttributeError) as error:
                    return 400, {"message": str(error)}
                return 200, {}
            case "terminate":
                await self.drain()
                return 200, {}
            case _:
                return 404, {"message": f"no hook is at {path}"}

    async def connection(self, reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ValueError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = 0
            for line in head.split("\r\n")[1:]:
                name, _, value = line.partition(":")
                if name.lower() == "content-length":
                    length = min(int(value), BODY_LEN_MAX)
            body = await reader.readexactly(length)
            status, answer = await self.answer(head.split(" ", 2)[1], body)
            text = json.dumps(answer).encode()
            # A connection that was kept would be dead after a suspend.
            fields = f"content-type: application/json\r\ncontent-length: {len(text)}\r\nconnection: close"
            writer.write(f"HTTP/1.1 {status} -\r\n{fields}\r\n\r\n".encode() + text)
            await writer.drain()
        writer.close()


async def main():
    hooks = Hooks()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: asyncio.ensure_future(hooks.drain()))
    server = await asyncio.start_server(hooks.connection, "0.0.0.0", HOOK_PORT)
    log("hooks are served", port=HOOK_PORT)
    async with server:
        await hooks.ended.wait()
        # The answer to a hook that waited for this comes first.
        await asyncio.sleep(0.1)
    return hooks.code


if __name__ == "__main__":
    os.makedirs(WORKDIR, exist_ok=True)
    os.chdir(WORKDIR)
    sys.exit(asyncio.run(main()))

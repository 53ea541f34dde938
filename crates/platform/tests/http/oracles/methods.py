"""Every method of the SDK's managed-agents resources, each answer checked against the SDK's types.

The methods are listed from the package; one that is not called below fails the test.
"""

import functools
import inspect
import json
import os
from datetime import datetime, timezone

import anthropic

# What the emulator does not play; a resource that the SDK gains is not in here and so missed.
ELSEWHERE = {"messages", "models", "tunnels", "user_profiles", "dreams"}
CALLED = set()


def methods(cls_of, path):
    """Names of all methods below a resource, each wrapped so that its use is seen."""
    found = []
    for name, value in vars(type(cls_of)).items():
        if name.startswith(("_", "with_")):
            continue
        here = f"{path}.{name}"
        if inspect.isfunction(value):
            found.append(here)
            setattr(type(cls_of), name, recorded(value, here))
        elif (path, name) == ("beta", "organization"):
            found += methods(cls_of.organization.webhooks, "beta.organization.webhooks")
        elif path != "beta" or name not in ELSEWHERE:
            found += methods(getattr(cls_of, name), here)
    return found


def recorded(function, name):
    @functools.wraps(function)
    def call(*args, **kwargs):
        CALLED.add(name)
        return function(*args, **kwargs)

    return call


def refused(status, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except anthropic.APIStatusError as error:
        assert error.status_code == status, error
        assert error.request_id.startswith("req_"), error
        return error.body["error"]
    raise AssertionError("the call went through")


client = anthropic.Anthropic(
    base_url=os.environ["BASE_URL"],
    api_key=os.environ["API_KEY"],
    max_retries=0,
    _strict_response_validation=True,
)
beta = client.beta
ALL = methods(beta, "beta")


def environments():
    environment = beta.environments.create(
        name="methods", config={"type": "self_hosted"}, metadata={"a": "b"}
    )
    beta.environments.update(environment.id, description="described")
    assert beta.environments.retrieve(environment.id).description == "described"
    assert environment.id in [e.id for e in beta.environments.list(limit=1)]
    beta.environments.archive(environment.id)
    beta.environments.delete(environment.id)


def skills():
    head = b"---\nname: counting\ndescription: Counts\n---\n"
    skill = beta.skills.create(
        files=[("counting/SKILL.md", head), ("counting/run.sh", b"#!/bin/sh\n")],
        display_name="Counting",
    )
    assert beta.skills.retrieve(skill.id).display_name == "Counting"
    assert [s.id for s in beta.skills.list(source="custom")] == [skill.id]
    versions = beta.skills.versions
    second = versions.create(skill.id, files=[("counting/SKILL.md", head + b"more")])
    assert versions.retrieve("latest", skill_id=skill.id).id == second.id
    assert len(list(versions.list(skill.id, limit=1))) == 2
    archive = versions.download(second.id, skill_id=skill.id).read()
    assert archive.startswith(b"PK"), archive
    versions.delete(second.id, skill_id=skill.id)
    assert beta.skills.retrieve(skill.id).latest_version_id != second.id
    agent = beta.agents.create(
        name="skilled",
        model="scripted",
        skills=[{"type": "custom", "skill_id": skill.id}],
    )
    assert agent.skills[0].version == "latest"
    beta.skills.delete(skill.id)
    refused(404, beta.skills.retrieve, skill.id)


def files():
    file = beta.files.upload(file=("dir/note.txt", b"hello", "text/plain"), expires_in_seconds=3600)
    assert (file.filename, file.size_bytes) == ("note.txt", 5)
    assert beta.files.retrieve_metadata(file.id).mime_type == "text/plain"
    assert beta.files.download(file.id).read() == b"hello"
    assert [f.id for f in beta.files.list()] == [file.id]
    assert [f.id for f in beta.files.list(ids=[file.id, "file_none"])] == [file.id]
    beta.files.delete(file.id)
    refused(404, beta.files.download, file.id)


def memory_stores():
    stores = beta.memory_stores
    store = stores.create(name="User Preferences", description="what users like")
    stores.update(store.id, metadata={"user": "7"})
    assert stores.retrieve(store.id).metadata == {"user": "7"}
    memories = stores.memories
    note = memories.create(store.id, path="/notes/a.md", content="one")
    assert note.content is None
    memories.create(store.id, path="/b.md", content="two", view="full")
    taken = refused(409, memories.create, store.id, path="/notes", content="")
    assert taken["type"] == "memory_path_conflict_error", taken
    assert taken["conflicting_memory_id"] == note.id, taken
    seen = {"type": "content_sha256", "content_sha256": note.content_sha256}
    memories.update(note.id, memory_store_id=store.id, content="1", precondition=seen)
    stale = refused(
        409, memories.update, note.id, memory_store_id=store.id, content="x", precondition=seen
    )
    assert stale["type"] == "memory_precondition_failed_error", stale
    assert memories.retrieve(note.id, memory_store_id=store.id).content == "1"
    assert len(list(memories.list(store.id, limit=1))) == 2
    top = [(m.type, m.path) for m in memories.list(store.id, depth=1, limit=1)]
    assert top == [("memory", "/b.md"), ("memory_prefix", "/notes/")], top
    below = [m.content for m in memories.list(store.id, path_prefix="/notes/", view="full")]
    assert below == ["1"], below
    memories.delete(note.id, memory_store_id=store.id)
    versions = stores.memory_versions
    kept = list(versions.list(store.id, memory_id=note.id))
    assert [v.operation for v in kept] == ["deleted", "modified", "created"], kept
    assert versions.retrieve(kept[2].id, memory_store_id=store.id).content == "one"
    assert versions.redact(kept[2].id, memory_store_id=store.id).content is None
    assert store.id in [s.id for s in stores.list()]
    sessions(store)
    stores.archive(store.id)
    stores.delete(store.id)


def vaults():
    vault = beta.vaults.create(display_name="Alice")
    beta.vaults.update(vault.id, metadata={"a": "b"})
    assert beta.vaults.retrieve(vault.id).metadata == {"a": "b"}
    assert [v.id for v in beta.vaults.list()] == [vault.id]
    credentials = beta.vaults.credentials
    refresh = {
        "client_id": "c",
        "refresh_token": "r",
        "token_endpoint": "https://example.com/token",
        "token_endpoint_auth": {"type": "client_secret_basic", "client_secret": "s"},
    }
    oauth = credentials.create(
        vault.id,
        display_name="tickets",
        auth={
            "type": "mcp_oauth",
            "access_token": "t",
            "mcp_server_url": "https://example.com/mcp",
            "expires_at": "2999-01-01T00:00:00Z",
            "refresh": refresh,
        },
    )
    assert "access_token" not in oauth.to_json()
    for auth in [
        {"type": "static_bearer", "token": "t", "mcp_server_url": "https://example.com/other"},
        {
            "type": "environment_variable",
            "secret_name": "TOKEN",
            "secret_value": "t",
            "networking": {"type": "limited", "allowed_hosts": ["*.example.com"]},
        },
    ]:
        other = credentials.create(vault.id, auth=auth)
    credentials.update(
        oauth.id, vault_id=vault.id, auth={"type": "mcp_oauth", "access_token": "u"}
    )
    assert credentials.retrieve(oauth.id, vault_id=vault.id).display_name == "tickets"
    assert len(list(credentials.list(vault.id, limit=2))) == 3
    assert credentials.mcp_oauth_validate(oauth.id, vault_id=vault.id).has_refresh_token
    credentials.archive(oauth.id, vault_id=vault.id)
    credentials.delete(other.id, vault_id=vault.id)
    beta.vaults.archive(vault.id)
    beta.vaults.delete(vault.id)


def organization_webhooks():
    endpoints = beta.organization.webhooks
    events = ["external_key.failed", "external_key.recovered"]
    made = endpoints.create(url="https://example.com/hook", enabled_events=events, name="one")
    assert made.signing_secret.startswith("whsec_")
    endpoints.update(made.id, state="disabled", description="for tests")
    assert endpoints.retrieve(made.id).state == "disabled"
    assert [e.id for e in endpoints.list(limit=1)] == [made.id]
    assert endpoints.regenerate_signing_secret(made.id).signing_secret != made.signing_secret
    endpoints.delete(made.id)
    body = {"type": "event", "id": "whe_1", "created_at": "2026-11-23T12:00:00Z"}
    body["data"] = {"type": "session.created", "id": "s", "organization_id": "o", "workspace_id": "w"}
    body = json.dumps(body)
    from standardwebhooks import Webhook

    now = datetime.now(timezone.utc)
    headers = {
        "webhook-id": "whe_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(made.signing_secret).sign("whe_1", now, body),
    }
    event = beta.webhooks.unwrap(body, headers=headers, key=made.signing_secret)
    assert event.data.type == "session.created"
    assert beta.webhooks.parse_unverified(body).id == "whe_1"


def agents():
    agent = beta.agents.create(
        name="methods",
        model="scripted",
        tools=[
            {"type": "agent_toolset_20260401"},
            {
                "type": "custom",
                "name": "lookup",
                "description": "Looks up",
                "input_schema": {"type": "object", "properties": {}},
            },
        ],
    )
    agent = beta.agents.update(agent.id, version=agent.version, system="Be brief.")
    assert beta.agents.retrieve(agent.id, version=1).system is None
    assert [a.version for a in beta.agents.versions.list(agent.id, limit=1)] == [2, 1]
    assert agent.id in [a.id for a in beta.agents.list()]
    return agent


AGENT = agents()


def play(stream, session, script, results):
    """Says something, answers the calls, and returns what the stream shows."""
    said = {"type": "user.message", "content": [{"type": "text", "text": json.dumps(script)}]}
    beta.sessions.events.send(session, events=[said])
    seen = []
    for event in stream:
        seen.append(event.type)
        if event.type == "session.status_idle":
            if event.stop_reason.type != "requires_action":
                return seen
            beta.sessions.events.send(session, events=[results(call) for call in event.stop_reason.event_ids])


def sessions(store):
    environment = os.environ["ENVIRONMENT_ID"]
    session = beta.sessions.create(
        agent={"type": "agent", "id": AGENT.id, "version": 2},
        environment_id=environment,
        title="methods",
        metadata={"a": "b"},
        resources=[{"type": "memory_store", "memory_store_id": store.id, "access": "read_only"}],
    )
    assert session.resources[0].mount_path == "/mnt/memory/user-preferences"
    listed = beta.sessions.list(agent_id=AGENT.id, memory_store_id=store.id, limit=1)
    assert [s.id for s in listed] == [session.id]
    beta.sessions.update(session.id, title="renamed")
    thread = list(beta.sessions.threads.list(session.id))[0]
    thread = beta.sessions.threads.retrieve(thread.id, session_id=session.id)
    result = lambda call: {
        "type": "user.custom_tool_result",
        "custom_tool_use_id": call,
        "content": [{"type": "text", "text": "found"}],
    }
    script = {"calls": [{"tool": "lookup", "input": {"key": "a"}}]}
    with beta.sessions.events.stream(session.id) as stream:
        play(stream, session.id, script, result)
    with beta.sessions.threads.events.stream(thread.id, session_id=session.id) as stream:
        play(stream, session.id, script, result)
    events = list(beta.sessions.events.list(session.id, limit=5))
    on_thread = beta.sessions.threads.events.list(thread.id, session_id=session.id)
    assert [e.id for e in on_thread] == [e.id for e in events]
    resources(session, store)
    work(environment, session)
    refused(400, beta.sessions.threads.archive, thread.id, session_id=session.id)
    beta.sessions.archive(session.id)
    assert beta.sessions.retrieve(session.id).status == "terminated"
    archived = beta.sessions.threads.archive(thread.id, session_id=session.id)
    assert archived.status == "terminated"
    assert beta.sessions.delete(session.id).type == "session_deleted"


def resources(session, store):
    resources = beta.sessions.resources
    assert [r.memory_store_id for r in resources.list(session.id)] == [store.id]
    assert resources.retrieve(store.id, session_id=session.id).access == "read_only"
    refused(400, resources.add, session.id, type="file", file_id="file_1")
    refused(400, resources.update, store.id, session_id=session.id, authorization_token="t")
    refused(400, resources.delete, store.id, session_id=session.id)


def work(environment, session):
    operator = beta.environments.work
    key = os.environ["ENVIRONMENT_KEY"]
    mine = client.with_options(api_key=key).beta.environments.work
    assert operator.stats(environment).depth >= 1
    item = None
    while item is None or item.data.id != session.id:
        item = mine.poll(environment, block_ms=999, reclaim_older_than_ms=1)
    assert item.secret
    item = mine.ack(item.id, environment_id=environment)
    assert item.state == "starting"
    beat = mine.heartbeat(
        item.id, environment_id=environment, expected_last_heartbeat="NO_HEARTBEAT"
    )
    assert beat.lease_extended and beat.ttl_seconds > 0
    operator.update(item.id, environment_id=environment, metadata={"a": "b"})
    assert operator.retrieve(item.id, environment_id=environment).metadata == {"a": "b"}
    assert item.id in [i.id for i in operator.list(environment, limit=1)]
    assert mine.stop(item.id, environment_id=environment, force=True).state == "stopped"


def deployments():
    environment = os.environ["ENVIRONMENT_ID"]
    deployment = beta.deployments.create(
        name="nightly",
        agent=AGENT.id,
        environment_id=environment,
        initial_events=[
            {"type": "user.message", "content": [{"type": "text", "text": "hello"}]}
        ],
        schedule={"type": "cron", "expression": "0 3 * * *", "timezone": "Europe/Berlin"},
    )
    assert len(deployment.schedule.upcoming_runs_at) == 5
    assert beta.deployments.pause(deployment.id).paused_reason.type == "manual"
    assert [d.id for d in beta.deployments.list(status="paused")] == [deployment.id]
    assert beta.deployments.unpause(deployment.id).status == "active"
    beta.deployments.update(deployment.id, description="each night", schedule=None)
    run = beta.deployments.run(deployment.id)
    assert beta.sessions.retrieve(run.session_id).deployment_id == deployment.id
    assert beta.deployment_runs.retrieve(run.id).trigger_context.type == "manual"
    runs = beta.deployment_runs.list(deployment_id=deployment.id, has_error=False)
    assert [r.id for r in runs] == [run.id]
    assert beta.deployments.retrieve(deployment.id).description == "each night"
    beta.deployments.archive(deployment.id)
    beta.agents.archive(AGENT.id)


for part in [environments, skills, files, memory_stores, vaults, organization_webhooks, deployments]:
    part()
print(json.dumps({"missed": sorted(set(ALL) - CALLED), "called": len(CALLED)}))

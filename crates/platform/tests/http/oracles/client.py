"""A client of the platform: makes what a session needs, plays its worker, hears it out."""

import json
import os

import anthropic

client = anthropic.Anthropic(
    base_url=os.environ["BASE_URL"], api_key=os.environ["API_KEY"], max_retries=0
)
beta = client.beta

agent = beta.agents.create(
    name="oracle", model="scripted", tools=[{"type": "agent_toolset_20260401"}]
)
environment = beta.environments.create(name="oracle", config={"type": "self_hosted"})
session = beta.sessions.create(agent=agent.id, environment_id=environment.id)

streamed = []
script = {"calls": [{"tool": "bash", "input": {"command": "true"}}]}
with beta.sessions.events.stream(session.id) as stream:
    beta.sessions.events.send(
        session.id,
        events=[{"type": "user.message", "content": [{"type": "text", "text": json.dumps(script)}]}],
    )
    for event in stream:
        streamed.append(event.type)
        if event.type != "session.status_idle":
            continue
        if event.stop_reason.type != "requires_action":
            break
        beta.sessions.events.send(
            session.id,
            events=[
                {
                    "type": "user.tool_result",
                    "tool_use_id": call,
                    "is_error": False,
                    "content": [{"type": "text", "text": "done"}],
                }
                for call in event.stop_reason.event_ids
            ],
        )

listed = [event.type for event in beta.sessions.events.list(session.id, limit=4)]
agents = sum(1 for _ in beta.agents.list(limit=1))
not_found = None
try:
    beta.sessions.retrieve("sesn_missing")
except anthropic.NotFoundError as error:
    not_found = error.body["error"]["type"]
conflict_request_id = False
try:
    beta.environments.create(name="oracle")
except anthropic.ConflictError as error:
    conflict_request_id = error.request_id.startswith("req_")
archived = beta.sessions.archive(session.id)
print(
    json.dumps(
        {
            "streamed": streamed,
            "listed": listed,
            "agents": agents,
            "not_found": not_found,
            "conflict_request_id": conflict_request_id,
            "archived": archived.status,
        }
    )
)

//! A session's events as the messages of a request.
//!
//! Events are what happened, in order; messages alternate, and each call must be followed at once
//! by its result. So a result is looked up where its call stands, wherever in the history it
//! came; a call without one (the turn was interrupted) gets a result that says so.

use std::collections::HashMap;

use agents::Event;
use serde_json::{Map, Value, json};

use super::tools;

/// Stands for the result of a call that has none.
const NO_RESULT: &str = "This call was interrupted; its result is not known.";

/// What the agent is told beside its own system prompt.
#[derive(Debug, Clone, Default)]
pub(crate) struct Note(pub(crate) Vec<String>);

/// All that a request is made of.
#[derive(Debug)]
pub(crate) struct Prompt<'a> {
    /// The agent as the session keeps it.
    pub(crate) agent: &'a Value,
    /// Processed events, in their order.
    pub(crate) events: &'a [Event],
    /// Skills, memory stores.
    pub(crate) note: Note,
    /// Uploaded files that events name: media type, and base64 or text.
    pub(crate) files: HashMap<String, (String, String)>,
    pub(crate) model: &'a str,
    pub(crate) max_tokens: u32,
}

impl Prompt<'_> {
    /// The body of a request.
    pub(crate) fn body(&self) -> Value {
        let mut body = json!({
            "model": self.model,
            "max_tokens": self.max_tokens,
            "stream": true,
            "messages": self.messages(),
        });
        let system = self.system();
        if !system.is_empty() {
            body["system"] = json!(system);
        }
        let tools = tools::offered(self.agent);
        if !tools.is_empty() {
            body["tools"] = json!(tools);
        }
        body
    }

    /// The agent's own prompt, what is added to it, and what clients added later.
    fn system(&self) -> Vec<Value> {
        let own = self.agent["system"].as_str().map(str::to_owned);
        let later = self.events.iter().filter(|event| event.kind() == "system.message");
        let later = later.flat_map(texts);
        let all = own.into_iter().chain(self.note.0.iter().cloned()).chain(later);
        let mut blocks: Vec<Value> = all
            .filter(|text| !text.trim().is_empty())
            .map(|text| json!({"type": "text", "text": text}))
            .collect();
        if let Some(last) = blocks.last_mut() {
            last["cache_control"] = json!({"type": "ephemeral"});
        }
        blocks
    }

    fn messages(&self) -> Vec<Value> {
        let results = results(self.events);
        let mut talk = Talk::default();
        for event in self.events {
            match event.kind() {
                "user.message" => talk.user(self.content(event)),
                "agent.message" => {
                    let blocks = texts(event).map(|text| json!({"type": "text", "text": text}));
                    talk.agent(blocks.collect());
                }
                "agent.tool_use" | "agent.custom_tool_use" => {
                    let id = event.id().unwrap_or_default();
                    let call = json!({
                        "type": "tool_use", "id": id, "name": event.get("name"),
                        "input": event.get("input"),
                    });
                    let result = results.get(id).map_or_else(
                        || result_block(id, true, vec![text_block(NO_RESULT)]),
                        |result| {
                            let is_error = result.get("is_error") == Some(&Value::Bool(true));
                            result_block(id, is_error, self.content(result))
                        },
                    );
                    talk.agent(vec![call]);
                    talk.results.push(result);
                }
                // A model request is over: what follows is another message.
                "span.model_request_end" => talk.close(),
                _ => {}
            }
        }
        talk.end()
    }

    /// The blocks of an event, with uploaded files in their places.
    fn content(&self, event: &Event) -> Vec<Value> {
        let blocks = event.get("content").and_then(Value::as_array);
        let blocks = blocks.into_iter().flatten().filter(|block| {
            block["type"] != "text" || block["text"].as_str().is_some_and(|text| !text.is_empty())
        });
        blocks.map(|block| self.with_file(block)).collect()
    }

    fn with_file(&self, block: &Value) -> Value {
        let mut block = block.clone();
        let source = &block["source"];
        if source["type"] != "file" {
            return block;
        }
        let id = source["file_id"].as_str().unwrap_or_default();
        block["source"] = match self.files.get(id) {
            None => return text_block(&format!("(the file {id} is not there any more)")),
            Some((kind, data)) if kind == "text/plain" => {
                json!({"type": "text", "media_type": kind, "data": data})
            }
            Some((kind, data)) => json!({"type": "base64", "media_type": kind, "data": data}),
        };
        block
    }
}

/// The uploaded files that events name.
pub(crate) fn file_ids(events: &[Event]) -> Vec<String> {
    let blocks = events.iter().filter_map(|event| event.get("content")?.as_array()).flatten();
    let ids = blocks.filter_map(|block| block["source"]["file_id"].as_str());
    ids.map(str::to_owned).collect()
}

/// Messages in the making.
#[derive(Default)]
struct Talk {
    messages: Vec<Value>,
    /// Results of the calls in the agent's last message.
    results: Vec<Value>,
}

impl Talk {
    fn user(&mut self, blocks: Vec<Value>) {
        self.close();
        self.push("user", blocks);
    }

    fn agent(&mut self, blocks: Vec<Value>) {
        self.push("assistant", blocks);
    }

    /// The results follow their calls.
    fn close(&mut self) {
        let results = std::mem::take(&mut self.results);
        self.push("user", results);
    }

    fn push(&mut self, role: &str, blocks: Vec<Value>) {
        if blocks.is_empty() {
            return;
        }
        match self.messages.last_mut() {
            Some(last) if last["role"] == role => {
                if let Some(Value::Array(content)) = last.get_mut("content") {
                    content.extend(blocks);
                }
            }
            Some(_) | None => self.messages.push(json!({"role": role, "content": blocks})),
        }
    }

    fn end(mut self) -> Vec<Value> {
        self.close();
        let last = self.messages.last_mut().and_then(|last| last["content"].as_array_mut());
        if let Some(Value::Object(block)) = last.and_then(|blocks| blocks.last_mut()) {
            block.insert("cache_control".into(), json!({"type": "ephemeral"}));
        }
        self.messages
    }
}

/// The event that answers each call.
fn results(events: &[Event]) -> HashMap<&str, &Event> {
    let answered = events.iter().filter_map(|event| {
        let member = match event.kind() {
            "user.tool_result" | "agent.tool_result" => "tool_use_id",
            "user.custom_tool_result" => "custom_tool_use_id",
            _ => return None,
        };
        Some((event.text(member)?, event))
    });
    answered.collect()
}

fn texts(event: &Event) -> impl Iterator<Item = String> + '_ {
    let blocks = event.get("content").and_then(Value::as_array).into_iter().flatten();
    let texts = blocks.filter_map(|block| block["text"].as_str());
    texts.filter(|text| !text.is_empty()).map(str::to_owned)
}

fn text_block(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn result_block(id: &str, is_error: bool, content: Vec<Value>) -> Value {
    let mut block = Map::from_iter([
        ("type".to_owned(), json!("tool_result")),
        ("tool_use_id".to_owned(), json!(id)),
        ("is_error".to_owned(), json!(is_error)),
    ]);
    if !content.is_empty() {
        block.insert("content".into(), Value::Array(content));
    }
    Value::Object(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(value: Value) -> Event {
        Event::from_value(value).unwrap()
    }

    fn messages(events: &[Value]) -> Vec<Value> {
        let events: Vec<Event> = events.iter().cloned().map(event).collect();
        let agent = json!({});
        let prompt = Prompt {
            agent: &agent,
            events: &events,
            note: Note::default(),
            files: HashMap::new(),
            model: "m",
            max_tokens: 1,
        };
        let mut messages = prompt.messages();
        for message in &mut messages {
            for block in message["content"].as_array_mut().unwrap() {
                block.as_object_mut().unwrap().remove("cache_control");
            }
        }
        messages
    }

    fn said(kind: &str, text: &str) -> Value {
        json!({"type": kind, "content": [{"type": "text", "text": text}]})
    }

    #[test]
    fn a_result_follows_its_call_wherever_it_came() {
        let call =
            |id: &str| json!({"type": "agent.tool_use", "id": id, "name": "bash", "input": {}});
        let end = json!({"type": "span.model_request_end"});
        let result = |id: &str, text: &str| {
            json!({"type": "user.tool_result", "tool_use_id": id, "is_error": false,
                   "content": [{"type": "text", "text": text}]})
        };
        let found = messages(&[
            said("user.message", "go"),
            said("agent.message", "I will"),
            call("a"),
            call("b"),
            end.clone(),
            json!({"type": "user.interrupt"}),
            said("user.message", "and then?"),
            said("agent.message", "done"),
            end,
            result("a", "late"),
            said("user.message", "thanks"),
        ]);
        let roles: Vec<_> = found.iter().map(|m| m["role"].as_str().unwrap()).collect();
        assert_eq!(roles, ["user", "assistant", "user", "assistant", "user"]);
        assert_eq!(found[1]["content"][1]["id"], "a");
        let answers = &found[2]["content"];
        assert_eq!(answers[0]["content"][0]["text"], "late");
        assert_eq!(answers[1]["content"][0]["text"], NO_RESULT);
        assert_eq!(answers[1]["is_error"], true);
        assert_eq!(answers[2]["text"], "and then?");
    }

    #[test]
    fn a_denied_call_has_the_denial_as_its_result() {
        let found = messages(&[
            said("user.message", "go"),
            json!({"type": "agent.tool_use", "id": "a", "name": "bash", "input": {}}),
            json!({"type": "agent.tool_result", "tool_use_id": "a", "is_error": true,
                   "content": [{"type": "text", "text": "no"}]}),
            json!({"type": "span.model_request_end"}),
        ]);
        assert_eq!(found[2]["content"][0]["content"][0]["text"], "no");
    }
}

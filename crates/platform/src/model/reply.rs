//! The stream that a Messages server answers with, put together to one answer.

use std::collections::BTreeMap;

use agents::EventId;
use serde_json::{Map, Value};

use crate::ids::Mint as _;
use crate::machine::{Answer, AnswerStop, PlannedCall, Usage};

/// An answer in the making.
#[derive(Debug)]
pub(super) struct Reply {
    message: EventId,
    blocks: BTreeMap<u64, Block>,
    stop: Option<Value>,
    details: Value,
    usage: Usage,
}

#[derive(Debug)]
enum Block {
    Text(String),
    Thinking,
    Call { name: String, input: Value, written: String },
    Other,
}

/// What a message of the stream means beyond itself.
#[derive(Debug, PartialEq)]
pub(super) enum Progress {
    /// Nothing.
    None,
    /// A piece of the text block of that index.
    Text(usize, String),
    /// The answer is whole.
    Whole,
    /// The server gives up: the error's type and message.
    Error(String, String),
}

impl Reply {
    pub(super) fn new() -> Self {
        Self {
            message: EventId::mint(),
            blocks: BTreeMap::new(),
            stop: None,
            details: Value::Null,
            usage: Usage::default(),
        }
    }

    /// The id that its message will have.
    pub(super) fn message(&self) -> &EventId {
        &self.message
    }

    /// Takes a message of the stream.
    pub(super) fn take(&mut self, data: &Value) -> Progress {
        let index = data["index"].as_u64().unwrap_or_default();
        match data["type"].as_str().unwrap_or_default() {
            "message_start" => self.count(&data["message"]["usage"]),
            "content_block_start" => {
                self.blocks.insert(index, block(&data["content_block"]));
            }
            "content_block_delta" => return self.delta(index, &data["delta"]),
            "message_delta" => {
                self.count(&data["usage"]);
                self.stop = data["delta"].get("stop_reason").cloned().or(self.stop.take());
                self.details = data["delta"]["stop_details"].clone();
            }
            "message_stop" => return Progress::Whole,
            "error" => {
                let text = |name: &str| data["error"][name].as_str().unwrap_or_default().to_owned();
                return Progress::Error(text("type"), text("message"));
            }
            _ => {}
        }
        Progress::None
    }

    /// Takes an answer that came in one piece.
    pub(super) fn take_whole(&mut self, message: &Value) {
        self.count(&message["usage"]);
        self.stop = message.get("stop_reason").cloned();
        self.details = message["stop_details"].clone();
        for (content, index) in message["content"].as_array().into_iter().flatten().zip(0..) {
            self.blocks.insert(index, block(content));
        }
    }

    fn delta(&mut self, index: u64, delta: &Value) -> Progress {
        let nth_text = self.blocks.range(..index).filter(|(_, b)| matches!(b, Block::Text(_)));
        let nth_text = nth_text.count();
        let text = |name: &str| delta[name].as_str().unwrap_or_default();
        match self.blocks.get_mut(&index) {
            Some(Block::Text(sum)) => {
                sum.push_str(text("text"));
                Progress::Text(nth_text, text("text").to_owned())
            }
            Some(Block::Call { written, .. }) => {
                written.push_str(text("partial_json"));
                Progress::None
            }
            Some(Block::Thinking | Block::Other) | None => Progress::None,
        }
    }

    /// Later counts replace earlier ones, where they are given.
    fn count(&mut self, usage: &Value) {
        let set = |mine: &mut u64, name: &str| {
            if let Some(count) = usage[name].as_u64() {
                *mine = count;
            }
        };
        set(&mut self.usage.input_tokens, "input_tokens");
        set(&mut self.usage.output_tokens, "output_tokens");
        set(&mut self.usage.cache_creation_input_tokens, "cache_creation_input_tokens");
        set(&mut self.usage.cache_read_input_tokens, "cache_read_input_tokens");
    }

    /// The answer; the error says what it lacks.
    pub(super) fn finish(self) -> Result<Answer, String> {
        let reason = self.stop.as_ref().and_then(Value::as_str).unwrap_or("end_turn");
        let mut answer = Answer {
            message: self.message,
            thought: false,
            texts: Vec::new(),
            calls: Vec::new(),
            stop: match reason {
                "max_tokens" => AnswerStop::CutOff(
                    "the model's answer reached the limit of output tokens and was cut off: say \
                     \"go on\", or raise the limit"
                        .into(),
                ),
                "model_context_window_exceeded" => AnswerStop::CutOff(
                    "the conversation has filled the model's context window: begin a new session"
                        .into(),
                ),
                "refusal" => AnswerStop::Refusal(self.details),
                "pause_turn" => AnswerStop::Pause,
                _ => AnswerStop::Done,
            },
            usage: self.usage,
        };
        let cut_off = matches!(answer.stop, AnswerStop::CutOff(_));
        for block in self.blocks.into_values() {
            match block {
                Block::Text(text) if text.is_empty() => {}
                Block::Text(text) => answer.texts.push(text),
                Block::Thinking => answer.thought = true,
                Block::Call { .. } if cut_off => {}
                Block::Call { name, input, written } => {
                    let input =
                        if written.is_empty() { Ok(input) } else { serde_json::from_str(&written) };
                    let input: Map<String, Value> = match input {
                        Ok(Value::Object(input)) => input,
                        Ok(_) => {
                            return Err(format!("the input of its call of {name} is no object"));
                        }
                        Err(error) => {
                            return Err(format!(
                                "the input of its call of {name} is no JSON: {error}"
                            ));
                        }
                    };
                    answer.calls.push(PlannedCall { tool: name, input, permission: None });
                }
                Block::Other => {}
            }
        }
        Ok(answer)
    }
}

fn block(content: &Value) -> Block {
    match content["type"].as_str().unwrap_or_default() {
        "text" => Block::Text(content["text"].as_str().unwrap_or_default().to_owned()),
        "thinking" | "redacted_thinking" => Block::Thinking,
        "tool_use" => Block::Call {
            name: content["name"].as_str().unwrap_or_default().to_owned(),
            input: content["input"].clone(),
            written: String::new(),
        },
        _ => Block::Other,
    }
}

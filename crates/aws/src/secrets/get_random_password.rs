//! `GetRandomPassword`.

use super::{error::parameter, shapes::BOOLEAN};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape},
};
use ring::rand::{SecureRandom, SystemRandom};
use serde::Deserialize;
use serde_json::json;

/// Characters, where the caller sets no number.
const LENGTH: usize = 32;
const PUNCTUATION: &str = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";

static PASSWORD_LENGTH: Shape = Shape::Integer { min: 1, max: 4096 };
static EXCLUDED: Shape = Shape::text(0, 4096);
static INPUT: Shape = Shape::Structure(&[
    Member::optional("PasswordLength", &PASSWORD_LENGTH),
    Member::optional("ExcludeCharacters", &EXCLUDED),
    Member::optional("ExcludeNumbers", &BOOLEAN),
    Member::optional("ExcludePunctuation", &BOOLEAN),
    Member::optional("ExcludeUppercase", &BOOLEAN),
    Member::optional("ExcludeLowercase", &BOOLEAN),
    Member::optional("IncludeSpace", &BOOLEAN),
    Member::optional("RequireEachIncludedType", &BOOLEAN),
]);

pub(super) static OPERATION: Operation = Operation {
    name: "GetRandomPassword",
    route: None,
    input: &INPUT,
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Input {
    password_length: usize,
    exclude_characters: String,
    exclude_numbers: bool,
    exclude_punctuation: bool,
    exclude_uppercase: bool,
    exclude_lowercase: bool,
    include_space: bool,
    require_each_included_type: bool,
}

impl Default for Input {
    fn default() -> Self {
        Self {
            password_length: LENGTH,
            exclude_characters: String::new(),
            exclude_numbers: false,
            exclude_punctuation: false,
            exclude_uppercase: false,
            exclude_lowercase: false,
            include_space: false,
            require_each_included_type: true,
        }
    }
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    call.authorize("*")?;
    let kinds = [
        (!input.exclude_lowercase).then_some("abcdefghijklmnopqrstuvwxyz"),
        (!input.exclude_uppercase).then_some("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
        (!input.exclude_numbers).then_some("0123456789"),
        (!input.exclude_punctuation).then_some(PUNCTUATION),
        input.include_space.then_some(" "),
    ];
    let wanted = |kind: &str| -> Vec<char> {
        kind.chars().filter(|c| !input.exclude_characters.contains(*c)).collect()
    };
    let kinds: Vec<Vec<char>> = kinds.into_iter().flatten().map(wanted).collect();
    let kinds: Vec<Vec<char>> = kinds.into_iter().filter(|kind| !kind.is_empty()).collect();
    let all: Vec<char> = kinds.concat();
    let each = input.require_each_included_type;
    if all.is_empty() || (each && kinds.len() > input.password_length) {
        return Err(parameter("No password can be made of what is left of the characters."));
    }
    let mut password: Vec<char> = Vec::with_capacity(input.password_length);
    if each {
        for kind in &kinds {
            password.extend(kind.get(below(kind.len())?));
        }
    }
    while password.len() < input.password_length {
        password.extend(all.get(below(all.len())?));
    }
    // The required ones must not stand first.
    for place in (1..password.len()).rev() {
        password.swap(place, below(place + 1)?);
    }
    Ok(Reply::ok(json!({ "RandomPassword": password.into_iter().collect::<String>() })))
}

/// A random number below `bound`, each as likely as the others.
fn below(bound: usize) -> Result<usize, ApiError> {
    let bound = u32::try_from(bound).unwrap_or(u32::MAX);
    let limit = u32::MAX - u32::MAX % bound;
    let random = SystemRandom::new();
    loop {
        let mut bytes = [0; 4];
        random.fill(&mut bytes).map_err(|_| {
            let error = std::io::Error::other("the system gives no random bytes");
            ApiError::internal("InternalServiceError", &error)
        })?;
        let number = u32::from_le_bytes(bytes);
        if number < limit {
            return Ok((number % bound) as usize);
        }
    }
}

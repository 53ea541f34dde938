//! Tokens for a MicroVM's endpoint: who holds one may reach the ports it names, or the shell, of one
//! MicroVM until it expires.
//!
//! A token is a compact JWE (`dir`, `A256GCM`) under a key of Warren's own, as on AWS: sealed, so that
//! nothing can be changed in it or moved to another VM, and self-contained, so that the gateway reads
//! no store to decide on a request. There is no revocation; the end of the VM ends its tokens, since
//! nothing is left to reach.

use crate::{
    Clock, ControlError, Microvm, MicrovmId, MicrovmState, Timestamp,
    seal::{KeyFile, Purpose},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ring::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};
use serde::{Deserialize, Serialize};
use std::{fmt, ops::RangeInclusive, sync::Arc, time::Duration};

/// Longest life of a token (spec 2.1).
pub const TOKEN_LIFE_MAX: Duration = Duration::from_secs(60 * 60);

/// Longest token in characters: the model's limit of a token part, and what fits into headers.
pub const TOKEN_CHARS_MAX: usize = 8000;

/// Bytes of the tag that AES-GCM appends.
const TAG_BYTES: usize = 16;

/// What a token lets its holder reach.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reach {
    /// These ports of the guest; ranges are sorted and apart. Empty for a VM without HTTP ingress.
    Ports(Vec<RangeInclusive<u16>>),
    /// A shell beside the app.
    Shell,
}

/// What an opened token says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    pub microvm: MicrovmId,
    /// Full host name of the VM's endpoint.
    pub endpoint: String,
    /// Memory of the VM, which AWS's limits of the endpoint go by.
    pub memory_mib: u32,
    pub reach: Reach,
    pub expires_at: Timestamp,
}

impl Grant {
    /// Whether the guest's `port` may be reached with it.
    pub fn allows(&self, port: u16) -> bool {
        match &self.reach {
            Reach::Ports(ranges) => ranges.iter().any(|range| range.contains(&port)),
            Reach::Shell => false,
        }
    }
}

/// Why a token gives nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadToken {
    #[error("the token is not one that this Warren issued")]
    Unreadable,
    #[error("the token has expired")]
    Expired,
}

/// Which way into a VM an ingress connector opens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ingress {
    Http,
    Shell,
}

impl Microvm {
    /// Whether the connectors that the VM was run with open this way.
    pub fn admits(&self, way: Ingress) -> bool {
        let connector = match way {
            Ingress::Http => ":HTTP_INGRESS",
            Ingress::Shell => ":SHELL_INGRESS",
        };
        let opens = |arn: &String| arn.ends_with(connector) || arn.ends_with(":ALL_INGRESS");
        self.ingress_connectors.iter().any(opens)
    }
}

/// Issues and opens tokens.
pub struct ProxyTokens {
    key: LessSafeKey,
    /// The protected header, encoded; the same for every token of a key.
    header: String,
    clock: Arc<dyn Clock>,
}

/// What is sealed. Short names: it travels with every request.
#[derive(Serialize, Deserialize)]
struct Claims {
    vm: String,
    host: String,
    mib: u32,
    exp: i64,
    /// None: the shell.
    ports: Option<Vec<(u16, u16)>>,
}

impl ProxyTokens {
    pub(crate) fn new(file: &KeyFile, clock: Arc<dyn Clock>) -> Self {
        let header = serde_json::json!({ "alg": "dir", "enc": "A256GCM", "kid": file.name() });
        let key = file.key(Purpose::ProxyToken);
        Self { key, header: BASE64.encode(header.to_string()), clock }
    }

    /// With a key that nothing else has, for tests of what takes tokens.
    pub fn of_random_key(clock: Arc<dyn Clock>) -> Self {
        Self::new(&KeyFile::random(), clock)
    }

    /// A token for `reach` in this VM, for `life` from now.
    ///
    /// # Errors
    /// [`ControlError::BadTokenRequest`] where the ports are too many to fit,
    /// [`ControlError::AlreadyTerminated`], [`ControlError::NoShellIngress`],
    /// [`ControlError::CombinedIngress`].
    pub fn issue(
        &self,
        microvm: &Microvm,
        reach: Reach,
        life: Duration,
    ) -> Result<String, ControlError> {
        if microvm.state == MicrovmState::Terminated {
            return Err(ControlError::AlreadyTerminated(microvm.id.clone()));
        }
        let ports = match reach {
            // Connectors never change, so what they keep shut need not be asked again.
            Reach::Ports(_) if !microvm.admits(Ingress::Http) => Some(Vec::new()),
            Reach::Ports(ranges) => Some(merged(ranges)),
            Reach::Shell => {
                check_shell(microvm)?;
                None
            }
        };
        let claims = Claims {
            vm: microvm.id.to_string(),
            host: microvm.endpoint.clone(),
            mib: microvm.memory_mib,
            exp: self.clock.now().plus(life).ms(),
            ports,
        };
        let token = self.seal(&claims);
        if token.len() > TOKEN_CHARS_MAX {
            return Err(ControlError::BadTokenRequest(format!(
                "allowedPorts names too many separate ports: the token would have {} characters, \
                 at most {TOKEN_CHARS_MAX} fit; use ranges",
                token.len()
            )));
        }
        Ok(token)
    }

    /// # Errors
    /// [`BadToken`].
    pub fn open(&self, token: &str) -> Result<Grant, BadToken> {
        let claims = self.unseal(token).ok_or(BadToken::Unreadable)?;
        let expires_at = Timestamp::from_ms(claims.exp);
        if self.clock.now() >= expires_at {
            return Err(BadToken::Expired);
        }
        let reach = match claims.ports {
            Some(ports) => Reach::Ports(ports.into_iter().map(|(from, to)| from..=to).collect()),
            None => Reach::Shell,
        };
        Ok(Grant {
            microvm: MicrovmId::parse(&claims.vm).map_err(|_| BadToken::Unreadable)?,
            endpoint: claims.host,
            memory_mib: claims.mib,
            reach,
            expires_at,
        })
    }

    fn seal(&self, claims: &Claims) -> String {
        let nonce: [u8; NONCE_LEN] = rand::random();
        let mut body = serde_json::to_vec(claims).expect("texts and numbers always serialise");
        let aad = Aad::from(self.header.as_bytes());
        let tag = self
            .key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad, &mut body)
            .expect("AES-256-GCM seals anything below 64 GiB");
        let [nonce, body, tag] = [&nonce[..], &body, tag.as_ref()].map(|part| BASE64.encode(part));
        // The second part is the encrypted key, which `dir` does not have.
        format!("{}..{nonce}.{body}.{tag}", self.header)
    }

    fn unseal(&self, token: &str) -> Option<Claims> {
        if token.len() > TOKEN_CHARS_MAX {
            return None;
        }
        let mut parts = token.split('.');
        let mut next = || parts.next();
        let (header, key, nonce, body, tag) = (next()?, next()?, next()?, next()?, next()?);
        if parts.next().is_some() || header != self.header || !key.is_empty() {
            return None;
        }
        let nonce = <[u8; NONCE_LEN]>::try_from(BASE64.decode(nonce).ok()?).ok()?;
        let tag = <[u8; TAG_BYTES]>::try_from(BASE64.decode(tag).ok()?).ok()?;
        let mut sealed = BASE64.decode(body).ok()?;
        sealed.extend_from_slice(&tag);
        let aad = Aad::from(header.as_bytes());
        let nonce = Nonce::assume_unique_for_key(nonce);
        // Compares the tag in constant time, and only then decrypts.
        let plain = self.key.open_in_place(nonce, aad, &mut sealed).ok()?;
        serde_json::from_slice(plain).ok()
    }
}

impl fmt::Debug for ProxyTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyTokens").field("header", &self.header).finish_non_exhaustive()
    }
}

fn check_shell(microvm: &Microvm) -> Result<(), ControlError> {
    let connectors = &microvm.ingress_connectors;
    if connectors.len() > 1 && connectors.iter().any(|arn| arn.ends_with(":ALL_INGRESS")) {
        return Err(ControlError::CombinedIngress);
    }
    if microvm.admits(Ingress::Shell) { Ok(()) } else { Err(ControlError::NoShellIngress) }
}

/// Sorted, with what overlaps or touches joined.
fn merged(mut ranges: Vec<RangeInclusive<u16>>) -> Vec<(u16, u16)> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_by_key(|range| *range.start());
    let mut whole: Vec<(u16, u16)> = Vec::new();
    for range in ranges {
        match whole.last_mut() {
            Some((_, end)) if *range.start() <= end.saturating_add(1) => {
                *end = (*end).max(*range.end());
            }
            _ => whole.push((*range.start(), *range.end())),
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ImageArn, ImageName, ImageVersion, testing::ManualClock};

    fn microvm(connectors: &[&str]) -> Microvm {
        let managed = "arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector";
        Microvm {
            id: MicrovmId::random(),
            state: MicrovmState::Running,
            state_reason: None,
            endpoint: "4a1e.lambda-microvm.us-east-1.localhost".to_owned(),
            image: ImageArn {
                region: "us-east-1".to_owned(),
                account: "000000000000".to_owned(),
                name: ImageName::parse("app").unwrap(),
            },
            version: ImageVersion::FIRST,
            memory_mib: 512,
            execution_role: None,
            idle_policy: None,
            maximum_duration: crate::MAXIMUM_DURATION,
            started_at: Timestamp::from_ms(0),
            terminated_at: None,
            ingress_connectors: connectors.iter().map(|name| format!("{managed}:{name}")).collect(),
            egress_connectors: Vec::new(),
            log: None,
        }
    }

    fn tokens() -> (ProxyTokens, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new());
        (ProxyTokens::of_random_key(clock.clone()), clock)
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_token_opens_its_own_ports_until_it_expires() {
        let (tokens, clock) = tokens();
        let vm = microvm(&["HTTP_INGRESS"]);
        let reach = Reach::Ports(vec![9000..=9010, 8080..=8080, 8081..=8081, 9005..=9020]);
        let token = tokens.issue(&vm, reach, MINUTE).unwrap();
        let grant = tokens.open(&token).unwrap();
        assert_eq!(grant.reach, Reach::Ports(vec![8080..=8081, 9000..=9020]));
        assert_eq!((&grant.microvm, grant.memory_mib), (&vm.id, 512));
        assert!(grant.allows(9020) && !grant.allows(9021) && !grant.allows(8079));
        clock.advance(MINUTE - Duration::from_millis(1));
        assert!(tokens.open(&token).is_ok());
        clock.advance(Duration::from_millis(1));
        assert_eq!(tokens.open(&token), Err(BadToken::Expired));
    }

    #[test]
    fn it_has_the_form_of_a_compact_jwe() {
        let (tokens, _) = tokens();
        let vm = microvm(&["HTTP_INGRESS"]);
        let token = tokens.issue(&vm, Reach::Ports(vec![1..=65535]), MINUTE).unwrap();
        let parts: Vec<&str> = token.split('.').collect();
        let header = BASE64.decode(parts[0]).unwrap();
        let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
        assert_eq!((&header["alg"], &header["enc"]), (&"dir".into(), &"A256GCM".into()));
        assert!(header["kid"].is_string());
        assert_eq!((parts.len(), parts[1]), (5, ""));
        assert!(!token.contains(vm.id.as_str()));
    }

    #[test]
    fn nothing_in_it_can_be_changed() {
        let (tokens, _) = tokens();
        let token =
            tokens.issue(&microvm(&["HTTP_INGRESS"]), Reach::Ports(vec![1..=2]), MINUTE).unwrap();
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(tokens.open(&changed), Err(BadToken::Unreadable), "changed at {at}");
        }
        for bad in ["", "....", "a.b.c.d.e", &format!("{token}."), &"x".repeat(9000)] {
            assert_eq!(tokens.open(bad), Err(BadToken::Unreadable), "{bad}");
        }
        assert_eq!(self::tokens().0.open(&token), Err(BadToken::Unreadable), "another key");
    }

    #[test]
    fn connectors_decide_what_can_be_reached() {
        let (tokens, _) = tokens();
        let all = || Reach::Ports(vec![1..=65535]);
        let opens = |connectors: &[&str]| {
            let token = tokens.issue(&microvm(connectors), all(), MINUTE).unwrap();
            tokens.open(&token).unwrap().allows(8080)
        };
        assert!(opens(&["HTTP_INGRESS"]) && opens(&["ALL_INGRESS"]));
        assert!(opens(&["SHELL_INGRESS", "HTTP_INGRESS"]));
        assert!(!opens(&["SHELL_INGRESS"]) && !opens(&["NO_INGRESS"]));
        let shell = |connectors: &[&str]| {
            tokens.issue(&microvm(connectors), Reach::Shell, MINUTE).map(drop)
        };
        assert!(shell(&["SHELL_INGRESS"]).is_ok() && shell(&["ALL_INGRESS"]).is_ok());
        assert!(matches!(shell(&["HTTP_INGRESS"]), Err(ControlError::NoShellIngress)));
        assert!(matches!(shell(&["NO_INGRESS"]), Err(ControlError::NoShellIngress)));
        let both = shell(&["ALL_INGRESS", "SHELL_INGRESS"]);
        assert!(matches!(both, Err(ControlError::CombinedIngress)));
    }

    #[test]
    fn what_does_not_fit_and_what_has_ended_gets_none() {
        let (tokens, _) = tokens();
        let odd = (1..=32_767u16).map(|n| n * 2 - 1..=n * 2 - 1).collect();
        let vm = microvm(&["HTTP_INGRESS"]);
        let error = tokens.issue(&vm, Reach::Ports(odd), MINUTE).unwrap_err();
        assert!(error.to_string().contains("use ranges"), "{error}");
        let ended = Microvm { state: MicrovmState::Terminated, ..vm };
        let error = tokens.issue(&ended, Reach::Ports(vec![1..=1]), MINUTE).unwrap_err();
        assert!(matches!(error, ControlError::AlreadyTerminated(_)));
    }
}

//! What a request asks of the gateway, taken out of it: which VM, which port, with which token, in
//! which protocol. What remains of the request is for the app.

use crate::{config::AnyHost, headers::listed, refusal::Refusal};
use control::Grant;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header, request::Parts, uri};

const AUTH: HeaderName = HeaderName::from_static("x-aws-proxy-auth");
const PORT: HeaderName = HeaderName::from_static("x-aws-proxy-port");
const FORCE_H2: HeaderName = HeaderName::from_static("x-aws-proxy-force-h2");
/// Names a VM where the host does not; Warren's own.
const MICROVM: HeaderName = HeaderName::from_static("x-warren-microvm");
/// So does a path that begins with this, then the VM, then the app's path; Warren's own.
const PATH_PREFIX: &str = "/_warren/vm/";

/// The port of requests that name none.
const PORT_DEFAULT: u16 = 8080;

/// Subprotocols of a WebSocket handshake that are the gateway's: the marker, and its prefixes.
pub(crate) const MARKER: &str = "lambda-microvms";
const MARKER_AUTH: &str = "lambda-microvms.authentication.";
const MARKER_PORT: &str = "lambda-microvms.port.";

/// What the gateway took out of a request.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) named: Named,
    pub(crate) token: Option<String>,
    /// As given; none: [`PORT_DEFAULT`].
    port: Option<u16>,
    pub(crate) upgrade: Upgrade,
    pub(crate) wants: Wants,
}

/// How the VM was named.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Named {
    /// By the host of the request, here in lower case and without a port.
    Host(String),
    /// By path or header.
    Name(String),
    Nothing,
}

/// What a connection is to become.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Upgrade {
    None,
    WebSocket(Marker),
    /// Another protocol; its name.
    Other(HeaderValue),
}

/// Whether a WebSocket handshake offered the gateway's subprotocols.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Marker {
    Offered,
    Absent,
}

/// Which HTTP the app is to be spoken to in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wants {
    Http1,
    /// HTTP/2 whatever it costs: asked for, or gRPC, which there is on nothing else.
    Http2,
    /// HTTP/1.1 to a plain app; a TLS one chooses.
    Either,
}

impl Asked {
    /// Takes it out of the request's head.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] for what cannot be understood in one way only.
    pub(crate) fn take(
        parts: &mut Parts,
        domain: &str,
        any_host: AnyHost,
    ) -> Result<Self, Refusal> {
        check(parts)?;
        let host = host_of(parts)?;
        let named = named(parts, &host, domain, any_host)?;
        let upgrade = upgrade_of(parts);
        let mut token = one(&parts.headers, &AUTH)?.map(str::to_owned);
        let mut port = one(&parts.headers, &PORT)?.map(port_number).transpose()?;
        let upgrade = match upgrade {
            Upgrade::WebSocket(_) => {
                let offered = take_offered(&mut parts.headers)?;
                token = token.or(offered.token);
                port = port.or(offered.port);
                Upgrade::WebSocket(offered.marker)
            }
            other @ (Upgrade::None | Upgrade::Other(_)) => other,
        };
        let wants = wants(parts, &upgrade)?;
        Ok(Self { named, token, port, upgrade, wants })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.unwrap_or(PORT_DEFAULT)
    }

    pub(crate) fn given_port(&self) -> Option<u16> {
        self.port
    }

    /// Whether it is the grant's VM that was named.
    pub(crate) fn names(&self, grant: &Grant) -> bool {
        let label = grant.endpoint.split('.').next().unwrap_or_default();
        let id = grant.microvm.as_str();
        let is_its_name =
            |name: &str| name == label || name == id || Some(name) == id.strip_prefix("microvm-");
        match &self.named {
            Named::Host(host) => {
                // Below the domain there is one label, as the certificate has it.
                *host == grant.endpoint || host.split('.').next().is_some_and(is_its_name)
            }
            Named::Name(name) => *name == grant.endpoint || is_its_name(name),
            Named::Nothing => false,
        }
    }
}

/// What no request to an app looks like.
fn check(parts: &Parts) -> Result<(), Refusal> {
    if parts.method == Method::CONNECT {
        return Err(Refusal::malformed("an endpoint is no forward proxy: CONNECT is refused"));
    }
    // hyper has seen to it that the last coding is chunked; any other coding before it would be
    // understood differently from server to server.
    let codings: Vec<&str> = listed(&parts.headers, &header::TRANSFER_ENCODING).collect();
    if codings.iter().any(|coding| !coding.eq_ignore_ascii_case("chunked")) || codings.len() > 1 {
        return Err(Refusal::malformed("the only transfer coding is chunked, once"));
    }
    if !codings.is_empty() && parts.headers.contains_key(header::CONTENT_LENGTH) {
        return Err(Refusal::malformed("a body has a length or is chunked, not both"));
    }
    if parts.headers.get_all(header::CONTENT_LENGTH).iter().count() > 1 {
        return Err(Refusal::malformed("more than one Content-Length"));
    }
    Ok(())
}

/// The host that the request names, in lower case, without a port; empty where HTTP/1.0 names none.
fn host_of(parts: &Parts) -> Result<String, Refusal> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let (host, more) = (hosts.next(), hosts.next());
    if more.is_some() {
        return Err(Refusal::malformed("more than one Host"));
    }
    let host = match host {
        Some(host) => {
            let text = host.to_str().map_err(|_| Refusal::malformed("Host is not text"))?;
            Some(bare(text)?)
        }
        None => None,
    };
    let authority = parts.uri.authority().map(|authority| bare(authority.as_str())).transpose()?;
    match (authority, host) {
        (Some(authority), Some(host)) if authority != host => {
            Err(Refusal::malformed("Host and the request's target name two hosts"))
        }
        (Some(name), _) | (None, Some(name)) => Ok(name),
        (None, None) if parts.version == Version::HTTP_11 => Err(Refusal::malformed("no Host")),
        (None, None) => Ok(String::new()),
    }
}

fn bare(host: &str) -> Result<String, Refusal> {
    if host.is_empty() {
        return Ok(String::new());
    }
    let authority: uri::Authority =
        host.parse().map_err(|_| Refusal::malformed("Host is not a host name"))?;
    if authority.as_str().contains('@') {
        return Err(Refusal::malformed("Host names a user"));
    }
    Ok(authority.host().trim_end_matches('.').to_ascii_lowercase())
}

/// Which VM the host names, else the path or the header. What named it is taken away.
fn named(parts: &mut Parts, host: &str, domain: &str, any_host: AnyHost) -> Result<Named, Refusal> {
    let is_below = |name: &str| {
        let label = name.strip_suffix(domain).and_then(|label| label.strip_suffix('.'));
        label.is_some_and(|label| !label.is_empty() && !label.contains('.'))
    };
    if is_below(host) {
        return Ok(Named::Host(host.to_owned()));
    }
    if any_host == AnyHost::Refused {
        return Ok(Named::Nothing);
    }
    let by_header = one(&parts.headers, &MICROVM)?.map(str::to_ascii_lowercase);
    parts.headers.remove(MICROVM);
    if let Some(name) = by_header {
        return Ok(Named::Name(name));
    }
    let Some(rest) = parts.uri.path().strip_prefix(PATH_PREFIX) else { return Ok(Named::Nothing) };
    let (name, path) = rest.split_once('/').unwrap_or((rest, ""));
    let name = name.to_ascii_lowercase();
    let path = match parts.uri.query() {
        Some(query) => format!("/{path}?{query}"),
        None => format!("/{path}"),
    };
    let path = path.parse().map_err(|_| Refusal::malformed("the path below the VM's is none"))?;
    let mut whole = std::mem::take(&mut parts.uri).into_parts();
    whole.path_and_query = Some(path);
    parts.uri = http::Uri::from_parts(whole)
        .map_err(|_| Refusal::malformed("the path below the VM's is none"))?;
    Ok(Named::Name(name))
}

/// The one value of a header of the gateway's.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
    let mut lines = headers.get_all(name).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(Refusal::malformed(format!("{name} is given twice")));
    }
    let text = line.to_str().map_err(|_| Refusal::malformed(format!("{name} is not text")))?;
    Ok(Some(text.trim()))
}

fn port_number(text: &str) -> Result<u16, Refusal> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let port = text.parse().ok().filter(|port| digits && *port != 0);
    port.ok_or_else(|| Refusal::malformed("the port is not a number from 1 to 65535"))
}

/// HTTP/1.1 alone can be upgraded, and never to another HTTP or to TLS: that would be a second
/// connection to the app past everything that is decided here.
fn upgrade_of(parts: &Parts) -> Upgrade {
    let asked = parts.version == Version::HTTP_11
        && listed(&parts.headers, &header::CONNECTION)
            .any(|token| token.eq_ignore_ascii_case("upgrade"));
    let Some(to) = parts.headers.get(header::UPGRADE).filter(|_| asked) else {
        return Upgrade::None;
    };
    let name = to.to_str().unwrap_or_default().to_ascii_lowercase();
    if name == "websocket" {
        return Upgrade::WebSocket(Marker::Absent);
    }
    let refused = name.is_empty()
        || name.split([',', ' ']).any(|p| p == "h2c" || p == "h2" || p == "websocket")
        || name.contains("http/")
        || name.contains("tls/");
    if refused { Upgrade::None } else { Upgrade::Other(to.clone()) }
}

struct Offered {
    token: Option<String>,
    port: Option<u16>,
    marker: Marker,
}

/// Takes the gateway's subprotocols out of the offer; the app sees its own only.
fn take_offered(headers: &mut HeaderMap) -> Result<Offered, Refusal> {
    let mut offered = Offered { token: None, port: None, marker: Marker::Absent };
    let mut own = Vec::new();
    let mut token_without_marker = None;
    for name in listed(headers, &header::SEC_WEBSOCKET_PROTOCOL) {
        if name == MARKER {
            offered.marker = Marker::Offered;
        } else if let Some(token) = name.strip_prefix(MARKER_AUTH) {
            token_without_marker.get_or_insert(token.to_owned());
        } else if let Some(port) = name.strip_prefix(MARKER_PORT) {
            offered.port = Some(port_number(port)?);
        } else {
            own.push(name.to_owned());
        }
    }
    if offered.marker == Marker::Offered {
        offered.token = token_without_marker;
    }
    headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
    if !own.is_empty() {
        let own = HeaderValue::from_str(&own.join(", "))
            .map_err(|_| Refusal::malformed("Sec-WebSocket-Protocol is not text"))?;
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, own);
    }
    Ok(offered)
}

fn wants(parts: &Parts, upgrade: &Upgrade) -> Result<Wants, Refusal> {
    if *upgrade != Upgrade::None {
        return Ok(Wants::Http1);
    }
    let forced = match one(&parts.headers, &FORCE_H2)? {
        None => false,
        Some(text) if text.eq_ignore_ascii_case("true") => true,
        Some(text) if text.eq_ignore_ascii_case("false") => false,
        Some(_) => return Err(Refusal::malformed(format!("{FORCE_H2} is true or false"))),
    };
    let kind = parts.headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let is_grpc = parts.version == Version::HTTP_2
        && kind.strip_prefix(b"application/grpc").is_some_and(|rest| !rest.starts_with(b"-web"));
    Ok(if forced || is_grpc { Wants::Http2 } else { Wants::Either })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    const DOMAIN: &str = "lambda-microvm.us-east-1.localhost";
    const ENDPOINT: &str = "4a1e.lambda-microvm.us-east-1.localhost";

    fn take(request: &mut http::request::Builder) -> (Result<Asked, Refusal>, Parts) {
        let request = std::mem::take(request).body(()).unwrap();
        let (mut parts, ()) = request.into_parts();
        (Asked::take(&mut parts, DOMAIN, AnyHost::Allowed), parts)
    }

    fn asked(request: &mut http::request::Builder) -> Asked {
        take(request).0.unwrap()
    }

    fn refused(request: &mut http::request::Builder) -> String {
        take(request).0.unwrap_err().to_string()
    }

    fn get(uri: &str) -> http::request::Builder {
        Request::get(uri).header("host", ENDPOINT)
    }

    #[test]
    fn the_host_names_the_vm_whatever_its_case_port_or_final_dot() {
        for host in [ENDPOINT, &ENDPOINT.to_uppercase(), &format!("{ENDPOINT}.:7421")] {
            let asked = asked(&mut Request::get("/").header("host", host));
            assert_eq!(asked.named, Named::Host(ENDPOINT.to_owned()), "{host}");
        }
        for host in ["localhost:7421", DOMAIN, &format!("a.{ENDPOINT}"), "x.on.aws", "[::1]:1"] {
            let asked = asked(&mut Request::get("/").header("host", host));
            assert_eq!(asked.named, Named::Nothing, "{host}");
        }
    }

    #[test]
    fn elsewhere_a_header_or_the_path_names_it_and_is_taken_away() {
        let mut by_path = Request::get("/_warren/vm/4A1E/a%2Fb//c?d=/e").header("host", "x");
        let (asked, parts) = take(&mut by_path);
        assert_eq!(asked.unwrap().named, Named::Name("4a1e".to_owned()));
        assert_eq!(parts.uri, "/a%2Fb//c?d=/e");
        let mut by_header = Request::get("/p").header("host", "x").header(MICROVM, "4a1e");
        let (asked, parts) = take(&mut by_header);
        assert_eq!(asked.unwrap().named, Named::Name("4a1e".to_owned()));
        assert!(!parts.headers.contains_key(MICROVM));
        // Under an endpoint's name neither means anything.
        let mut both = get("/_warren/vm/other/").header(MICROVM, "other");
        assert_eq!(take(&mut both).0.unwrap().named, Named::Host(ENDPOINT.to_owned()));
    }

    #[test]
    fn a_port_is_the_headers_else_the_subprotocols_else_8080() {
        assert_eq!(asked(&mut get("/")).port(), 8080);
        assert_eq!(asked(&mut get("/").header(PORT, "9000")).port(), 9000);
        for bad in ["0", "65536", "-1", "+1", "8080a", "", "0x50"] {
            let text = refused(&mut get("/").header(PORT, bad));
            assert!(text.contains("1 to 65535"), "{bad}: {text}");
        }
        assert!(refused(&mut get("/").header(PORT, "1").header(PORT, "2")).contains("twice"));
        let offer = "lambda-microvms, lambda-microvms.port.7000, lambda-microvms.authentication.t";
        let websocket = |b: http::request::Builder| {
            b.header("connection", "keep-alive, Upgrade").header("upgrade", "WebSocket")
        };
        let mut offered = websocket(get("/")).header("sec-websocket-protocol", offer);
        let both = asked(&mut offered);
        assert_eq!((both.port(), both.token.as_deref()), (7000, Some("t")));
        let mut offered = websocket(get("/")).header("sec-websocket-protocol", offer);
        offered = offered.header(PORT, "9000").header(AUTH, "u");
        let header = asked(&mut offered);
        assert_eq!((header.port(), header.token.as_deref()), (9000, Some("u")));
    }

    #[test]
    fn the_app_sees_its_own_subprotocols_only() {
        let mut request = get("/")
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-protocol", "lambda-microvms, chat.v1")
            .header("sec-websocket-protocol", "lambda-microvms.authentication.t,chat.v2");
        let (asked, parts) = take(&mut request);
        let asked = asked.unwrap();
        assert_eq!(asked.upgrade, Upgrade::WebSocket(Marker::Offered));
        assert_eq!(asked.wants, Wants::Http1);
        assert_eq!(parts.headers["sec-websocket-protocol"], "chat.v1, chat.v2");
        // Without the marker the token is none.
        let mut request = get("/")
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-protocol", "lambda-microvms.authentication.t");
        assert_eq!(take(&mut request).0.unwrap().token, None);
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        assert!(refused(&mut get("/").header("host", "b")).contains("Host"));
        assert!(refused(&mut Request::get("/")).contains("no Host"));
        assert!(refused(&mut get("http://other/")).contains("two hosts"));
        assert!(refused(&mut get("/").method("CONNECT")).contains("CONNECT"));
        assert!(
            refused(&mut get("/").header("transfer-encoding", "gzip, chunked")).contains("once")
        );
        assert!(refused(&mut get("/").header("host", "u@h")).contains("Host"));
    }

    #[test]
    fn no_upgrade_leads_to_another_http() {
        for to in ["h2c", "HTTP/2.0", "TLS/1.2", "h2c, websocket"] {
            let mut request = get("/").header("connection", "upgrade").header("upgrade", to);
            assert_eq!(asked(&mut request).upgrade, Upgrade::None, "{to}");
        }
        let mut request = get("/").header("connection", "upgrade").header("upgrade", "x-raw");
        assert_eq!(asked(&mut request).upgrade, Upgrade::Other("x-raw".parse().unwrap()));
    }

    #[test]
    fn grpc_and_the_header_ask_for_http_2() {
        let grpc = |kind: &str| {
            asked(&mut get("/").version(Version::HTTP_2).header("content-type", kind)).wants
        };
        assert_eq!(grpc("application/grpc+proto"), Wants::Http2);
        assert_eq!(grpc("application/grpc-web"), Wants::Either);
        assert_eq!(asked(&mut get("/").header(FORCE_H2, "True")).wants, Wants::Http2);
        assert_eq!(asked(&mut get("/").header(FORCE_H2, "false")).wants, Wants::Either);
        assert!(refused(&mut get("/").header(FORCE_H2, "1")).contains("true or false"));
    }
}

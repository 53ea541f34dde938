//! Rules of the host's packet filter, as text for nft.
//!
//! Two tables: one on the host, for all VMs, and one in each VM's namespace. The host's own services
//! and its private networks are closed; the services that a VM may use are sockets inside its
//! namespace ([`crate::GuestSockets`]) and need no rule here.

use crate::{
    EngineError, command,
    slot::{self, Slot},
};
use std::path::Path;

/// What is not the internet: RFC 6890's special ranges, private networks and the VMs' own links.
const NOT_INTERNET: &str = "0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, \
     172.16.0.0/12, 192.0.0.0/24, 192.168.0.0/16, 198.18.0.0/15, 224.0.0.0/3";

/// The host's table. A VM reaches nothing of the host itself (`input`) nor another VM (`forward`).
/// Destinations are looked at here once more, since the host may have rewritten one on the way: a
/// published port of a container on it is a private address by now.
fn host_rules() -> String {
    format!(
        r#"
table ip warren
delete table ip warren
table ip warren {{
  chain input {{
    type filter hook input priority -10; policy accept;
    iifname "wv*" reject with icmp admin-prohibited
  }}
  chain forward {{
    type filter hook forward priority -10; policy accept;
    iifname "wv*" ct status dnat reject with icmp admin-prohibited
    iifname "wv*" ip daddr {{ {NOT_INTERNET} }} reject with icmp admin-prohibited
    iifname "wv*" oifname "wv*" drop
    iifname "wv*" accept
    oifname "wv*" ct state established,related accept
    oifname "wv*" drop
  }}
  chain postrouting {{
    type nat hook postrouting priority 100;
    ip saddr 198.18.0.0/15 oifname != "wv*" masquerade
  }}
}}
"#
    )
}

/// Puts the host's table up and lets the host forward. It stays as long as a slot is taken, the one that
/// is shown here among them. Done for each VM: something may have emptied the host's rules meanwhile.
pub(crate) fn put_up(_taken: Slot) -> Result<(), EngineError> {
    let forward = Path::new("/proc/sys/net/ipv4/ip_forward");
    std::fs::write(forward, "1").map_err(|e| crate::state::host_error(forward, "write 1", e))?;
    command::run("nft", &["-f", "-"], &host_rules())
}

/// Takes the host's table down when the last VM of the machine is gone.
pub(crate) fn take_down(_: &slot::Lock) -> Result<(), EngineError> {
    command::run("nft", &["-f", "-"], "table ip warren\ndelete table ip warren\n")
}

/// The table of a VM's namespace.
pub(crate) fn namespace_rules(internet: bool) -> String {
    let accept = if internet { "iifname \"tap0\" oifname \"up0\" accept" } else { "" };
    format!(
        r#"
table ip warren {{
  chain forward {{
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    iifname "tap0" ip daddr {{ {NOT_INTERNET} }} reject with icmp admin-prohibited
    {accept}
    iifname "tap0" reject with icmp admin-prohibited
  }}
  chain postrouting {{
    type nat hook postrouting priority 100;
    oifname "up0" masquerade
  }}
}}
"#
    )
}

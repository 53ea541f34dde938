//! The network of a sandbox: a link to this host that leads to the internet and nowhere else, or none.
//!
//! The same rule as for VMs: nothing of the host itself, none of its private networks, no other
//! build. The one exception are the host's name servers, for names alone.
//!
//! A link has a number, held as a lock on a file: two Warrens on a machine never take the same one.

use crate::{
    error::BuildError,
    lock::{Hold, Lock},
    tool::{Job, Tool, ToolError},
};
use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

/// TEST-NET-2 (RFC 5737), which is on no real network: a /30 for each link.
const NETWORK: [u8; 3] = [198, 51, 100];
/// As many as the network has room for.
const LINKS_MAX: u8 = 64;
const LOCKS: &str = "/run/warren/builds";

/// RFC 6890's special ranges and private networks, as for VMs.
const NOT_INTERNET: &str = "0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, \
     172.16.0.0/12, 192.0.0.0/24, 192.168.0.0/16, 198.18.0.0/15, 198.51.100.0/24, 224.0.0.0/3";

/// What the steps of a Dockerfile reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    Internet,
    Nothing,
}

/// A number, and the link of this number once it is connected.
#[derive(Debug)]
pub(crate) struct Link {
    number: u8,
    reach: Reach,
    _lock: Lock,
}

impl Link {
    pub(crate) async fn reserve(reach: Reach, job: &Job) -> Result<Self, BuildError> {
        let dir = Path::new(LOCKS);
        fs::create_dir_all(dir).map_err(|source| BuildError::io("making", dir, source))?;
        for number in 0..LINKS_MAX {
            let file = dir.join(number.to_string());
            if let Some(lock) = Lock::try_take(&file, Hold::Exclusive)? {
                return Ok(Self { number, reach, _lock: lock });
            }
        }
        // More builds than links on one machine: they wait for the last.
        let number = LINKS_MAX - 1;
        let lock = Lock::take(&dir.join(number.to_string()), Hold::Exclusive, job).await?;
        Ok(Self { number, reach, _lock: lock })
    }

    pub(crate) fn number(&self) -> u8 {
        self.number
    }

    /// Connects the network namespace of this process. What a link of this number left is gone with
    /// its namespace.
    pub(crate) async fn connect(&self, pid: u32, job: &Job) -> Result<(), BuildError> {
        let inside = Tool::new("nsenter", "util-linux", "of a build's network");
        let inside = inside.args(["--target", &pid.to_string(), "--net", "--", "ip", "-batch"]);
        if self.reach == Reach::Nothing {
            return Ok(inside
                .arg("/dev/stdin")
                .input("link set lo up\n")
                .read(job)
                .await
                .map(drop)?);
        }
        let (host, own) = (self.address(1), self.address(2));
        let name = format!("wb{}", self.number);
        let rules = Tool::new("nft", "nftables", "of the builds' rules");
        rules.args(["-f", "-"]).input(&rules_for(&name_servers())).read(job).await?;
        let forward = Path::new("/proc/sys/net/ipv4/ip_forward");
        fs::write(forward, "1").map_err(|source| BuildError::io("writing", forward, source))?;
        self.remove_stale(&name, job).await;
        let outside = format!(
            "link add {name} type veth peer name up0 netns {pid}\n\
             addr add {host}/30 dev {name}\n\
             link set {name} up\n"
        );
        let ip = Tool::new("ip", "iproute2", "of a build's link");
        ip.args(["-batch", "-"]).input(&outside).read(job).await?;
        let script = format!(
            "link set lo up\naddr add {own}/30 dev up0\nlink set up0 up\n\
             route add default via {host}\n"
        );
        Ok(inside.arg("/dev/stdin").input(&script).read(job).await.map(drop)?)
    }

    /// The kernel removes a link some time after its namespace.
    async fn remove_stale(&self, name: &str, job: &Job) {
        if Path::new("/sys/class/net").join(name).exists() {
            let ip = Tool::new("ip", "iproute2", "of a stale link");
            // Gone meanwhile is as good.
            let _: Result<String, ToolError> = ip.args(["link", "del", name]).read(job).await;
        }
    }

    fn address(&self, host: u8) -> Ipv4Addr {
        let [a, b, c] = NETWORK;
        Ipv4Addr::new(a, b, c, self.number * 4 + host)
    }
}

fn rules_for(name_servers: &[Ipv4Addr]) -> String {
    let servers: Vec<String> = name_servers.iter().map(ToString::to_string).collect();
    let names = if servers.is_empty() {
        String::new()
    } else {
        let servers = servers.join(", ");
        format!(
            "iifname \"wb*\" ip daddr {{ {servers} }} meta l4proto {{ tcp, udp }} th dport 53 accept"
        )
    };
    format!(
        r#"
table inet warren_builds
delete table inet warren_builds
table inet warren_builds {{
  chain input {{
    type filter hook input priority -10; policy accept;
    iifname "wb*" drop
  }}
  chain forward {{
    type filter hook forward priority -10; policy accept;
    iifname "wb*" meta nfproto ipv6 drop
    {names}
    iifname "wb*" ct status dnat reject with icmp admin-prohibited
    iifname "wb*" ip daddr {{ {NOT_INTERNET} }} reject with icmp admin-prohibited
    iifname "wb*" accept
    oifname "wb*" ct state established,related accept
    oifname "wb*" drop
  }}
  chain postrouting {{
    type nat hook postrouting priority 100;
    ip saddr 198.51.100.0/24 oifname != "wb*" masquerade
  }}
}}
"#
    )
}

/// Those of this host that a build can reach: not the loopback's, behind which systemd-resolved
/// keeps the real ones in a file of its own.
pub(crate) fn name_servers() -> Vec<Ipv4Addr> {
    ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"]
        .map(PathBuf::from)
        .iter()
        .map(|path| reachable(&fs::read_to_string(path).unwrap_or_default()))
        .find(|servers| !servers.is_empty())
        .unwrap_or_default()
}

fn reachable(resolv_conf: &str) -> Vec<Ipv4Addr> {
    resolv_conf
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|address| match address.trim().parse() {
            Ok(IpAddr::V4(address)) if !address.is_loopback() => Some(address),
            Ok(IpAddr::V4(_) | IpAddr::V6(_)) | Err(_) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stub_on_the_loopback_is_no_name_server_for_a_build() {
        let text = "# stub\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 10.1.2.3\nsearch x\n";
        assert_eq!(reachable(text), [Ipv4Addr::new(10, 1, 2, 3)]);
    }

    #[test]
    fn name_servers_are_open_for_names_alone() {
        let rules = rules_for(&[Ipv4Addr::new(10, 1, 2, 3)]);
        assert!(
            rules.contains("ip daddr { 10.1.2.3 } meta l4proto { tcp, udp } th dport 53 accept")
        );
        assert!(!rules_for(&[]).contains("dport"));
    }
}

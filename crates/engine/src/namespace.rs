//! A VM's network namespace: the same inside for each VM, so that a clone needs no configuration.
//!
//! ```text
//! guest eth0 10.0.0.2 --- tap0 10.0.0.1, 169.254.169.254 | up0 --- wvN (host) --- NAT --- internet
//!                         sockets: IMDS, AWS, platform, DNS
//! ```
//! The tap's MAC is fixed: the template's guest has it in its ARP cache. QEMU itself is not in this
//! namespace; it gets the tap as an open file.

use crate::{EngineError, GuestSockets, command, firewall, slot::Slot, state::host_error};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
};
use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    thread,
};
use tokio::net::TcpSocket;

/// The guest's own MAC address, in its template.
pub(crate) const GUEST_MAC: &str = "52:54:00:77:00:02";
/// The guest's address; its template has it.
pub(crate) const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const TAP_MAC: &str = "52:54:00:77:00:01";
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const IMDS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// Of our own: `ip netns` mounts `/run/netns` over itself at its first use, and what was mounted there before
/// cannot be removed any more.
const DIRECTORY: &str = "/run/warren/netns";

fn path(slot: Slot) -> PathBuf {
    Path::new(DIRECTORY).join(slot.name())
}

/// Makes the namespace of a slot with nothing in it but its tap; what is left of an earlier one is removed
/// first.
pub(crate) fn create(slot: Slot) -> Result<OwnedFd, EngineError> {
    remove(slot)?;
    let path = path(slot);
    fs::create_dir_all(DIRECTORY).map_err(|e| host_error(Path::new(DIRECTORY), "create", e))?;
    File::create_new(&path).map_err(|e| host_error(&path, "create", e))?;
    in_thread(|| {
        let failed = |action: &'static str| {
            let path = &path;
            move |e: nix::Error| host_error(path, action, e.into())
        };
        unshare(CloneFlags::CLONE_NEWNET).map_err(failed("a new network namespace"))?;
        let own = Some("/proc/thread-self/ns/net");
        mount(own, &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(failed("keep the namespace"))?;
        open_tap()
    })
}

/// A namespace's links, addresses and rules in the making, while its VMM starts.
pub(crate) struct Connecting(Option<thread::JoinHandle<Result<GuestSockets, EngineError>>>);

/// Connects a new namespace. The processes that do it take as long as a VMM to start.
pub(crate) fn connect(slot: Slot, internet: bool) -> Result<Connecting, EngineError> {
    let connected = move || {
        firewall::put_up(slot)?;
        let sockets = inside(slot, || configure(slot, internet))?;
        let (address, veth) = (slot.host_address(), slot.veth());
        let up = format!("addr add {address}/30 dev {veth}\nlink set {veth} up\n");
        command::run("ip", &["-batch", "-"], &up)?;
        Ok(sockets)
    };
    thread::Builder::new()
        .name("network".into())
        .spawn(connected)
        .map(|thread| Connecting(Some(thread)))
        .map_err(|e| host_error(Path::new(DIRECTORY), "start a thread", e))
}

impl Connecting {
    /// The guest may go on only after this.
    pub(crate) fn wait(mut self) -> Result<GuestSockets, EngineError> {
        match self.0.take().map(thread::JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => unreachable!("it is taken here and in drop only"),
        }
    }
}

impl Drop for Connecting {
    /// Whoever takes a failed launch back removes what is there, and no more may come.
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            let _ = thread.join();
        }
    }
}

/// Opens a namespace's sockets again, for a VM that was launched by an earlier process.
pub(crate) fn reopen(slot: Slot) -> Result<GuestSockets, EngineError> {
    inside(slot, listen)
}

/// Removes the namespace of a slot with all that is in it; succeeds where there is none.
pub(crate) fn remove(slot: Slot) -> Result<(), EngineError> {
    let path = path(slot);
    // Not mounted any more, or never: only the file is left then.
    let _ = umount2(&path, MntFlags::MNT_DETACH);
    match fs::remove_file(&path) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(host_error(&path, "remove", e)),
        _ => {}
    }
    // The pair goes with its namespace, but only when the kernel gets to it; a slot that is given out
    // again at once would meet the old name.
    if Path::new("/sys/class/net").join(slot.veth()).exists() {
        let _ = command::run("ip", &["link", "del", &slot.veth()], "");
    }
    Ok(())
}

/// Runs something in a slot's namespace.
fn inside<T: Send>(
    slot: Slot,
    body: impl FnOnce() -> Result<T, EngineError> + Send,
) -> Result<T, EngineError> {
    let path = path(slot);
    let file = File::open(&path).map_err(|e| host_error(&path, "open", e))?;
    in_thread(|| {
        setns(&file, CloneFlags::CLONE_NEWNET).map_err(|e| host_error(&path, "enter", e.into()))?;
        body()
    })
}

/// The namespace is the thread's, so each visit has a thread of its own.
fn in_thread<T: Send>(
    body: impl FnOnce() -> Result<T, EngineError> + Send,
) -> Result<T, EngineError> {
    thread::scope(|scope| {
        let visit = thread::Builder::new().name("netns".into()).spawn_scoped(scope, body);
        let visit = visit.map_err(|e| host_error(Path::new(DIRECTORY), "start a thread", e))?;
        visit.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn configure(slot: Slot, internet: bool) -> Result<GuestSockets, EngineError> {
    let daemon = std::process::id();
    let links = format!(
        "link add up0 type veth peer name {veth} netns {daemon}\n\
         link set lo up\n\
         link set tap0 address {TAP_MAC}\n\
         addr add {GATEWAY}/24 dev tap0\n\
         addr add {IMDS}/32 dev tap0\n\
         link set tap0 up\n\
         addr add {ours}/30 dev up0\n\
         link set up0 up\n\
         route add default via {host}\n",
        veth = slot.veth(),
        ours = slot.namespace_address(),
        host = slot.host_address(),
    );
    // No second way out: nothing here speaks IPv6.
    for (key, value) in
        [("ipv6/conf/all/disable_ipv6", "1"), ("ipv6/conf/default/disable_ipv6", "1")]
    {
        let _ = fs::write(Path::new("/proc/sys/net").join(key), value);
    }
    command::run("ip", &["-batch", "-"], &links)?;
    command::run("nft", &["-f", "-"], &firewall::namespace_rules(internet))?;
    // INVARIANT: forwarding comes after the rules, so that no packet passes before they stand.
    let forward = Path::new("/proc/sys/net/ipv4/ip_forward");
    fs::write(forward, "1").map_err(|e| host_error(forward, "write 1", e))?;
    listen()
}

fn open_tap() -> Result<OwnedFd, EngineError> {
    let device = Path::new("/dev/net/tun");
    let file = File::options()
        .read(true)
        .write(true)
        .open(device)
        .map_err(|e| host_error(device, "open", e))?;
    // SAFETY: ifreq is plain data for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"tap0") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags =
        (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which lives through the call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &mut request) };
    if result == 0 {
        Ok(file.into())
    } else {
        Err(host_error(device, "make tap0", io::Error::last_os_error()))
    }
}

fn listen() -> Result<GuestSockets, EngineError> {
    let tcp = |address: Ipv4Addr, port: u16| {
        let address = SocketAddrV4::new(address, port);
        TcpListener::bind(address)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(|e| {
                host_error(Path::new(&address.to_string()), "listen in the VM's namespace", e)
            })
    };
    let dns_udp = UdpSocket::bind((GATEWAY, 53))
        .and_then(|socket| socket.set_nonblocking(true).map(|()| socket))
        .map_err(|e| host_error(Path::new("10.0.0.1:53"), "bind in the VM's namespace", e))?;
    Ok(GuestSockets {
        imds: tcp(IMDS, 80)?,
        aws: tcp(GATEWAY, 7420)?,
        platform: tcp(GATEWAY, 7430)?,
        dns_udp,
        dns_tcp: tcp(GATEWAY, 53)?,
    })
}

/// A TCP socket of a VM's namespace, not connected yet: it stays there whoever uses it.
pub(crate) fn socket(slot: Slot) -> Result<TcpSocket, EngineError> {
    let path = path(slot);
    let file = File::open(&path).map_err(|e| host_error(&path, "open", e))?;
    in_thread(|| {
        setns(&file, CloneFlags::CLONE_NEWNET).map_err(|e| host_error(&path, "enter", e.into()))?;
        TcpSocket::new_v4().map_err(|e| host_error(&path, "make a socket", e))
    })
}

/// Bytes that the guest has sent and received, as its tap counts them.
pub(crate) fn traffic(slot: Slot) -> Result<(u64, u64), EngineError> {
    inside(slot, || {
        let counters = Path::new("/proc/thread-self/net/dev");
        let text = fs::read_to_string(counters).map_err(|e| host_error(counters, "read", e))?;
        Ok(tap_traffic(&text).unwrap_or_default())
    })
}

/// What the tap receives is what the guest sends.
fn tap_traffic(text: &str) -> Option<(u64, u64)> {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix("tap0:"))?;
    let mut fields = line.split_whitespace();
    let sent = fields.next()?.parse().ok()?;
    let received = fields.nth(7)?.parse().ok()?;
    Some((sent, received))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tap_is_read_from_the_guests_side() {
        let text = "Inter-| Receive | Transmit\n face |bytes packets\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  \
                    tap0:    500       5    0    0    0     0          0         0     9000      90    0    0    0     0       0          0\n";
        assert_eq!(tap_traffic(text), Some((500, 9000)));
    }
}

//! The network that every VM sees, the same in each: 10.0.0.2/24 behind 10.0.0.1.
//!
//! It is set once, before the template is saved, so that a clone needs no configuration. By ioctl,
//! since an image need not have any network tool in it.

use std::{
    collections::HashSet,
    fs, io, mem,
    net::Ipv4Addr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const NETMASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

pub(crate) fn configure() -> Result<(), String> {
    let socket = Socket::open().map_err(|e| format!("a socket for the network: {e}"))?;
    let step = |what: &str, result: io::Result<()>| result.map_err(|e| format!("{what}: {e}"));
    step("lo up", socket.up("lo"))?;
    step("eth0 address", socket.set_address("eth0", libc::SIOCSIFADDR, ADDRESS))?;
    step("eth0 netmask", socket.set_address("eth0", libc::SIOCSIFNETMASK, NETMASK))?;
    step("eth0 up", socket.up("eth0"))?;
    step("default route", socket.default_route(GATEWAY))?;
    // No IPv6 on this wire: without this a name with an AAAA record would be tried there first.
    let _ = fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
    Ok(())
}

struct Socket(OwnedFd);

fn request(interface: &str) -> libc::ifreq {
    // SAFETY: ifreq is plain data for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    request
}

fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let inet = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from(address).to_be() },
        sin_zero: [0; 8],
    };
    // SAFETY: both are plain data of 16 bytes; the family says which one it is.
    unsafe { mem::transmute(inet) }
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

impl Socket {
    fn open() -> io::Result<Self> {
        // SAFETY: a plain call; a result that is not negative is a new descriptor that we own.
        unsafe {
            let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
            if fd < 0 {
                Err(io::Error::last_os_error())
            } else {
                Ok(Self(OwnedFd::from_raw_fd(fd)))
            }
        }
    }

    fn up(&self, interface: &str) -> io::Result<()> {
        let mut request = request(interface);
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        // SAFETY: the kernel reads one ifreq, which lives through the call.
        checked(unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SIOCSIFFLAGS as _, &request) })
    }

    fn set_address(&self, interface: &str, what: libc::Ioctl, address: Ipv4Addr) -> io::Result<()> {
        let mut request = request(interface);
        request.ifr_ifru.ifru_addr = socket_address(address);
        // SAFETY: as above.
        checked(unsafe { libc::ioctl(self.0.as_raw_fd(), what, &request) })
    }

    fn default_route(&self, gateway: Ipv4Addr) -> io::Result<()> {
        // SAFETY: rtentry is plain data for which all zeroes is a value.
        let mut route: libc::rtentry = unsafe { mem::zeroed() };
        route.rt_dst = socket_address(Ipv4Addr::UNSPECIFIED);
        route.rt_genmask = socket_address(Ipv4Addr::UNSPECIFIED);
        route.rt_gateway = socket_address(gateway);
        route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
        // SAFETY: the kernel reads one rtentry, which lives through the call.
        checked(unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SIOCADDRT as _, &route) })
    }
}

/// Resets every TCP connection that leads out of the guest, whosever it is: its other end is in another
/// time, and who reads from it would wait for ever. The processes stand still meanwhile.
pub(crate) fn cut_connections() -> Result<(), String> {
    let mut inodes = HashSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        // Without IPv6 there is no second one.
        inodes.extend(outward(&fs::read_to_string(table).unwrap_or_default()));
    }
    if inodes.is_empty() {
        return Ok(());
    }
    let processes = fs::read_dir("/proc").map_err(|e| format!("/proc: {e}"))?;
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    for pid in pids {
        // Ended in this moment.
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        for entry in descriptors.flatten() {
            let link = fs::read_link(entry.path()).unwrap_or_default();
            let inode = link.to_str().and_then(|link| {
                link.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok()
            });
            let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if let (Some(inode), Some(number)) = (inode, number)
                && inodes.remove(&inode)
            {
                reset(pid, number).map_err(|e| format!("cut a connection of {pid}: {e}"))?;
            }
        }
    }
    Ok(())
}

/// Inodes of the connections of a table of the kernel's whose other end is not the guest itself.
fn outward(table: &str) -> Vec<u64> {
    const LISTEN: &str = "0A";
    let row = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (remote, state) = (*fields.get(2)?, *fields.get(3)?);
        let (address, _) = remote.split_once(':')?;
        let inode: u64 = fields.get(9)?.parse().ok()?;
        // The kernel prints words of the host's order: 127.0.0.1 is 0100007F, ::1 ends in 01000000.
        let own = match address.len() {
            8 => address.ends_with("7F"),
            _ => address.ends_with("0000000001000000") || address.ends_with("7F"),
        };
        (state != LISTEN && inode != 0 && !own).then_some(inode)
    };
    table.lines().skip(1).filter_map(row).collect()
}

/// Takes a copy of another process's socket and disconnects it: its owner is told `ECONNRESET`.
fn reset(pid: i32, number: i32) -> io::Result<()> {
    let owned = |fd: libc::c_long| {
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor that the kernel has just made for us.
        Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
    };
    // SAFETY: pidfd_open takes integers.
    let process = owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: pidfd_getfd takes integers.
    let socket =
        owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) })?;
    // SAFETY: sockaddr is plain data for which all zeroes is a value: AF_UNSPEC.
    let nobody: libc::sockaddr = unsafe { mem::zeroed() };
    let length = size_of::<libc::sockaddr>() as libc::socklen_t;
    // SAFETY: connect reads one sockaddr, which lives through the call.
    checked(unsafe { libc::connect(socket.as_raw_fd(), &raw const nobody, length) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{ErrorKind, Read},
        net::{TcpListener, TcpStream},
    };

    #[test]
    fn only_what_leads_out_of_the_guest_is_cut() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:2328 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1\n   \
            1: 0100007F:2328 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 12 1\n   \
            2: 0200000A:9C40 0100000A:1CFC 01 00000000:00000000 00:00000000 00000000     0        0 13 1\n   \
            3: 0200000A:9C42 0100000A:1CFC 06 00000000:00000000 00:00000000 00000000     0        0 0 1\n   \
            4: 0000000000000000FFFF00000200000A:1F90 0000000000000000FFFF00000100000A:D431 01 0:0 0:0 0 0 0 14 1\n   \
            5: 0000000000000000FFFF00000100007F:1F90 0000000000000000FFFF00000100007F:D431 01 0:0 0:0 0 0 0 15 1\n   \
            6: 00000000000000000000000001000000:1F90 00000000000000000000000001000000:D431 01 0:0 0:0 0 0 0 16 1\n";
        assert_eq!(outward(table), [13, 14]);
    }

    #[test]
    fn who_waits_on_a_connection_is_told_that_it_is_cut() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let _server = listener.accept().unwrap();
        reset(std::process::id() as i32, client.as_raw_fd()).unwrap();
        let told = client.read(&mut [0; 1]).unwrap_err().kind();
        assert!(matches!(told, ErrorKind::ConnectionReset | ErrorKind::NotConnected), "{told}");
    }
}

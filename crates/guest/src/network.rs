//! The network that every VM sees, the same in each: 10.0.0.2/24 behind 10.0.0.1.
//!
//! It is set once, before the template is saved, so that a clone needs no configuration. By ioctl,
//! since an image need not have any network tool in it.

use std::{
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

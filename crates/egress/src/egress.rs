//! All back doors of this host: attach a VM, detach it, ask what passed.

use crate::{
    accept::Tasks,
    imds::{Identity, Imds},
    imds_server,
    relay::{Relay, Target},
    resolver::{self, Resolver},
    role::{self, Role},
    stats::{Counters, EgressStats},
    upstream::Upstreams,
};
use async_trait::async_trait;
use control::{BackDoor, BackDoorError, Clock, MicrovmId, VmAttachment};
use engine::GuestSockets;
use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::net::{TcpListener, UdpSocket};

/// What back doors lead to.
#[derive(Clone, Debug)]
pub struct EgressConfig {
    /// Where the AWS API listens on this host, usually 127.0.0.1:7420.
    pub aws_api: SocketAddr,
    /// The Managed Agents platform, where that is not on the internet. None: a guest that calls
    /// the relay is reset.
    pub platform: Option<Target>,
    /// The host's resolv.conf(5), usually /etc/resolv.conf.
    pub resolv_conf: PathBuf,
}

/// The back doors of all VMs on this host; what [`control::Control`] is given as its
/// [`BackDoor`].
pub struct Egress {
    config: EgressConfig,
    clock: Arc<dyn Clock>,
    upstreams: Arc<Upstreams>,
    attached: Mutex<HashMap<MicrovmId, Attached>>,
}

/// A VM that is served.
struct Attached {
    tasks: Tasks,
    counters: Arc<Counters>,
}

impl Egress {
    /// Serves nothing yet. `clock` must be the one that credentials are issued by.
    pub fn new(config: EgressConfig, clock: Arc<dyn Clock>) -> Self {
        let upstreams = Arc::new(Upstreams::new(config.resolv_conf.clone()));
        Self { config, clock, upstreams, attached: Mutex::default() }
    }

    /// What has passed through a VM's back door since it was attached; None where it is not.
    pub fn stats(&self, id: &MicrovmId) -> Option<EgressStats> {
        self.attached().get(id).map(|vm| vm.counters.read())
    }

    /// Closes every back door. The VMs run on and are attached again by the next process.
    pub async fn shut_down(&self) {
        let all: Vec<Attached> = self.attached().drain().map(|(_, vm)| vm).collect();
        for vm in all {
            vm.tasks.end().await;
        }
    }

    fn attached(&self) -> MutexGuard<'_, HashMap<MicrovmId, Attached>> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to serve; the sockets are closed when the tasks end.
    fn open(&self, imds: Imds, sockets: GuestSockets) -> io::Result<Attached> {
        let (tasks, counters) = (Tasks::new(), Arc::new(Counters::default()));
        let aws = self.config.aws_api;
        let aws = Target { host: aws.ip().to_string(), port: aws.port() };
        // All sockets first: a VM is served whole or not at all.
        let imds_socket = tcp(sockets.imds)?;
        let aws_socket = tcp(sockets.aws)?;
        let platform_socket = tcp(sockets.platform)?;
        let dns_tcp = tcp(sockets.dns_tcp)?;
        sockets.dns_udp.set_nonblocking(true)?;
        let dns_udp = UdpSocket::from_std(sockets.dns_udp)?;

        imds_server::serve(&tasks, imds_socket, imds, counters.clone());
        let to_aws = Relay::new("AWS API", Some(aws), counters.clone(), |all| &all.aws);
        to_aws.serve(&tasks, aws_socket);
        let platform = self.config.platform.clone();
        let to_platform = Relay::new("platform", platform, counters.clone(), |all| &all.platform);
        to_platform.serve(&tasks, platform_socket);
        let upstreams = self.upstreams.clone();
        resolver::serve(
            &tasks,
            dns_udp,
            dns_tcp,
            Resolver { upstreams, counters: counters.clone() },
        );
        Ok(Attached { tasks, counters })
    }

    async fn replace(&self, id: &MicrovmId, vm: Option<Attached>) {
        let old = match vm {
            Some(vm) => self.attached().insert(id.clone(), vm),
            None => self.attached().remove(id),
        };
        if let Some(old) = old {
            old.tasks.end().await;
        }
    }
}

#[async_trait]
impl BackDoor for Egress {
    async fn attach(&self, vm: VmAttachment, sockets: GuestSockets) -> Result<(), BackDoorError> {
        let VmAttachment { id, image, version, execution_role, credentials, .. } = vm;
        let role = execution_role.map(|role| {
            let issue =
                role::issue_from(credentials, (role, id.executor_session()), self.clock.clone());
            Role::new(issue, self.clock.clone())
        });
        let identity = Identity { id: id.clone(), image, version };
        let imds = Imds::new(identity, role, self.clock.clone());
        // The old sockets are closed first: both sets may be bound to the same addresses.
        self.replace(&id, None).await;
        let span = tracing::info_span!("back_door", microvm = %id);
        let attached = span
            .in_scope(|| self.open(imds, sockets))
            .map_err(|error| BackDoorError { id: id.clone(), reason: error.to_string() })?;
        self.replace(&id, Some(attached)).await;
        Ok(())
    }

    async fn detach(&self, id: &MicrovmId) {
        self.replace(id, None).await;
    }
}

fn tcp(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::{ImageArn, ImageVersion, SystemClock};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    fn sockets() -> GuestSockets {
        let tcp = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        GuestSockets {
            imds: tcp(),
            aws: tcp(),
            platform: tcp(),
            dns_udp: std::net::UdpSocket::bind("127.0.0.1:0").unwrap(),
            dns_tcp: tcp(),
        }
    }

    #[tokio::test]
    async fn a_vm_is_served_until_it_is_detached_and_then_nothing_is_left() {
        let aws = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = EgressConfig {
            aws_api: aws.local_addr().unwrap(),
            platform: None,
            resolv_conf: "/nonexistent".into(),
        };
        let egress = Egress::new(config, Arc::new(SystemClock));
        let identity = Identity {
            id: MicrovmId::random(),
            image: ImageArn::parse("arn:aws:lambda:us-east-1:000000000000:microvm-image:w")
                .unwrap(),
            version: ImageVersion::FIRST,
        };
        let id = identity.id.clone();
        let sockets = sockets();
        let doors = [&sockets.imds, &sockets.aws, &sockets.platform, &sockets.dns_tcp]
            .map(|socket| socket.local_addr().unwrap());
        let imds = Imds::new(identity, None, Arc::new(SystemClock));
        let vm = egress.open(imds, sockets).unwrap();
        egress.replace(&id, Some(vm)).await;

        let mut guest = TcpStream::connect(doors[1]).await.unwrap();
        let (mut host, _) = aws.accept().await.unwrap();
        guest.write_all(b"ping").await.unwrap();
        host.read_exact(&mut [0; 4]).await.unwrap();
        host.write_all(b"pong!").await.unwrap();
        guest.read_exact(&mut [0; 5]).await.unwrap();
        let stats = egress.stats(&id).unwrap().aws;
        assert_eq!((stats.open, stats.sent_bytes, stats.received_bytes), (1, 4, 5));

        egress.detach(&id).await;
        assert_eq!(egress.stats(&id), None);
        assert_eq!(host.read(&mut [0; 1]).await.unwrap_or(0), 0, "an open connection is cut");
        for door in doors {
            assert!(TcpStream::connect(door).await.is_err(), "{door} is still served");
        }
        egress.detach(&id).await;
    }
}

//! Serves the host's messages, in their order; what takes long has a thread of its own.

use crate::{
    app::{self, in_thread},
    exec::Execs,
    hook, identity,
    outbox::Outbox,
    power, process, say,
};
use nix::time::{ClockId, clock_gettime};
use std::{convert::Infallible, fs::File, io::Read, thread::sleep, time::Duration};
use wire::{App, FrameReader, GuestMessage, HostMessage, StreamId};

/// Between two looks at a port with no host behind it.
const HOST_AWAY_WAIT: Duration = Duration::from_millis(20);

/// Never returns but by an error that leaves nothing to serve with.
pub(crate) fn serve(mut port: File) -> Result<Infallible, String> {
    process::start_reaper()?;
    app::make_group()?;
    let writer = port.try_clone().map_err(|e| format!("the agent port: {e}"))?;
    let outbox = Outbox::start(writer)?;
    let mut agent = Agent { execs: Execs::new(outbox.clone()), outbox, app: App::default() };
    let mut reader = FrameReader::<HostMessage>::default();
    let mut piece = [0; 16 * 1024];
    loop {
        match port.read(&mut piece) {
            // The host is away: an incomplete message will never be completed.
            Ok(0) => {
                reader.lose_track();
                sleep(HOST_AWAY_WAIT);
            }
            Ok(n) => reader.push(&piece[..n]),
            Err(e) => {
                say(format_args!("the agent port: {e}"));
                sleep(HOST_AWAY_WAIT);
            }
        }
        loop {
            match reader.next_message() {
                Ok(Some(message)) => agent.handle(message),
                Ok(None) => break,
                Err(e) => {
                    say(e);
                    break;
                }
            }
        }
    }
}

struct Agent {
    outbox: Outbox,
    execs: Execs,
    app: App,
}

impl Agent {
    fn handle(&mut self, message: HostMessage) {
        match message {
            // Of another version, too: the host decides what that means.
            HostMessage::Hello { session, .. } => self.hello(session),
            HostMessage::StartApp { call, app } => {
                self.app = app;
                self.done(call, app::start(&self.app, &self.outbox));
            }
            HostMessage::Freeze { call } => {
                let result = app::freeze();
                self.outbox.drain();
                self.done(call, result);
            }
            HostMessage::Hold { call } => {
                app::hold();
                self.outbox.drain();
                self.done(call, Ok(()));
            }
            HostMessage::Wake { call, wake } => {
                self.done(call, identity::wake(&wake).and_then(|()| app::thaw()));
            }
            HostMessage::Hook { call, request } => {
                let outbox = self.outbox.clone();
                let started = in_thread("hook", move || {
                    let outcome = hook::call(&request);
                    outbox.answer(&GuestMessage::HookAnswered { call, outcome });
                });
                if started.is_err() {
                    self.done(call, started);
                }
            }
            HostMessage::Exec { stream, request } => self.execs.start(stream, &request, &self.app),
            HostMessage::Input { stream, data } => self.execs.input(stream, data),
            HostMessage::Resize { stream, size } => self.execs.resize(stream, size),
            HostMessage::Signal { stream, signal } => self.execs.signal(stream, signal),
            HostMessage::Credit { stream, bytes } => self.execs.credit(stream, bytes),
            HostMessage::PowerOff { grace_ms } => {
                let grace = Duration::from_millis(grace_ms.into());
                power::off_in_order(self.app.stop_signal, grace)
            }
            HostMessage::Ping { call } => self.outbox.answer(&GuestMessage::Pong { call }),
        }
    }

    fn hello(&mut self, session: u64) {
        self.execs.hang_up();
        // BOOTTIME and not MONOTONIC: it is what the host compares with its own.
        let boot = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
        let (boot_ms, version) = (boot.as_millis() as u64, wire::VERSION);
        let hello = GuestMessage::Hello { session, boot_ms, version };
        self.outbox.begin_session(&hello);
    }

    fn done(&self, call: StreamId, result: Result<(), String>) {
        self.outbox.answer(&match result {
            Ok(()) => GuestMessage::Done { call },
            Err(error) => GuestMessage::Failed { call, error },
        });
    }
}

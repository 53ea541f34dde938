//! The programs of others that Warren drives: there, and in which version?

use crate::protocol::Check;
use std::{process::Stdio, time::Duration};
use tokio::process::Command;

/// Longest time that a program may take to say its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);

struct Tool {
    program: &'static str,
    /// How it is asked for its version.
    version: &'static str,
    package: &'static str,
    purpose: &'static str,
}

/// Those of `scripts/setup` that are needed at run time.
const TOOLS: &[Tool] = &[
    Tool {
        program: "qemu-system-x86_64",
        version: "--version",
        package: "qemu-system-x86",
        purpose: "runs the microVMs",
    },
    Tool {
        program: "qemu-img",
        version: "--version",
        package: "qemu-utils",
        purpose: "makes their copy-on-write disks",
    },
    Tool {
        program: "buildah",
        version: "--version",
        package: "buildah",
        purpose: "builds images from Dockerfiles",
    },
    Tool {
        program: "mmdebstrap",
        version: "--version",
        package: "mmdebstrap",
        purpose: "makes the base image",
    },
    Tool {
        program: "mke2fs",
        version: "-V",
        package: "e2fsprogs",
        purpose: "makes root filesystems",
    },
    Tool {
        program: "nft",
        version: "--version",
        package: "nftables",
        purpose: "firewall and NAT of each VM",
    },
    Tool {
        program: "ip",
        version: "-V",
        package: "iproute2",
        purpose: "network namespace of each VM",
    },
];

pub(super) async fn tools() -> Vec<Check> {
    futures::future::join_all(TOOLS.iter().map(check)).await
}

async fn check(tool: &Tool) -> Check {
    let asked = Command::new(tool.program)
        .arg(tool.version)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let remedy = format!("it {}: apt-get install {}, or scripts/setup", tool.purpose, tool.package);
    match tokio::time::timeout(VERSION_TIMEOUT, asked).await {
        Ok(Ok(output)) => {
            // mke2fs says it on standard error.
            let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
            let text = String::from_utf8_lossy(&text);
            Check::ok(tool.program, text.lines().next().unwrap_or("there").trim())
        }
        Ok(Err(e)) if e.kind() == std::io::ErrorKind::NotFound => {
            Check::broken(tool.program, "not installed", remedy)
        }
        Ok(Err(e)) => Check::broken(tool.program, format!("does not run: {e}"), remedy),
        Err(_) => Check::broken(
            tool.program,
            format!("did not say its version within {} s", VERSION_TIMEOUT.as_secs()),
            remedy,
        ),
    }
}

//! The proxy under test: a child process that is known by its command line, its port and its answers alone.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::support::load::Client;

/// Time a gateway has to answer its health check after the start.
const START_LIMIT: Duration = Duration::from_secs(10);
/// Pause between two looks at the health check.
const POLL: Duration = Duration::from_millis(10);
/// Time a health check may take.
const HEALTH_LIMIT: Duration = Duration::from_secs(1);

/// A running gateway; killed at the latest when dropped.
#[derive(Debug)]
pub struct Gateway {
    child: Child,
    addr: SocketAddr,
}

impl Gateway {
    /// Starts the binary with these backends and flags and waits until `GET /health` answers 200.
    ///
    /// # Errors
    /// When it cannot be started, ends by itself, or stays silent.
    pub async fn spawn(binary: &Path, backends: &[String], flags: &[&str]) -> io::Result<Self> {
        let addr = free_port()?;
        let mut command = Command::new(binary);
        command.arg("--listen").arg(addr.to_string());
        for backend in backends {
            command.arg("--backend").arg(backend);
        }
        command.args(flags).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        let child = command.spawn().map_err(|error| {
            io::Error::new(error.kind(), format!("the gateway {} cannot be started: {error}", binary.display()))
        })?;
        let mut gateway = Self { child, addr };
        gateway.wait_until_healthy().await?;
        Ok(gateway)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Ends it and waits for its end, so that the next one has the machine to itself.
    pub async fn stop(mut self) {
        // It may have ended by itself, which the scenario has noticed.
        let _ = self.child.kill().await;
    }

    async fn wait_until_healthy(&mut self) -> io::Result<()> {
        let end = Instant::now() + START_LIMIT;
        let client = Client::new(self.addr);
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("the gateway ended at its start: {status}")));
            }
            if matches!(timeout(HEALTH_LIMIT, client.status("/health")).await, Ok(Ok(200))) {
                return Ok(());
            }
            sleep(POLL).await;
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("the gateway did not answer /health in {START_LIMIT:?}")))
    }
}

/// A port that was free a moment ago; a child cannot report the one it chose itself.
fn free_port() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

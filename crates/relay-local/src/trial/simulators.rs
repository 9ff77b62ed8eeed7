//! The simulators of a running relay.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use relay_core::account::DestinationKind;
use relay_core::delivery::Direction;
use relay_simulator::{Clay, ClayOptions, Loops, LoopsOptions};
use relay_sqlite::data_dir::config::LocalSettings;
use tokio::net::TcpListener;

use crate::reloading_secrets::SIMULATED_API_KEY;

/// A simulator for each destination that is not configured.
#[derive(Debug)]
pub(crate) struct Simulators {
    pub(crate) clay: Option<Clay>,
    pub(crate) loops: Option<Loops>,
}

impl Simulators {
    /// Starts them, on the ports after the relay's if they are free.
    pub(crate) async fn start(settings: &LocalSettings, relay_address: SocketAddr) -> io::Result<Self> {
        let mut simulators = Self { clay: None, loops: None };
        if settings.destination(Direction::LoopsToClay) == DestinationKind::Simulated {
            let auth_token = settings.simulated_clay_token.clone().map(Into::into);
            let options = ClayOptions { auth_token, ..ClayOptions::default() };
            simulators.clay = Some(Clay::start(bind_loopback_after(relay_address, 1).await?, options).await?);
        }
        if settings.destination(Direction::ClayToLoops) == DestinationKind::Simulated {
            let options = LoopsOptions { api_key: SIMULATED_API_KEY.into(), ..LoopsOptions::default() };
            simulators.loops = Some(Loops::start(bind_loopback_after(relay_address, 2).await?, options).await?);
        }
        Ok(simulators)
    }
}

async fn bind_loopback_after(relay_address: SocketAddr, offset: u16) -> io::Result<TcpListener> {
    let port = relay_address.port().checked_add(offset).unwrap_or(0);
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await,
    }
}

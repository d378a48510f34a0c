//! What is asked: the author's amendments, and environments that come with
//! them while the swarm runs.

use std::sync::Arc;

use anyhow::Result;
use swarm_core::curriculum::Amendment;
use swarm_core::event::LogLevel;
use swarm_core::ids::PeerId;
use swarm_core::round::Input;
use tasks::{EnvId, Environment};

use super::{Finished, Peer};
use crate::curriculum::Asked;
use crate::net::PeerAddr;
use crate::packages;

impl Peer {
    /// Amendments that came into the home since it was last looked at.
    pub(super) fn new_amendments(&mut self) -> Vec<Input> {
        let (amendments, hub) = (self.setup.amendments.clone(), self.setup.hub.clone());
        let warn = |text: String| hub.log(LogLevel::Warn, "curriculum", text);
        match amendments.fresh(&mut self.seen) {
            Ok((found, damaged)) => {
                damaged.into_iter().for_each(warn);
                let found = found.into_iter();
                found
                    .map(|amendment| Input::Amendment(Box::new(amendment)))
                    .collect()
            }
            Err(error) => {
                warn(format!("{error:#}"));
                Vec::new()
            }
        }
    }

    /// Keeps an amendment for the next start, and serves what it names to
    /// whoever lacks it.
    pub(super) async fn keep_amendment(&mut self, amendment: &Amendment) {
        let kept = self.setup.amendments.keep(amendment);
        let mut problems: Vec<anyhow::Error> = kept.err().into_iter().collect();
        for env in amendment.environments() {
            if let Err(error) = serve(&self.net, &self.setup.store, env).await {
                problems.push(error);
            }
        }
        for error in problems {
            let text = format!("{error:#}");
            self.setup.hub.log(LogLevel::Warn, "curriculum", text);
        }
    }

    /// Gets an environment from this home, where another peer of it may have
    /// put it, or from peers.
    pub(super) fn obtain(&mut self, env: EnvId, from: &[PeerId]) {
        let (net, store) = (self.net.clone(), self.setup.store.clone());
        let from: Vec<PeerAddr> = from.iter().map(|peer| PeerAddr::of(peer.0)).collect();
        self.spawn("talking", async move {
            let result = async {
                let environment = packages::here_or_obtain(&net, &store, env, &from).await?;
                serve(&net, &store, env).await?;
                Ok(environment)
            };
            Finished::Environment {
                env,
                result: result.await,
            }
        });
    }

    pub(super) fn obtained(&mut self, env: EnvId, result: Result<Arc<dyn Environment>>) {
        let hub = &self.setup.hub;
        match result {
            Ok(environment) => {
                let name = &environment.manifest().name;
                let text = format!(
                    "environment {} ({name}) is here now; its golden vectors hold",
                    env.to_hex()
                );
                hub.log(LogLevel::Info, "environments", text);
                self.machine.add_environment(environment);
                // It may have fallen silent as a witness for want of it.
                if let Some(chain) = self.setup.chain.clone() {
                    self.spawn("chain", async move {
                        match chain.check_in().await {
                            Ok(()) => Finished::Nothing,
                            Err(error) => Finished::Failed {
                                what: "checking in",
                                error,
                            },
                        }
                    });
                }
            }
            Err(error) => {
                let text = format!("{error:#}; its items are left to the others for now");
                hub.log(LogLevel::Warn, "environments", text);
                self.machine.environment_failed(env);
            }
        }
    }

    /// For the report: what is asked, where it differs from before.
    pub(super) fn asked(&mut self, asked: Asked) {
        let before = self.outcome.asked.last();
        if before.is_none_or(|before| asked.differs(before)) {
            self.outcome.asked.push(asked);
        }
    }
}

/// Gives a package of the home to whoever asks.
async fn serve(net: &crate::net::Net, store: &packages::Store, env: EnvId) -> Result<()> {
    for body in store.bodies(env)? {
        net.serve(body).await?;
    }
    Ok(())
}

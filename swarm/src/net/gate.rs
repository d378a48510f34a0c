//! Who may read our bodies, and how many at once.
//!
//! Anyone who knows a hash may read the body; nobody may list, push or watch.
//! Requests beyond the limits are refused at once with "busy", and a reader
//! that never finishes is cut off. A body that is only here in part is not here:
//! the store would tell the reader of an empty one, which its hash does not name,
//! and we would be taken for a liar.

use std::collections::BTreeMap;
use std::sync::Arc;

use iroh::EndpointId;
use iroh_blobs::api::Store;
use iroh_blobs::api::blobs::BlobStatus;
use iroh_blobs::provider::events::{
    AbortReason, ConnectMode, EventMask, EventSender, ObserveMode, ProviderMessage, RequestMode,
    ThrottleMode,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::limits::{MAX_SERVES, MAX_SERVES_PER_PEER, SERVE_TIMEOUT};
use super::links::Registry;

/// Questions from the protocol waiting for the gate, which answers at once.
const QUESTIONS: usize = 64;

/// The provider's side of the gate, and the gate's own.
pub(super) fn channel() -> (EventSender, mpsc::Receiver<ProviderMessage>) {
    let mask = EventMask {
        connected: ConnectMode::Intercept,
        get: RequestMode::Intercept,
        get_many: RequestMode::Disabled,
        push: RequestMode::Disabled,
        observe: ObserveMode::Intercept,
        throttle: ThrottleMode::None,
    };
    EventSender::channel(QUESTIONS, mask)
}

/// Counts of running serves.
#[derive(Debug, Default)]
struct Serves {
    total: usize,
    by_peer: BTreeMap<EndpointId, usize>,
}

impl Serves {
    fn begin(&mut self, peer: EndpointId) -> bool {
        let own = self.by_peer.entry(peer).or_default();
        if *own >= MAX_SERVES_PER_PEER || self.total >= MAX_SERVES {
            return false;
        }
        *own += 1;
        self.total += 1;
        true
    }

    fn end(&mut self, peer: EndpointId) {
        self.total = self.total.saturating_sub(1);
        if let Some(own) = self.by_peer.get_mut(&peer) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                self.by_peer.remove(&peer);
            }
        }
    }
}

/// Answers the provider's questions until cancelled.
pub(super) async fn run(
    mut questions: mpsc::Receiver<ProviderMessage>,
    store: Store,
    registry: Arc<Registry>,
    cancel: CancellationToken,
) {
    let mut clients: BTreeMap<u64, EndpointId> = BTreeMap::new();
    let mut serves = Serves::default();
    let mut running = JoinSet::new();
    loop {
        let question = tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            Some(ended) = running.join_next(), if !running.is_empty() => {
                if let Ok(peer) = ended {
                    serves.end(peer);
                }
                continue;
            }
            question = questions.recv() => match question {
                Some(question) => question,
                None => break,
            },
        };
        match question {
            ProviderMessage::ClientConnected(message) => {
                let answer = match message.inner.endpoint_id {
                    Some(peer) => {
                        clients.insert(message.inner.connection_id, peer);
                        Ok(())
                    }
                    None => Err(AbortReason::Permission),
                };
                message.tx.send(answer).await.ok();
            }
            ProviderMessage::ConnectionClosed(message) => {
                clients.remove(&message.inner.connection_id);
            }
            ProviderMessage::GetRequestReceived(message) => {
                let connection = message.inner.connection_id;
                let single = message.inner.request.ranges.is_blob();
                let refusal = match clients.get(&connection) {
                    Some(peer) if single && serves.begin(*peer) => {
                        let (peer, registry, store) = (*peer, registry.clone(), store.clone());
                        running.spawn(async move {
                            let status = store.status(message.inner.request.hash).await;
                            if !matches!(status, Ok(BlobStatus::Complete { .. })) {
                                message.tx.send(Err(AbortReason::Permission)).await.ok();
                                return peer;
                            }
                            message.tx.send(Ok(())).await.ok();
                            let mut updates = message.rx;
                            // The sender goes away when the request is over.
                            let over = async { while let Ok(Some(_)) = updates.recv().await {} };
                            if timeout(SERVE_TIMEOUT, over).await.is_err() {
                                registry.close_connection(connection);
                            }
                            peer
                        });
                        continue;
                    }
                    Some(_) if single => AbortReason::RateLimited,
                    _ => AbortReason::Permission,
                };
                message.tx.send(Err(refusal)).await.ok();
            }
            ProviderMessage::ObserveRequestReceived(message) => {
                message.tx.send(Err(AbortReason::Permission)).await.ok();
            }
            // Everything else is disabled by the mask.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iroh::SecretKey;

    fn peer(n: u8) -> EndpointId {
        SecretKey::from_bytes(&[n; 32]).public()
    }

    #[test]
    fn one_peer_cannot_take_every_place() {
        let mut serves = Serves::default();
        let taken = (0..MAX_SERVES).filter(|_| serves.begin(peer(1))).count();
        assert_eq!(taken, MAX_SERVES_PER_PEER);
        assert!(serves.begin(peer(2)));
    }

    #[test]
    fn places_are_given_back_and_strangers_leave_no_trace() {
        let mut serves = Serves::default();
        let everyone: Vec<EndpointId> = (0..MAX_SERVES).map(|n| peer(n as u8)).collect();
        assert!(everyone.iter().all(|peer| serves.begin(*peer)));
        assert!(!serves.begin(peer(200)));
        for peer in &everyone {
            serves.end(*peer);
        }
        assert!(serves.begin(peer(200)));
        serves.end(peer(200));
        assert_eq!(serves.total, 0);
        assert!(serves.by_peer.is_empty());
    }
}

//! Bodies by hash between real endpoints.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_is_fetched_by_hash_and_served_on() {
    let nodes = swarm(3).await;
    for size in [0, 1, 1024, 16 * 1024 + 1, 1_000_000] {
        let body = body(size);
        let hash = nodes[0].net.serve(body.clone()).await.unwrap();
        assert_eq!(hash, *blake3::hash(&body).as_bytes());
        let from = [nodes[0].net.address()];
        let first = nodes[1].net.fetch(hash, size as u64, &from);
        assert_eq!(within("fetch", first).await.unwrap(), body);
        let from = [nodes[1].net.address()];
        let second = nodes[2].net.fetch(hash, size as u64, &from);
        assert_eq!(within("fetch", second).await.unwrap(), body);
    }
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_another_size_than_announced_is_refused_before_it_moves() {
    let nodes = swarm(2).await;
    let size = 8_000_000;
    let hash = nodes[0].net.serve(body(size)).await.unwrap();
    let from = [nodes[0].net.address()];
    let refused = within("fetch", nodes[1].net.fetch(hash, 100, &from)).await;
    assert!(matches!(
        refused,
        Err(FetchError::WrongSize { expected: 100, actual }) if actual == size as u64
    ));
    let received: u64 = nodes[1].net.links().iter().map(|link| link.received).sum();
    assert!(received < 200_000, "{received} bytes came for a refusal");
    let refused = nodes[1].net.fetch(hash, u64::MAX, &from).await;
    assert!(matches!(refused, Err(FetchError::TooLarge { .. })));
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_provider_does_not_keep_a_live_one_from_delivering() {
    let dead = nobody(77).await;
    let nodes = swarm(2).await;
    let body = body(50_000);
    let hash = nodes[0].net.serve(body.clone()).await.unwrap();
    let size = body.len() as u64;

    let alone = within(
        "fetch",
        nodes[1].net.fetch(hash, size, std::slice::from_ref(&dead)),
    )
    .await;
    let Err(FetchError::NoneDelivered(failures)) = alone else {
        panic!("a dead provider delivered: {alone:?}");
    };
    assert!(matches!(
        failures[..],
        [(id, ProviderFailure::Unreachable(_))] if id == dead.id
    ));

    let both = [dead, nodes[0].net.address()];
    let fetched = within("fetch", nodes[1].net.fetch(hash, size, &both)).await;
    assert_eq!(fetched.unwrap(), body);
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hash_that_nobody_has_is_missing_and_no_provider_is_an_error_of_its_own() {
    let nodes = swarm(2).await;
    let from = [nodes[0].net.address()];
    let missing = within("fetch", nodes[1].net.fetch([5; 32], 10, &from)).await;
    let Err(FetchError::NoneDelivered(failures)) = missing else {
        panic!("a body from nowhere: {missing:?}");
    };
    assert_eq!(failures, [(nodes[0].net.id(), ProviderFailure::Missing)]);
    let nobody = nodes[1].net.fetch([5; 32], 10, &[]).await;
    assert!(matches!(nobody, Err(FetchError::NoProvider)));
    let myself = [nodes[1].net.address()];
    let nobody = nodes[1].net.fetch([5; 32], 10, &myself).await;
    assert!(matches!(nobody, Err(FetchError::NoProvider)));
    for node in nodes {
        node.stop().await;
    }
}

/// A fetch under way, or one that failed, leaves an entry without a byte.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_has_only_a_part_of_a_body_is_no_liar() {
    let nodes = swarm(2).await;
    let body = body(50_000);
    let hash = *blake3::hash(&body).as_bytes();
    let content = iroh_blobs::HashAndFormat::raw(iroh_blobs::Hash::from_bytes(hash));
    let store = &nodes[0].net.inner.bodies.store;
    let part = store.remote().local(content).await.unwrap();
    assert!(!part.is_complete());
    let from = [nodes[0].net.address()];
    let missing = within("fetch", nodes[1].net.fetch(hash, 50_000, &from)).await;
    let Err(FetchError::NoneDelivered(failures)) = missing else {
        panic!("a part of a body: {missing:?}");
    };
    assert_eq!(failures, [(nodes[0].net.id(), ProviderFailure::Missing)]);
    nodes[0].net.serve(body.clone()).await.unwrap();
    let whole = within("fetch", nodes[1].net.fetch(hash, 50_000, &from)).await;
    assert_eq!(whole.unwrap(), body);
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_was_only_learnt_can_be_fetched_from() {
    let stranger = Node::start(NetConfig::local([50; 32], [1; 32])).await;
    let node = Node::start(config(51)).await;
    let body = body(3_000);
    let hash = stranger.net.serve(body.clone()).await.unwrap();
    let by_id = [PeerAddr::of(stranger.net.id())];
    assert!(matches!(
        within("fetch", node.net.fetch(hash, 3_000, &by_id)).await,
        Err(FetchError::NoneDelivered(_))
    ));
    node.net.learn(&stranger.net.address()).unwrap();
    assert_eq!(node.net.known(), [stranger.net.address()]);
    let fetched = within("fetch", node.net.fetch(hash, 3_000, &by_id)).await;
    assert_eq!(fetched.unwrap(), body);
    node.stop().await;
    stranger.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_never_were_neighbours_learn_where_to_fetch() {
    let mut nodes = vec![Node::start(config(100)).await];
    for n in 101..110 {
        let before = nodes.last().unwrap();
        let node = Node::joined_to(n, &[before]).await;
        nodes.push(node);
    }
    let body = body(10_000);
    let hash = nodes[0].net.serve(body.clone()).await.unwrap();
    let by_id = [PeerAddr::of(nodes[0].net.id())];
    for node in &mut nodes[1..] {
        within("the address", async {
            // Met, or a neighbour: each brings an event.
            while !node.net.known().iter().any(|peer| peer.id == by_id[0].id) {
                node.event().await;
            }
        })
        .await;
        let fetched = within("fetch", node.net.fetch(hash, 10_000, &by_id)).await;
        assert_eq!(fetched.unwrap(), body);
    }
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_in_a_folder_survive_a_restart_until_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let mut on_disk = config(60);
    on_disk.bodies = BodyStore::Folder(folder.path().join("bodies"));
    let node = Node::start(on_disk.clone()).await;
    let small = node.net.serve(body(100)).await.unwrap();
    let large = node.net.serve(body(100_000)).await.unwrap();
    node.stop().await;

    let node = Node::start(on_disk).await;
    assert_eq!(node.net.fetch(small, 100, &[]).await.unwrap(), body(100));
    let again = node.net.fetch(large, 100_000, &[]).await.unwrap();
    assert_eq!(again, body(100_000));
    assert_eq!(node.net.forget_all_but(&[small]).await.unwrap(), 1);
    assert_eq!(node.net.forget_all_but(&[small]).await.unwrap(), 0);
    node.net.forget(small).await.unwrap();
    assert_eq!(node.net.forget_all_but(&[]).await.unwrap(), 0);
    node.stop().await;
}

//! Whole swarms, simulated.

use swarm_core::sim::{Scenario, run};

#[test]
fn an_honest_swarm_on_a_good_network_settles_every_round() {
    let report = run(&Scenario::new(1, 4, 3));
    assert!(report.finished);
    assert_eq!(report.settled.len(), 3);
}

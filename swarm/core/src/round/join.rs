//! Arriving, and catching up: a node that is not in step listens until it
//! knows where the swarm is, and begins with an answer stage.

use super::{FOLLOWED, Machine, pace};
use crate::message::{Phase, Position};

impl Machine {
    /// Listens for peers, to begin with `target` or a later round.
    pub(super) fn join(&mut self, target: u64, patience_ms: u64) {
        self.at = Position {
            round: target,
            phase: Phase::Join,
        };
        self.began = self.now;
        self.deadline = self.now.saturating_add(patience_ms);
        self.say_hello();
    }

    /// Where the swarm is, as far as that can be believed: in a swarm of two
    /// the other's word is the majority's, and it could send us anywhere.
    fn prevailing(&self) -> Option<Position> {
        let swarm = self.roster.prevailing()?;
        let chained = self.config.manifest.chain.is_some();
        let furthest = self.newest.max(self.at.round).saturating_add(FOLLOWED);
        (!chained || swarm.round <= furthest).then_some(swarm)
    }

    /// Goes from listening to a round, if it is time.
    pub(super) fn step_join(&mut self) -> bool {
        let target = self.at.round;
        let clocked = self.clocked();
        match self.prevailing() {
            Some(swarm) if swarm.round >= target && !clocked => {
                if swarm.phase <= Phase::Answer {
                    return self.open(swarm.round);
                }
                // Under way and past its answers: begin with the next.
                self.join(
                    swarm.round.saturating_add(1),
                    pace::longest(&self.config.manifest),
                );
                false
            }
            Some(_) if !clocked => {
                // Under way to it: waited for as long as a round can take.
                let patience = pace::longest(&self.config.manifest);
                self.deadline = self.deadline.max(self.began.saturating_add(patience));
                self.now >= self.deadline && self.open(target)
            }
            _ => {
                let heard = self.roster.present().count() >= self.expect;
                let target = self.roster.prevailing_target(target);
                (heard || self.now >= self.deadline) && self.open(target)
            }
        }
    }

    /// The chain opened a round: a joining node begins with it, a node that
    /// waits for an earlier one goes on to it.
    pub(super) fn notice_opened(&mut self, number: u64) {
        let here = self.round().is_some_and(|round| round.opened.is_some());
        let go = match self.at.phase {
            // Without anybody under way, it is the others that start who are
            // waited for, not the one that was quickest to open the round.
            Phase::Join => self.prevailing().is_some(),
            Phase::Open => number > self.at.round && !here,
            _ => false,
        };
        if go {
            self.open(number);
        }
    }

    /// Gives up a round that the swarm has left behind. A node that is judging
    /// or training is nearly there, and hurries on instead.
    pub(super) fn catch_up(&mut self) {
        let Some(swarm) = self.prevailing() else {
            return;
        };
        let sampling = matches!(
            self.at.phase,
            Phase::Open | Phase::Answer | Phase::Commit | Phase::Reveal | Phase::Resolve
        );
        let lag = if sampling { 1 } else { 2 };
        let joining = matches!(self.at.phase, Phase::Join | Phase::Rest);
        if self.clocked() || joining || swarm.round < self.at.round.saturating_add(lag) {
            return;
        }
        let left = self.at.round;
        let begun = self.at.phase > Phase::Open;
        let round = self.round_mut(left);
        round.over = true;
        if round.judged.is_none() {
            let on = swarm.round;
            let why = format!("the swarm went on to round {on} without this peer");
            round.closing.why = Some(why);
        }
        if begun {
            self.give_up_after(left);
        }
        self.join(swarm.round, pace::longest(&self.config.manifest));
    }
}

//! Reference critiques and resolutions, to be imitated.

use super::{BLANK, PeerAnswer, Verdict, arrange, sanitise};
use crate::{Environment, Item, Reading};

/// How a reference critique reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CritiqueStyle {
    /// Only the verdict.
    Bare,
    /// The right answer against the proposed one, element by element.
    Compare,
    /// The steps of the solution, then the comparison.
    WorkThenCompare,
}

/// A reference critique: with `think` by element-wise comparison, else bare.
#[must_use]
pub fn demonstrate_critique(
    environment: &dyn Environment,
    item: &Item,
    proposal: &str,
    think: bool,
) -> String {
    let style = if think {
        CritiqueStyle::Compare
    } else {
        CritiqueStyle::Bare
    };
    demonstrate_critique_as(environment, item, proposal, style)
}

/// A reference critique in a given style.
#[must_use]
pub fn demonstrate_critique_as(
    environment: &dyn Environment,
    item: &Item,
    proposal: &str,
    style: CritiqueStyle,
) -> String {
    let truth = environment.accepts(item, proposal);
    let verdict = Verdict::of(truth).as_str();
    let tagged = format!("<verdict>{verdict}</verdict>");
    let shown = sanitise(item, proposal);
    // Where more than one answer is right, a right one is its own measure.
    let right = if truth {
        shown.clone()
    } else {
        sanitise(item, &item.reference)
    };
    let compared = compare(&right, &shown, environment.manifest().reading);
    match style {
        CritiqueStyle::Bare => tagged,
        CritiqueStyle::Compare => format!("<think>{compared}</think>{tagged}"),
        CritiqueStyle::WorkThenCompare if item.working().is_empty() => {
            format!("<think>{compared}</think>{tagged}")
        }
        CritiqueStyle::WorkThenCompare => {
            format!("<think>{} {compared}</think>{tagged}", item.working())
        }
    }
}

/// `5=5 4!2`: each element of the right answer, `=` or `!`, and the element
/// proposed in its place, up to the first that differs. A place that one of
/// the two lacks is blank.
fn compare(right: &str, proposed: &str, reading: Reading) -> String {
    let in_order = |text: &str| -> Vec<char> {
        match reading {
            Reading::Forward => text.chars().collect(),
            Reading::Backward => text.chars().rev().collect(),
        }
    };
    let (right, proposed) = (in_order(right), in_order(proposed));
    let mut steps = Vec::new();
    for index in 0..right.len().max(proposed.len()) {
        let ours = right.get(index).copied().unwrap_or(BLANK);
        let theirs = proposed.get(index).copied().unwrap_or(BLANK);
        if ours != theirs {
            steps.push(format!("{ours}!{theirs}"));
            break;
        }
        steps.push(format!("{ours}={theirs}"));
    }
    steps.join(" ")
}

/// A reference resolution: the right answer, picked from those shown where it
/// is among them, worked out where it is not.
#[must_use]
pub fn demonstrate_resolve(
    environment: &dyn Environment,
    item: &Item,
    peers: &[PeerAnswer],
) -> String {
    let right = &item.reference;
    let shown = arrange(item, peers)
        .iter()
        .any(|peer| environment.accepts(item, &peer.answer));
    if shown {
        format!("<think>pick {right}</think><answer>{right}</answer>")
    } else {
        format!(
            "<think>own {}</think><answer>{right}</answer>",
            item.working()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_stops_at_the_first_difference() {
        let forward = |right, proposed| compare(right, proposed, Reading::Forward);
        assert_eq!(forward("132", "132"), "1=1 3=3 2=2");
        assert_eq!(forward("132", "142"), "1=1 3!4");
        assert_eq!(forward("13", "132"), "1=1 3=3 _!2");
        assert_eq!(forward("132", "13"), "1=1 3=3 2!_");
        assert_eq!(forward("132", "_"), "1!_");
        let backward = compare("132", "142", Reading::Backward);
        assert_eq!(backward, "2=2 3!4");
    }
}

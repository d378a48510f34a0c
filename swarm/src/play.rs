//! The policy at items of several turns: it plays whole episodes, and what peers
//! played is played again to be trained on. An item of one turn is a single
//! request, as ever.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::Result;
use policy::{Policy, Request, TrainCompletion, TrainTurn};
use swarm_core::body::Completion;
use tasks::{Environment, Episode, Game, Item, Seed};

use crate::model::Manner;

/// Something to sample.
pub struct Ask<'a> {
    /// The first turn: of a game, the prompt of its item.
    pub request: Request,
    /// What to play, where it takes several turns.
    pub game: Option<(&'a dyn Environment, &'a Item)>,
}

impl<'a> Ask<'a> {
    /// An answer to an item, however many turns it takes.
    pub fn of(environment: &'a dyn Environment, item: &'a Item, request: Request) -> Self {
        Self {
            request,
            game: (environment.turns() > 1).then_some((environment, item)),
        }
    }
}

/// A group of completions for each ask, in their order; of a game, the text of
/// an episode each. The next turns of all episodes are sampled together. An
/// episode that has outgrown the model's context, or whose policy ran out of
/// tokens, ends as it stands. Groups that are not whole by `until` are empty.
///
/// # Errors
/// Sampling fails.
pub fn sample(
    policy: &Policy,
    manner: &Manner,
    asks: &[Ask<'_>],
    until: Option<Instant>,
) -> Result<Vec<Vec<Completion>>> {
    let sample = |requests: &[Request]| Ok(policy.sample_until(until, requests)?);
    let fits = |request: &Request| policy.room(&request.messages).is_ok();
    play(manner, asks, sample, fits)
}

fn play(
    manner: &Manner,
    asks: &[Ask<'_>],
    mut sample: impl FnMut(&[Request]) -> Result<Vec<Vec<policy::Completion>>>,
    fits: impl Fn(&Request) -> bool,
) -> Result<Vec<Vec<Completion>>> {
    let requests: Vec<Request> = asks.iter().map(|ask| ask.request.clone()).collect();
    let drawn = sample(&requests)?;
    let mut groups = Vec::new();
    // Episodes, by ask and member, and whether they go on.
    let mut episodes = Vec::new();
    for (at, (ask, group)) in asks.iter().zip(drawn).enumerate() {
        let mut whole = Vec::new();
        for (member, completion) in group.into_iter().enumerate() {
            if let Some((environment, item)) = ask.game {
                let mut episode = Episode::new(environment, item);
                episode.play(&completion.text);
                let on = completion.finished && !episode.is_over();
                episodes.push((at, member, episode, on));
            }
            whole.push(Completion {
                text: completion.text,
                finished: completion.finished,
            });
        }
        groups.push(whole);
    }
    // Whose episodes time ended, and not the game or the context.
    let mut cut = BTreeSet::new();
    loop {
        let mut going: Vec<_> = episodes.iter_mut().filter(|(.., on)| *on).collect();
        if going.is_empty() {
            break;
        }
        let next: Vec<Request> = going
            .iter()
            .map(|(at, member, episode, _)| {
                let first = &asks[*at].request;
                Request {
                    messages: manner.chat(&episode.messages()),
                    group: 1,
                    seed: later(first.seed, *member, episode.turns().len()),
                    ..first.clone()
                }
            })
            .collect();
        let drawn = sample(&next)?;
        let asked = next.iter().zip(drawn);
        for ((at, member, episode, on), (request, group)) in going.iter_mut().zip(asked) {
            let Some(completion) = group.into_iter().next() else {
                cut.extend(fits(request).then_some(*at));
                *on = false;
                continue;
            };
            episode.play(&completion.text);
            *on = completion.finished && !episode.is_over();
            groups[*at][*member].finished = completion.finished;
        }
    }
    for (at, member, episode, _) in &episodes {
        groups[*at][*member].text = episode.text();
    }
    for at in cut {
        groups[at].clear();
    }
    Ok(groups)
}

/// The seed of a later turn: no two turns of any episodes share draws.
fn later(seed: u64, member: usize, turn: usize) -> u64 {
    let [member, turn] = [member, turn].map(|number| (number as u64).to_le_bytes());
    let named = Seed::derive(&[b"turn", &seed.to_le_bytes(), &member, &turn]);
    let mut first = [0; 8];
    first.copy_from_slice(&named.0[..8]);
    u64::from_le_bytes(first)
}

/// A completion as the policy trains on it. An episode is played again, and
/// each of its turns is trained on after all that was said before it.
pub fn lesson(
    manner: &Manner,
    game: Option<(&dyn Environment, &Item)>,
    completion: Completion,
) -> TrainCompletion {
    let Completion { text, finished } = completion;
    let Some((environment, item)) = game else {
        return TrainCompletion {
            text,
            finished,
            ..TrainCompletion::default()
        };
    };
    let episode = Episode::replay(environment, item, &text);
    let mut before: Vec<TrainTurn> = episode
        .turns()
        .iter()
        .map(|turn| TrainTurn {
            text: turn.said.clone(),
            replies: manner.said(&turn.replies),
        })
        .collect();
    let last = before.pop();
    TrainCompletion {
        before,
        text: last.map_or_else(String::new, |turn| turn.text),
        finished,
        ..TrainCompletion::default()
    }
}

/// A game, as an [`Ask`] takes it.
pub fn parts(game: &Game) -> (&dyn Environment, &Item) {
    (game.environment.as_ref(), &game.item)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tasks::dialogue::answer_prompt;
    use tasks::package::{Bundle, Packaged, template};
    use tasks::{Registry, TURN_BREAK};

    fn game() -> Packaged {
        let files = template("game").unwrap().iter();
        let files = files.map(|(path, text)| {
            let text = text.replace("NAME", "find");
            ((*path).to_owned(), text.into_bytes())
        });
        Packaged::open(&Bundle::from_folder(files.collect()).unwrap()).unwrap()
    }

    fn said(text: &str, finished: bool) -> policy::Completion {
        policy::Completion {
            text: text.to_owned(),
            finished,
            ..policy::Completion::default()
        }
    }

    #[test]
    fn a_group_of_episodes_is_played_turn_by_turn_beside_items_of_one_turn() {
        let game = game();
        let item = game.generate(&Seed::derive(&[b"play"]), 3);
        let right = format!("<answer>{}</answer>", item.reference);
        let left = "<answer>0</answer>";
        let registry = Registry::builtin();
        let add = registry.by_name("add").unwrap();
        let sum = add.generate(&Seed::derive(&[b"play"]), 1);
        let manner = Manner::taught();
        let ask = |environment, item, group| {
            let request = Request {
                messages: manner.chat(&answer_prompt(item)),
                group,
                ..Request::default()
            };
            Ask::of(environment, item, request)
        };
        let asks = [
            ask(&game as &dyn Environment, &item, 4),
            ask(add, &sum, 1),
            ask(&game, &item, 1),
        ];
        let mut calls = Vec::new();
        let sample = |requests: &[Request]| {
            calls.push(requests.to_vec());
            Ok(match calls.len() {
                1 => vec![
                    vec![
                        said(&right, true),
                        said("<answer>0</answer>\u{1e}", true),
                        said("<answer>0</answer>", true),
                        said("<answer>0</answer>", false),
                    ],
                    vec![said("a\u{1e}b", true)],
                    vec![said("<answer>2</answer>", true)],
                ],
                // The third has no room for another turn, and the other game no time.
                2 => vec![
                    vec![said("<answer>1</answer>", true)],
                    Vec::new(),
                    Vec::new(),
                ],
                _ => vec![vec![said(&right, true)]],
            })
        };
        let fits = |request: &Request| request.messages[1].content != left;
        let groups = play(&manner, &asks, sample, fits).unwrap();
        let texts: Vec<&str> = groups[0].iter().map(|one| one.text.as_str()).collect();
        let won = format!("<answer>0</answer>{TURN_BREAK}<answer>1</answer>{TURN_BREAK}{right}");
        assert_eq!(texts, [&right, won.as_str(), left, left]);
        assert_eq!(groups[1][0].text, "a\u{1e}b");
        assert!(groups[2].is_empty());
        let finished: Vec<bool> = groups[0].iter().map(|one| one.finished).collect();
        assert_eq!(finished, [true, true, true, false]);
        // Only who goes on is asked again, after all that was said.
        let asked: Vec<usize> = calls.iter().map(Vec::len).collect();
        assert_eq!(asked, [3, 3, 1]);
        let last: Vec<(&str, &str)> = calls[2][0]
            .messages
            .iter()
            .map(|message| (message.role.as_str(), message.content.as_str()))
            .collect();
        let told = ("user", "higher");
        let expected = [
            ("user", item.question.as_str()),
            ("assistant", left),
            told,
            ("assistant", "<answer>1</answer>"),
            told,
        ];
        assert_eq!(last, expected);
        assert_ne!(calls[1][0].seed, calls[1][1].seed);

        // A peer's episode is learnt from turn by turn.
        let lesson = lesson(&manner, Some((&game, &item)), groups[0][1].clone());
        let turns: Vec<&str> = lesson.before.iter().map(|one| one.text.as_str()).collect();
        assert_eq!(turns, [left, "<answer>1</answer>"]);
        assert_eq!(lesson.before[1].replies[0].content, "higher");
        assert_eq!(
            (lesson.text.as_str(), lesson.finished),
            (right.as_str(), true)
        );
    }
}

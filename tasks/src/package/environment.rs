//! A package as an environment: the host reads the form, the package the
//! content, and only the host adds up.

use std::collections::BTreeMap;

use super::bundle::{Bundle, ITEMS, MODULE, PackageError, SCRIPT, levels};
use super::file;
use super::sandbox::{self, Call, Sandbox, SandboxError};
use super::table::Table;
use crate::contents::{Form, Kind, Package};
use crate::fields::Fields;
use crate::{
    CHAT_TOKENS, EnvId, Environment, Episode, Item, Manifest, Part, Ppm, SPECIAL_TOKENS, Score,
    Seed, Status, Step, Style, TURN_BREAK,
    builtin::distract,
    dialogue::{BLANK, Message, Role},
    format::printable,
    score::{Rules, right},
};

/// The most bytes of a question, and of what is said before it.
const MAX_QUESTION: usize = 16 << 10;
/// The most bytes that an environment replies to a turn.
const MAX_SAID: usize = 4 << 10;
/// The most bytes of what a scorer keeps of an item, or of an episode.
const MAX_HIDDEN: usize = 64 << 10;
/// The most bytes of a reason.
const MAX_WHY: usize = 200;
/// Wrong answers tried before an item is said to have none.
const DISTRACTORS: u8 = 16;

/// A package that is open: it makes items and scores.
pub struct Packaged {
    manifest: Manifest,
    package: Package,
    id: EnvId,
    code: Code,
}

enum Code {
    Table(Table),
    Sandbox(Sandbox),
}

/// A score, and the fuel it took.
type Metered<T> = (T, u64);

impl Packaged {
    /// Opens a package: reads its rows, or compiles and loads its code.
    pub fn open(bundle: &Bundle) -> Result<Packaged, PackageError> {
        let package = bundle.package()?.clone();
        let manifest = bundle.manifest.clone();
        let levels = levels(&manifest);
        let engine = |here: &str| {
            let here = file::engine(here, package.turns);
            if package.engine == here {
                Ok(())
            } else {
                Err(PackageError::Engine {
                    wanted: package.engine.clone(),
                    here,
                })
            }
        };
        let code = match &package.kind {
            Kind::Table(scorer) => {
                engine("table 1")?;
                let table = Table::read(bundle.text(ITEMS)?, scorer, levels)
                    .map_err(|(line, why)| PackageError::at(ITEMS, line, why))?;
                Code::Table(table)
            }
            Kind::Script => {
                engine(sandbox::script_engine())?;
                let sandbox = Sandbox::script(bundle.text(SCRIPT)?, package.budget)
                    .map_err(|error| PackageError::at(SCRIPT, 0, error.to_string()))?;
                Code::Sandbox(sandbox)
            }
            Kind::Module => {
                engine(sandbox::ENGINE)?;
                let sandbox = Sandbox::module(bundle.bytes(MODULE)?, package.budget)
                    .map_err(|error| PackageError::at(MODULE, 0, error.to_string()))?;
                Code::Sandbox(sandbox)
            }
        };
        if let Code::Table(table) = &code {
            for (level, at) in manifest.levels.iter().zip(1u8..) {
                if level.space != table.space(at) {
                    let why = format!(
                        "level {at} has {} rows, not {}",
                        table.space(at),
                        level.space
                    );
                    return Err(PackageError::Received(why));
                }
            }
        }
        let id = bundle.id();
        Ok(Packaged {
            manifest,
            package,
            id,
            code,
        })
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> EnvId {
        self.id
    }

    /// What its manifest says beyond what every environment's says.
    #[must_use]
    pub fn package(&self) -> &Package {
        &self.package
    }

    /// The item at a seed and the fuel it took.
    #[must_use]
    pub fn draw_metered(&self, seed: &Seed, level: u8) -> (Item, u64) {
        let level = self.manifest.clamp(level);
        self.make(seed, level)
            .unwrap_or_else(|why| (Item::faulty(&self.manifest, level, why), 0))
    }

    fn make(&self, seed: &Seed, level: u8) -> Result<Metered<Item>, String> {
        // Not from its own name: the golden items are part of the name.
        let named = Seed::derive(&[b"package item", &[level], &seed.0]);
        match &self.code {
            Code::Table(table) => {
                let (place, row) = table
                    .draw(level, &mut named.draw())
                    .ok_or("the level has no rows")?;
                let item = self.item(level, row.question.clone(), row.answer.clone())?;
                let item = item
                    .with_context(row.context())
                    .with_working(row.working.clone())
                    .with_decoys(row.wrong.clone())
                    .with_hidden(place.to_string().into_bytes())
                    .with_metadata(row.metadata.clone());
                Ok((item, 0))
            }
            Code::Sandbox(sandbox) => {
                let request = Fields::default()
                    .with("seed", named.to_hex())
                    .with("level", level.to_string());
                let reply = sandbox
                    .call(Call::Generate, &request)
                    .map_err(|error| format!("generate: {error}"))?;
                let item = self.read_item(level, &reply.fields)?;
                // An item whose own answer fails is nobody's mistake but its
                // environment's.
                let is_right = if self.turns() > 1 {
                    let score = self.score(&item, &self.demonstrate(&item, Style::Direct));
                    if score.status == Status::Unscored {
                        return Err(format!("playing the reference answer: {}", score.why));
                    }
                    score.is_right()
                } else {
                    let right = match self.package.form {
                        Form::Tagged => item.reference.clone(),
                        Form::Free => self.demonstrate(&item, Style::Direct),
                    };
                    let (said, _) = self
                        .ask(Call::Score, &item, &[], &right)
                        .map_err(|why| format!("scoring the reference answer: {why}"))?;
                    said.get("correct") == Some("1000000")
                };
                if !is_right {
                    return Err(format!(
                        "the reference answer {:?} is not right",
                        item.reference
                    ));
                }
                Ok((item, reply.fuel))
            }
        }
    }

    fn read_item(&self, level: u8, fields: &Fields) -> Result<Item, String> {
        let text = |name: &str| fields.get(name).unwrap_or_default().to_owned();
        let item = self.item(level, text("question"), text("answer"))?;
        let context = text("context");
        let hidden = text("hidden");
        if context.len() > MAX_QUESTION || hidden.len() > MAX_HIDDEN {
            return Err("generate: context or hidden is too long".to_owned());
        }
        speakable(&context)?;
        let system = Message {
            role: Role::System,
            content: context,
        };
        let metadata = fields
            .0
            .iter()
            .filter_map(|(name, value)| {
                let name = name.strip_prefix("metadata.")?;
                Some((name.to_owned(), printable(value)))
            })
            .take(16)
            .collect();
        Ok(item
            .with_context(if system.content.is_empty() {
                Vec::new()
            } else {
                vec![system]
            })
            .with_working(text("working"))
            .with_decoys(fields.all("wrong").map(str::to_owned).take(32).collect())
            .with_hidden(hidden.into_bytes())
            .with_metadata(metadata))
    }

    /// An item whose texts a model may be shown.
    fn item(&self, level: u8, question: String, answer: String) -> Result<Item, String> {
        let answer = answer.trim().to_owned();
        if question.trim().is_empty() || question.len() > MAX_QUESTION {
            return Err(format!("a question must have 1 to {MAX_QUESTION} bytes"));
        }
        let most = self.manifest.limits.answer_chars as usize;
        if answer.is_empty() || answer.chars().count() > most {
            return Err(format!(
                "an answer must have 1 to {most} characters, limits.answer_chars"
            ));
        }
        speakable(&question)?;
        speakable(&answer)?;
        Ok(Item::named(
            self.id,
            &self.manifest,
            level,
            question,
            answer,
        ))
    }

    /// The score of a completion and the fuel it took; of a game, that of a
    /// whole episode and of all its turns.
    #[must_use]
    pub fn score_metered(&self, item: &Item, completion: &str) -> (Score, u64) {
        if self.turns() < 2 {
            return self.score_turn(item, completion);
        }
        let mut fuel = 0u64;
        let episode = Episode::replay_by(self, item, completion, |state, said| {
            let (step, taken) = self.step_metered(item, state, said);
            fuel = fuel.saturating_add(taken);
            step
        });
        (episode.score(), fuel)
    }

    fn score_turn(&self, item: &Item, completion: &str) -> Metered<Score> {
        self.turn(Call::Score, item, &[], completion).map_or_else(
            |score| (score, 0),
            |(fields, fuel)| (self.total(completion, completion.len(), &fields), fuel),
        )
    }

    fn step_metered(&self, item: &Item, state: &[u8], completion: &str) -> Metered<Step> {
        if self.turns() < 2 {
            let (score, fuel) = self.score_turn(item, completion);
            return (Step::Done(score), fuel);
        }
        // The state of an episode is the bytes that were said in it, which the
        // package is not told, and what the package kept.
        let (said, state) = match state.split_first_chunk() {
            Some((said, state)) => (u64::from_le_bytes(*said), state),
            None => (0, state),
        };
        let said = said.saturating_add(completion.len() as u64);
        let (fields, fuel) = match self.turn(Call::Step, item, state, completion) {
            Ok(said) => said,
            Err(score) => return (Step::Done(score), 0),
        };
        let Some(say) = fields.get("say") else {
            let bytes = usize::try_from(said).unwrap_or(usize::MAX);
            return (Step::Done(self.total(completion, bytes, &fields)), fuel);
        };
        let state = fields.get("state").unwrap_or_default();
        if say.len() > MAX_SAID || state.len() > MAX_HIDDEN || speakable(say).is_err() {
            let why = "step said too much, or what no model may be shown";
            return (Step::Done(Score::unscored(why)), fuel);
        }
        let step = Step::Continue {
            state: [&said.to_le_bytes(), state.as_bytes()].concat(),
            messages: vec![Message {
                role: Role::User,
                content: say.to_owned(),
            }],
        };
        (step, fuel)
    }

    /// What the package says of a completion, or its score where it is not asked.
    fn turn(
        &self,
        call: Call,
        item: &Item,
        state: &[u8],
        completion: &str,
    ) -> Result<Metered<Fields>, Score> {
        let rules = Rules::of(&self.manifest);
        rules.fits(completion)?;
        if let Some(why) = item.fault() {
            return Err(Score::unscored(why));
        }
        let answered = match self.package.form {
            Form::Tagged => rules.gate(completion)?,
            Form::Free => completion,
        };
        self.ask(call, item, state, answered)
            .map_err(|why| Score::unscored(&cut(&why)))
    }

    fn ask(
        &self,
        call: Call,
        item: &Item,
        state: &[u8],
        answered: &str,
    ) -> Result<Metered<Fields>, String> {
        match &self.code {
            Code::Table(table) => {
                let place = std::str::from_utf8(&item.hidden).ok();
                let row = place
                    .and_then(|place| table.row(place.parse().ok()?))
                    .ok_or("the item is not of this table")?;
                let marked = table.mark(row, answered);
                let fields = Fields::default()
                    .with("correct", marked.correct.0.to_string())
                    .with("status", if marked.sensible { "ok" } else { "invalid" })
                    .with("why", marked.why);
                Ok((fields, 0))
            }
            Code::Sandbox(sandbox) => {
                let hidden = String::from_utf8_lossy(&item.hidden);
                let request = Fields::default()
                    .with("question", &*item.question)
                    .with("answer", &*item.reference)
                    .with("hidden", hidden)
                    .with("level", item.level.to_string())
                    .with("state", String::from_utf8_lossy(state))
                    .with("answered", answered);
                let reply = sandbox
                    .call(call, &request)
                    .map_err(|e: SandboxError| e.to_string())?;
                Ok((reply.fields, reply.fuel))
            }
        }
    }

    /// Adds up what a package said of a completion, or of the last turn of an
    /// episode in which so many bytes were said.
    fn total(&self, completion: &str, bytes: usize, said: &Fields) -> Score {
        let status = match (said.get("status"), self.package.form) {
            (None | Some("ok"), _) => Status::Ok,
            (Some("invalid"), _) => Status::Invalid,
            (Some("no_answer"), _) => Status::NoAnswer,
            (Some(other), _) => {
                return Score::unscored(&cut(&format!("there is no status {other:?}")));
            }
        };
        let mut values: BTreeMap<&str, Ppm> = BTreeMap::new();
        for part in &self.manifest.parts {
            let Some(text) = said.get(&part.name) else {
                continue;
            };
            match text.parse().map(Ppm) {
                Ok(value) if value <= Ppm::ONE => values.insert(&part.name, value),
                _ => {
                    let why = format!("{} is {text:?}, not 0 to 1000000", part.name);
                    return Score::unscored(&cut(&why));
                }
            };
        }
        let correct = values.get("correct").copied().unwrap_or(Ppm::ZERO);
        let (brevity, over) = Rules::of(&self.manifest).brief(bytes);
        if self.package.form == Form::Tagged {
            values.insert("format", (status == Status::Ok).into());
        }
        // Length costs only where the answer is right.
        let brevity = if correct == Ppm::ONE {
            brevity
        } else {
            Ppm::ZERO
        };
        values.entry("brevity").or_insert(brevity);
        let value = |name: &str| values.get(name).copied().unwrap_or(Ppm::ZERO);
        let gates = self
            .manifest
            .parts
            .iter()
            .filter(|part| part.weight == Ppm::ZERO);
        let shut =
            status != Status::Ok || gates.into_iter().any(|gate| value(&gate.name) == Ppm::ZERO);
        let reward = if shut {
            Ppm::ZERO
        } else {
            let sum = self.manifest.parts.iter().fold(Ppm::ZERO, |sum, part| {
                sum.saturating_add(part.weight.of(value(&part.name)))
            });
            sum.min(Ppm::ONE)
        };
        let why = match said.get("why") {
            Some(why) if !why.is_empty() => cut(why).into(),
            _ if correct == Ppm::ONE => right(over),
            _ if correct == Ppm::ZERO => "wrong".into(),
            _ => format!("right as to {correct}").into(),
        };
        let body = match self.package.form {
            Form::Tagged => Rules::of(&self.manifest).gate(completion).ok(),
            Form::Free => said.get("answer"),
        };
        let most = self.manifest.limits.answer_chars as usize;
        let answer = body.map(|body| printable(&body.chars().take(most).collect::<String>()));
        Score {
            status,
            reward,
            parts: self
                .manifest
                .parts
                .iter()
                .map(|part| Part {
                    name: part.name.clone().into(),
                    value: value(&part.name),
                })
                .collect(),
            answer: answer.filter(|answer| !answer.is_empty()),
            why,
        }
    }
}

impl Environment for Packaged {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn draw(&self, seed: &Seed, level: u8) -> Item {
        self.draw_metered(seed, level).0
    }

    fn score(&self, item: &Item, completion: &str) -> Score {
        self.score_metered(item, completion).0
    }

    fn distractor(&self, item: &Item, seed: &Seed) -> String {
        for attempt in 0..DISTRACTORS {
            let named = Seed::derive(&[b"distractor", &item.env.0, &seed.0, &[attempt]]);
            let wrong = distract(item, &mut named.draw());
            if !self.accepts(item, &wrong) {
                return wrong;
            }
        }
        BLANK.to_string()
    }

    fn accepts(&self, item: &Item, answer: &str) -> bool {
        let most = self.manifest.limits.answer_chars as usize;
        if item.fault().is_some() || answer.chars().count() > most {
            return false;
        }
        let answered = match self.package.form {
            Form::Tagged => answer.trim().to_owned(),
            Form::Free => format!("<answer>{}</answer>", answer.trim()),
        };
        let said = self.ask(Call::Score, item, &[], &answered);
        said.is_ok_and(|(fields, _)| fields.get("correct") == Some("1000000"))
    }

    /// The reference answer of a game may have several lines, one a turn.
    fn demonstrate(&self, item: &Item, style: Style) -> String {
        let said = |(turn, answer): (usize, &str)| match style {
            Style::Untagged => answer.to_owned(),
            Style::Think if turn == 0 => {
                format!("<think>{}</think><answer>{answer}</answer>", item.working())
            }
            _ => format!("<answer>{answer}</answer>"),
        };
        if self.turns() < 2 {
            return said((0, &item.reference));
        }
        let turns: Vec<String> = item.reference.lines().enumerate().map(said).collect();
        turns.join(TURN_BREAK.encode_utf8(&mut [0; 4]))
    }

    fn turns(&self) -> u16 {
        match &self.code {
            Code::Sandbox(sandbox) if sandbox.has_step() => self.package.turns,
            _ => 1,
        }
    }

    fn step(&self, item: &Item, state: &[u8], completion: &str) -> Step {
        self.step_metered(item, state, completion).0
    }
}

/// Refuses what would break out of a prompt.
fn speakable(text: &str) -> Result<(), String> {
    if let Some(mark) = CHAT_TOKENS
        .iter()
        .chain(&SPECIAL_TOKENS)
        .find(|mark| text.contains(**mark))
    {
        return Err(format!("a text for a model may not contain {mark}"));
    }
    match text
        .chars()
        .find(|c| c.is_control() && *c != '\n' && *c != '\t')
    {
        Some(c) => Err(format!("a text for a model may not contain {c:?}")),
        None => Ok(()),
    }
}

fn cut(why: &str) -> String {
    let short = &why[..why.floor_char_boundary(MAX_WHY)];
    short
        .chars()
        .map(|c| if c == '\n' { ' ' } else { c })
        .map(|c| if c.is_control() { '_' } else { c })
        .collect()
}

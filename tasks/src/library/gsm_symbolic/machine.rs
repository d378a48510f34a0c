//! Runs the templates. A program that Python would fail on gives nothing, and so
//! does one that goes on for too long.

use super::functions::{Range, apply, apply_one, apply_two, compare, range};
use super::number::Number::{self, Float, Whole};
use super::program::{Expression, Function, Statement, Template};
use super::value::Value;
use crate::library::random::Random;
use std::sync::Arc;

/// Turns of loops and calls after which a program is given up.
const FUEL: u32 = 1_000_000;
/// Bytes that most texts of a template fit in.
const LINE: usize = 512;

/// What a statement leads to.
enum Flow {
    On,
    Break,
    Return(Value),
}

pub(super) type Frame = Vec<Option<Value>>;

/// A frame of names without values.
fn frame(names: usize) -> Frame {
    (0..names).map(|_| None).collect()
}

struct Machine<'a> {
    template: &'a Template,
    random: &'a mut Random,
    fuel: u32,
    /// Where a text is written before it is put at the end of another.
    scratch: String,
}

/// An argument: where it is, or itself.
enum Operand<'a> {
    Constant(&'a Value),
    Place(usize),
    Held(Value),
}

impl Operand<'_> {
    fn get<'a>(&'a self, frame: &'a Frame) -> Option<&'a Value> {
        match self {
            Operand::Constant(value) => Some(value),
            Operand::Place(place) => frame[*place].as_ref(),
            Operand::Held(value) => Some(value),
        }
    }
}
impl Template {
    /// The problem, its answer and the steps between.
    pub(super) fn run(&self, random: &mut Random) -> Option<Value> {
        let mut machine = Machine {
            template: self,
            random,
            fuel: FUEL,
            scratch: String::new(),
        };
        let mut frame = frame(self.names);
        match machine.block(&self.body, &mut frame)? {
            Flow::Return(value) => Some(value),
            _ => None,
        }
    }
}
impl Machine<'_> {
    fn burn(&mut self) -> Option<()> {
        self.fuel = self.fuel.checked_sub(1)?;
        Some(())
    }

    fn block(&mut self, block: &[Statement], frame: &mut Frame) -> Option<Flow> {
        for statement in block {
            match self.statement(statement, frame)? {
                Flow::On => {}
                other => return Some(other),
            }
        }
        Some(Flow::On)
    }

    fn statement(&mut self, statement: &Statement, frame: &mut Frame) -> Option<Flow> {
        match statement {
            Statement::Assign(place, value) => {
                if let Some(number) = self.number(value, frame) {
                    number.put(&mut frame[*place]);
                } else {
                    frame[*place] = Some(self.value(value, frame)?);
                }
            }
            Statement::AssignEach(places, value) => {
                let parts = match value {
                    Expression::ApplyTwo(Function::Sample, of) => {
                        let [list, count] = of.as_ref();
                        let (list, count) =
                            (self.operand(list, frame)?, self.operand(count, frame)?);
                        self.sample(list.get(frame)?, count.get(frame)?)?
                    }
                    value => self.value(value, frame)?.elements()?,
                };
                if parts.len() != places.len() {
                    return None;
                }
                for (place, part) in places.iter().zip(parts) {
                    frame[*place] = Some(part);
                }
            }
            Statement::Extend(place, value) => {
                let mut scratch = std::mem::take(&mut self.scratch);
                scratch.clear();
                self.write(value, frame, &mut scratch)?;
                frame[*place].as_mut()?.extend(&scratch)?;
                self.scratch = scratch;
            }
            Statement::Append(place, value) => {
                let value = self.value(value, frame)?;
                match &mut frame[*place] {
                    Some(Value::List(list)) => Arc::make_mut(list).push(value),
                    _ => return None,
                }
            }
            Statement::While(condition, body) => {
                while self.holds(condition, frame)? {
                    self.burn()?;
                    match self.block(body, frame)? {
                        Flow::On => {}
                        Flow::Break => break,
                        done => return Some(done),
                    }
                }
            }
            Statement::For(place, over, body) => {
                let mut turns = self.turns(over, frame)?;
                while turns.put(&mut frame[*place]) {
                    self.burn()?;
                    match self.block(body, frame)? {
                        Flow::On => {}
                        Flow::Break => break,
                        done => return Some(done),
                    }
                }
            }
            Statement::When(condition, then, other) => {
                let block = if self.holds(condition, frame)? {
                    then
                } else {
                    other
                };
                return self.block(block, frame);
            }
            Statement::Return(value) => return Some(Flow::Return(self.value(value, frame)?)),
            Statement::Break => return Some(Flow::Break),
            Statement::Raise => return None,
        }
        Some(Flow::On)
    }

    fn value(&mut self, expression: &Expression, frame: &mut Frame) -> Option<Value> {
        Some(match expression {
            Expression::Constant(value) => value.clone(),
            Expression::Name(place) => frame[*place].clone()?,
            Expression::Text(..) => {
                let mut text = String::with_capacity(LINE);
                self.write(expression, frame, &mut text)?;
                Value::text(text)
            }
            Expression::If(parts) => {
                let [condition, then, other] = parts.as_ref();
                let chosen = if self.holds(condition, frame)? {
                    then
                } else {
                    other
                };
                self.value(chosen, frame)?
            }
            Expression::All(parts) | Expression::Any(parts) => {
                // The value that decides is the value of the whole.
                let stops_at = matches!(expression, Expression::Any(_));
                let mut last = Value::None;
                for part in parts {
                    last = self.value(part, frame)?;
                    if last.is_true() == stops_at {
                        break;
                    }
                }
                last
            }
            Expression::Compare(..) => Value::Bool(self.holds(expression, frame)?),
            Expression::Collect(place, parts) => self.collect(*place, parts, frame)?,
            Expression::Call(name, arguments) => self.call(*name, arguments, frame)?,
            Expression::Apply(function, arguments) => {
                let mut values = Vec::with_capacity(arguments.len());
                for argument in arguments {
                    values.push(self.value(argument, frame)?);
                }
                match function {
                    Function::List => Value::list(values),
                    function if function.is_drawn() => {
                        self.draw(*function, &values.iter().collect::<Vec<_>>())?
                    }
                    function => apply(*function, &values)?,
                }
            }
            Expression::ApplyOne(Function::Int, _) | Expression::ApplyTwo(..)
                if let Some(number) = Number::made(expression, frame) =>
            {
                number.value()
            }
            Expression::ApplyOne(function, argument) => {
                let argument = self.operand(argument, frame)?;
                let value = argument.get(frame)?;
                if function.is_drawn() {
                    self.draw(*function, &[value])?
                } else {
                    apply_one(*function, value)?
                }
            }
            Expression::ApplyTwo(function, arguments) => {
                let [left, right] = arguments.as_ref();
                let (left, right) = (self.operand(left, frame)?, self.operand(right, frame)?);
                let (left, right) = (left.get(frame)?, right.get(frame)?);
                if function.is_drawn() {
                    self.draw(*function, &[left, right])?
                } else {
                    apply_two(*function, left, right)?
                }
            }
        })
    }

    #[inline(never)]
    fn collect(
        &mut self,
        place: usize,
        parts: &[Expression; 3],
        frame: &mut Frame,
    ) -> Option<Value> {
        let [over, condition, element] = parts;
        let mut list = Vec::new();
        let kept = frame[place].take();
        let mut turns = self.turns(over, frame)?;
        while turns.put(&mut frame[place]) {
            self.burn()?;
            if self.holds(condition, frame)? {
                list.push(self.value(element, frame)?);
            }
        }
        frame[place] = kept;
        Some(Value::list(list))
    }

    #[inline(never)]
    fn call(&mut self, name: usize, arguments: &[Expression], frame: &mut Frame) -> Option<Value> {
        self.burn()?;
        let template = self.template;
        let mut functions = template.functions.iter();
        let function = functions.find(|known| known.name == name)?;
        if arguments.len() != function.parameters.len() {
            return None;
        }
        let mut inner = self::frame(template.names);
        for (place, argument) in function.parameters.iter().zip(arguments) {
            inner[*place] = Some(self.value(argument, frame)?);
        }
        Some(match self.block(&function.body, &mut inner)? {
            Flow::Return(value) => value,
            _ => Value::None,
        })
    }

    /// Whether it is true.
    fn holds(&mut self, expression: &Expression, frame: &mut Frame) -> Option<bool> {
        match expression {
            Expression::Compare(first, steps) => {
                if let [(sign, right)] = &steps[..]
                    && let Some(left) = Number::made(first, frame)
                    && let Some(right) = Number::made(right, frame)
                    && let Some(order) = left.order(right)
                    && let Some(holds) = sign.orders(order)
                {
                    return Some(holds);
                }
                let mut left = self.operand(first, frame)?;
                for (sign, right) in steps {
                    let right = self.operand(right, frame)?;
                    if !compare(*sign, left.get(frame)?, right.get(frame)?)? {
                        return Some(false);
                    }
                    left = right;
                }
                Some(true)
            }
            Expression::ApplyOne(Function::Not, part) => Some(!self.holds(part, frame)?),
            Expression::ApplyOne(Function::IsInteger | Function::FloatIsInteger, part)
                if let Some(number) = Number::made(part, frame) =>
            {
                Some(match number {
                    Whole(_) => true,
                    Float(value) => value.is_finite() && value.fract() == 0.0,
                })
            }
            Expression::All(parts) | Expression::Any(parts) => {
                let stops_at = matches!(expression, Expression::Any(_));
                for part in parts {
                    if self.holds(part, frame)? == stops_at {
                        return Some(stops_at);
                    }
                }
                Some(!stops_at)
            }
            expression => Some(self.value(expression, frame)?.is_true()),
        }
    }

    /// What a loop goes over: a range is not made into a list first.
    fn turns(&mut self, over: &Expression, frame: &mut Frame) -> Option<Turns> {
        if let Expression::ApplyTwo(Function::Range, bounds) = over {
            let [low, high] = bounds.as_ref();
            let (low, high) = (self.value(low, frame)?, self.value(high, frame)?);
            return Some(Turns::Range(range(&[&low, &high])?));
        }
        Some(Turns::List(
            self.value(over, frame)?.elements()?.into_iter(),
        ))
    }

    fn operand<'a>(
        &mut self,
        expression: &'a Expression,
        frame: &mut Frame,
    ) -> Option<Operand<'a>> {
        Some(match expression {
            Expression::Constant(value) => Operand::Constant(value),
            Expression::Name(place) => Operand::Place(*place),
            other => Operand::Held(self.value(other, frame)?),
        })
    }

    /// Writes a value as `str` does.
    fn write(
        &mut self,
        expression: &Expression,
        frame: &mut Frame,
        text: &mut String,
    ) -> Option<()> {
        match expression {
            Expression::Text(parts, end) => {
                for (before, part) in parts {
                    text.push_str(before);
                    self.write(part, frame, text)?;
                }
                text.push_str(end);
                Some(())
            }
            Expression::Constant(value) => value.write(text),
            Expression::Name(place) => frame[*place].as_ref()?.write(text),
            expression => self.value(expression, frame)?.write(text),
        }
    }

    /// A number that is worked out from numbers, or drawn between them.
    fn number(&mut self, expression: &Expression, frame: &Frame) -> Option<Number> {
        let whole = |part: &Expression| match Number::made(part, frame)? {
            Whole(value) => Some(value),
            Float(_) => None,
        };
        match expression {
            Expression::ApplyTwo(Function::RandInt, bounds) => {
                let [low, high] = bounds.as_ref();
                self.int(whole(low)?, whole(high)?).map(Whole)
            }
            Expression::Apply(Function::RandRange, bounds) => {
                let [low, high, step] = &bounds[..] else {
                    return None;
                };
                self.step(whole(low)?, whole(high)?, whole(step)?)
                    .map(Whole)
            }
            expression => Number::made(expression, frame),
        }
    }

    fn int(&mut self, low: i64, high: i64) -> Option<i64> {
        (low <= high).then(|| self.random.int(low, high))
    }

    fn step(&mut self, low: i64, high: i64, step: i64) -> Option<i64> {
        if step <= 0 {
            return None;
        }
        let count = (high.checked_sub(low)?.checked_add(step - 1)?).div_euclid(step);
        let count = u64::try_from(count).ok().filter(|count| *count > 0)?;
        let drawn = i64::try_from(self.random.below(count)).ok()?;
        low.checked_add(step.checked_mul(drawn)?)
    }

    fn sample(&mut self, list: &Value, count: &Value) -> Option<Vec<Value>> {
        let Value::List(list) = list else {
            return None;
        };
        let count = usize::try_from(count.index()?).ok()?;
        let places = (count <= list.len()).then(|| self.random.sample(list.len(), count))?;
        Some(places.into_iter().map(|at| list[at].clone()).collect())
    }

    /// The methods of `random.Random`, failing where they fail.
    fn draw(&mut self, function: Function, values: &[&Value]) -> Option<Value> {
        let number = Value::index;
        match (function, values) {
            (Function::RandInt, [low, high]) => {
                self.int(number(low)?, number(high)?).map(Value::Int)
            }
            (Function::RandRange, [low, high, rest @ ..]) => {
                let (low, high) = (number(low)?, number(high)?);
                let step = rest.first().map_or(Some(1), |step| number(step))?;
                self.step(low, high, step).map(Value::Int)
            }
            (Function::Choice, [Value::List(list)]) if !list.is_empty() => {
                Some(self.random.choice(list).clone())
            }
            (Function::Sample, [list, count]) => self.sample(list, count).map(Value::list),
            (Function::Uniform, [low, high]) => {
                let (low, high) = (low.float()?, high.float()?);
                Some(Value::Float(self.random.uniform(low, high)))
            }
            (Function::Random, []) => Some(Value::Float(self.random.unit())),
            _ => None,
        }
    }
}

/// What a loop goes over.
enum Turns {
    Range(Range),
    List(std::vec::IntoIter<Value>),
}

impl Turns {
    /// Puts the next value in its place, if there is one.
    fn put(&mut self, place: &mut Option<Value>) -> bool {
        match self {
            Turns::Range(range) => range.next().map(|number| Whole(number).put(place)),
            Turns::List(list) => list.next().map(|value| *place = Some(value)),
        }
        .is_some()
    }
}

//! Reads the templates and runs them.
//!
//! A template is functions of assignments, loops and expressions; each name is
//! a place in a frame. A program that Python would fail on gives nothing, and so
//! does one that goes on for too long.

use std::sync::Arc;

use super::value::Value;
use crate::library::random::Random;

/// Turns of loops and calls after which a program is given up.
const FUEL: u32 = 1_000_000;
/// The longest list that is made.
const LONGEST: i128 = 100_000;

/// One word problem.
pub(super) struct Template {
    functions: Vec<Function>,
    body: Vec<Statement>,
    names: usize,
    difficulty: usize,
    /// How many lines its solution has.
    pub(super) lines: usize,
}

struct Function {
    name: usize,
    parameters: Vec<usize>,
    body: Vec<Statement>,
}

enum Statement {
    Assign(Vec<usize>, Expression),
    Append(usize, Expression),
    While(Expression, Vec<Statement>),
    For(usize, Expression, Vec<Statement>),
    When(Expression, Vec<Statement>, Vec<Statement>),
    Return(Expression),
    Break,
    Raise,
}

enum Expression {
    Constant(Value),
    Name(usize),
    /// A function of Python's or upstream's.
    Apply(&'static str, Vec<Expression>),
    /// A function of the template.
    Call(usize, Vec<Expression>),
    If(Box<[Expression; 3]>),
    All(Vec<Expression>),
    Any(Vec<Expression>),
    Compare(Box<Expression>, Vec<(&'static str, Expression)>),
    /// Name, what it goes over, condition, element.
    Collect(usize, Box<[Expression; 3]>),
}

/// Every function that a template may apply.
const KNOWN: [&str; 40] = [
    "+",
    "-",
    "*",
    "/",
    "//",
    "%",
    "**",
    "neg",
    "not",
    "text",
    "format",
    "list",
    "dict",
    "at",
    "int",
    "float",
    "round",
    "min",
    "max",
    "range",
    "Fraction",
    "is_integer",
    "format_number",
    "eval",
    "gcd",
    "draw-randint",
    "draw-randrange",
    "draw-choice",
    "draw-sample",
    "draw-uniform",
    "draw-random",
    ".is_integer",
    ".copy",
    ".get",
    ".lower",
    ".split",
    ".values",
    ".denominator",
    "str",
    "len",
];

const COMPARISONS: [&str; 8] = ["==", "!=", "<", "<=", ">", ">=", "in", "not-in"];

fn known(name: &str, of: &[&'static str]) -> Option<&'static str> {
    of.iter().find(|known| **known == name).copied()
}

/// Brackets and what stands in them.
#[derive(Debug)]
enum Form<'a> {
    Word(&'a str),
    Text(String),
    Group(Vec<Form<'a>>),
}

impl<'a> Form<'a> {
    fn read(rest: &mut &'a str) -> Option<Form<'a>> {
        *rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('(') {
            *rest = after;
            let mut group = Vec::new();
            loop {
                *rest = rest.trim_start();
                if let Some(after) = rest.strip_prefix(')') {
                    *rest = after;
                    return Some(Form::Group(group));
                }
                group.push(Form::read(rest)?);
            }
        }
        if let Some(after) = rest.strip_prefix('"') {
            let (mut text, mut escaped) = (String::new(), false);
            for (at, c) in after.char_indices() {
                match (escaped, c) {
                    (true, 'n') => text.push('\n'),
                    (true, c) => text.push(c),
                    (false, '\\') => {
                        escaped = true;
                        continue;
                    }
                    (false, '"') => {
                        *rest = &after[at + 1..];
                        return Some(Form::Text(text));
                    }
                    (false, c) => text.push(c),
                }
                escaped = false;
            }
            return None;
        }
        let end = rest.find([' ', '(', ')']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        *rest = after;
        (!word.is_empty()).then_some(Form::Word(word))
    }

    fn group(&self) -> Option<&[Form<'a>]> {
        match self {
            Form::Group(group) => Some(group),
            _ => None,
        }
    }

    fn word(&self) -> Option<&'a str> {
        match self {
            Form::Word(word) => Some(word),
            _ => None,
        }
    }
}

/// Gives each name its place.
#[derive(Default)]
struct Names<'a>(Vec<&'a str>);

impl<'a> Names<'a> {
    fn place(&mut self, name: &'a str) -> usize {
        self.0
            .iter()
            .position(|known| *known == name)
            .unwrap_or_else(|| {
                self.0.push(name);
                self.0.len() - 1
            })
    }

    fn places(&mut self, form: &Form<'a>) -> Option<Vec<usize>> {
        match form {
            Form::Word(word) => Some(vec![self.place(word)]),
            Form::Group(group) => group
                .iter()
                .map(|one| Some(self.place(one.word()?)))
                .collect(),
            Form::Text(_) => None,
        }
    }
}

struct Compiler<'a> {
    names: Names<'a>,
    functions: Vec<Function>,
}

impl<'a> Compiler<'a> {
    fn block(&mut self, form: &Form<'a>) -> Option<Vec<Statement>> {
        let mut block = Vec::new();
        for one in form.group()? {
            let group = one.group()?;
            let statement = match (group.first()?.word()?, &group[1..]) {
                ("def", [name, parameters, body]) => {
                    let function = Function {
                        name: self.names.place(name.word()?),
                        parameters: self.names.places(parameters)?,
                        body: self.block(body)?,
                    };
                    self.functions.push(function);
                    continue;
                }
                ("=", [target, value]) => {
                    let value = self.expression(value)?;
                    Statement::Assign(self.names.places(target)?, value)
                }
                ("do", [call]) => match call.group()? {
                    [Form::Word(".append"), list, value] => {
                        let value = self.expression(value)?;
                        Statement::Append(self.names.place(list.word()?), value)
                    }
                    _ => return None,
                },
                ("while", [condition, body]) => {
                    Statement::While(self.expression(condition)?, self.block(body)?)
                }
                ("for", [name, over, body]) => {
                    let over = self.expression(over)?;
                    Statement::For(self.names.place(name.word()?), over, self.block(body)?)
                }
                ("when", [condition, then, other]) => Statement::When(
                    self.expression(condition)?,
                    self.block(then)?,
                    self.block(other)?,
                ),
                ("return", [value]) => Statement::Return(self.expression(value)?),
                ("break", []) => Statement::Break,
                ("raise", []) => Statement::Raise,
                _ => return None,
            };
            block.push(statement);
        }
        Some(block)
    }

    fn all(&mut self, forms: &[Form<'a>]) -> Option<Vec<Expression>> {
        forms.iter().map(|form| self.expression(form)).collect()
    }

    fn expression(&mut self, form: &Form<'a>) -> Option<Expression> {
        let group = match form {
            Form::Text(text) => return Some(Expression::Constant(Value::text(text.clone()))),
            Form::Word(word) => {
                let constant = match *word {
                    "none" => Some(Value::None),
                    "true" => Some(Value::Bool(true)),
                    "false" => Some(Value::Bool(false)),
                    _ if word.starts_with(|c: char| c.is_ascii_digit()) => {
                        let int = word.parse().ok().map(Value::Int);
                        Some(int.or_else(|| word.parse().ok().map(Value::Float))?)
                    }
                    _ => None,
                };
                return Some(match constant {
                    Some(value) => Expression::Constant(value),
                    None => Expression::Name(self.names.place(word)),
                });
            }
            Form::Group(group) => group,
        };
        let (head, rest) = (group.first()?.word()?, &group[1..]);
        let three = |list: Vec<Expression>| Some(Box::new(<[Expression; 3]>::try_from(list).ok()?));
        Some(match head {
            "if" => Expression::If(three(self.all(rest)?)?),
            "and" => Expression::All(self.all(rest)?),
            "or" => Expression::Any(self.all(rest)?),
            "compare" => {
                let first = self.expression(rest.first()?)?;
                let mut steps = Vec::new();
                for pair in rest[1..].chunks(2) {
                    let [sign, right] = pair else {
                        return None;
                    };
                    steps.push((known(sign.word()?, &COMPARISONS)?, self.expression(right)?));
                }
                Expression::Compare(Box::new(first), steps)
            }
            "collect" => {
                let name = self.names.place(rest.first()?.word()?);
                Expression::Collect(name, three(self.all(&rest[1..])?)?)
            }
            _ => match known(head, &KNOWN) {
                Some(name) => fold(name, self.all(rest)?),
                None => Expression::Call(self.names.place(head), self.all(rest)?),
            },
        })
    }
}

/// A list or a dictionary of constants is one itself, made once.
fn fold(name: &'static str, parts: Vec<Expression>) -> Expression {
    let constant = |part: &Expression| matches!(part, Expression::Constant(_));
    if !matches!(name, "list" | "dict") || !parts.iter().all(constant) {
        return Expression::Apply(name, parts);
    }
    let values = parts.into_iter().filter_map(|part| match part {
        Expression::Constant(value) => Some(value),
        _ => None,
    });
    let values: Vec<Value> = values.collect();
    Expression::Constant(if name == "list" {
        Value::list(values)
    } else {
        dictionary(&values)
    })
}

fn dictionary(values: &[Value]) -> Value {
    let pairs = values.chunks_exact(2);
    Value::Dict(Arc::new(
        pairs
            .map(|pair| (pair[0].clone(), pair[1].clone()))
            .collect(),
    ))
}

/// What a statement leads to.
enum Flow {
    On,
    Break,
    Return(Value),
}

type Frame = Vec<Option<Value>>;

struct Machine<'a> {
    template: &'a Template,
    random: &'a mut Random,
    fuel: u32,
}

impl Template {
    /// Reads a line of the data file: a number, the lines of a solution, and
    /// statements.
    pub(super) fn read(line: &str) -> Option<Template> {
        let mut parts = line.splitn(3, ' ').skip(1);
        let lines = parts.next()?.parse().ok()?;
        let mut rest = parts.next()?;
        let mut compiler = Compiler {
            names: Names::default(),
            functions: Vec::new(),
        };
        let difficulty = compiler.names.place("difficulty");
        let form = Form::read(&mut rest)?;
        let body = compiler.block(&form)?;
        Some(Template {
            functions: compiler.functions,
            body,
            names: compiler.names.0.len(),
            difficulty,
            lines,
        })
    }

    /// The problem, its answer and the steps between.
    pub(super) fn run(&self, random: &mut Random, difficulty: f64) -> Option<Value> {
        let mut machine = Machine {
            template: self,
            random,
            fuel: FUEL,
        };
        // `rng` is a name like others, and nothing asks for its value.
        let mut frame: Frame = vec![Some(Value::None); self.names];
        frame[self.difficulty] = Some(Value::Float(difficulty));
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
            Statement::Assign(places, value) => {
                let value = self.value(value, frame)?;
                if let [place] = places[..] {
                    frame[place] = Some(value);
                } else {
                    let parts = value.elements()?;
                    if parts.len() != places.len() {
                        return None;
                    }
                    for (place, part) in places.iter().zip(parts) {
                        frame[*place] = Some(part);
                    }
                }
            }
            Statement::Append(place, value) => {
                let value = self.value(value, frame)?;
                match &mut frame[*place] {
                    Some(Value::List(list)) => Arc::make_mut(list).push(value),
                    _ => return None,
                }
            }
            Statement::While(condition, body) => {
                while self.value(condition, frame)?.is_true() {
                    self.burn()?;
                    match self.block(body, frame)? {
                        Flow::On => {}
                        Flow::Break => break,
                        done => return Some(done),
                    }
                }
            }
            Statement::For(place, over, body) => {
                for value in self.value(over, frame)?.elements()? {
                    self.burn()?;
                    frame[*place] = Some(value);
                    match self.block(body, frame)? {
                        Flow::On => {}
                        Flow::Break => break,
                        done => return Some(done),
                    }
                }
            }
            Statement::When(condition, then, other) => {
                let block = if self.value(condition, frame)?.is_true() {
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
            Expression::If(parts) => {
                let [condition, then, other] = parts.as_ref();
                let chosen = if self.value(condition, frame)?.is_true() {
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
            Expression::Compare(first, steps) => {
                let mut left = self.value(first, frame)?;
                for (sign, right) in steps {
                    let right = self.value(right, frame)?;
                    if !compare(sign, &left, &right)? {
                        return Some(Value::Bool(false));
                    }
                    left = right;
                }
                Value::Bool(true)
            }
            Expression::Collect(place, parts) => {
                let [over, condition, element] = parts.as_ref();
                let mut list = Vec::new();
                let kept = frame[*place].take();
                for value in self.value(over, frame)?.elements()? {
                    self.burn()?;
                    frame[*place] = Some(value);
                    if self.value(condition, frame)?.is_true() {
                        list.push(self.value(element, frame)?);
                    }
                }
                frame[*place] = kept;
                Value::list(list)
            }
            Expression::Call(name, arguments) => {
                self.burn()?;
                let values = self.values(arguments, frame)?;
                let template = self.template;
                let function = template
                    .functions
                    .iter()
                    .find(|known| known.name == *name)?;
                if values.len() != function.parameters.len() {
                    return None;
                }
                let mut inner: Frame = vec![None; template.names];
                for (place, value) in function.parameters.iter().zip(values) {
                    inner[*place] = Some(value);
                }
                match self.block(&function.body, &mut inner)? {
                    Flow::Return(value) => value,
                    _ => Value::None,
                }
            }
            Expression::Apply(name, arguments) => {
                let values = self.values(arguments, frame)?;
                self.apply(name, values)?
            }
        })
    }

    fn values(&mut self, list: &[Expression], frame: &mut Frame) -> Option<Vec<Value>> {
        list.iter().map(|one| self.value(one, frame)).collect()
    }

    fn apply(&mut self, name: &str, mut values: Vec<Value>) -> Option<Value> {
        if let Some(draw) = name.strip_prefix("draw-") {
            return self.draw(draw, values);
        }
        match (name, &values[..]) {
            ("+", [a, b]) => a.add(b),
            ("-", [a, b]) => a.subtract(b),
            ("*", [a, b]) => a.multiply(b),
            ("/", [a, b]) => a.divide(b),
            ("//", [a, b]) => Some(a.divide_down(b)?.0),
            ("%", [a, b]) => Some(a.divide_down(b)?.1),
            ("**", [a, b]) => a.power(b),
            ("neg", [a]) => Value::Int(0).subtract(a),
            ("not", [a]) => Some(Value::Bool(!a.is_true())),
            ("text", parts) => {
                let mut text = String::new();
                for part in parts {
                    match part {
                        Value::Text(part) => text.push_str(part),
                        part => text.push_str(&part.shown()?),
                    }
                }
                Some(Value::text(text))
            }
            ("format", [a, Value::Text(spec)]) => Some(Value::text(a.formatted(spec)?)),
            ("list", [Value::List(_) | Value::Dict(_)]) if values.len() == 1 => {
                // A list of one list is not written in any template.
                Some(Value::list(values.pop()?.elements()?))
            }
            ("list", _) => Some(Value::list(values)),
            ("dict", pairs) => Some(dictionary(pairs)),
            ("at", [a, key]) => a.at(key),
            ("int", [a]) => Some(Value::Int(a.int()?)),
            ("float", [Value::Text(text)]) => Some(Value::Float(text.trim().parse().ok()?)),
            ("float", [a]) => Some(Value::Float(a.float()?)),
            ("round", [Value::Float(a)]) => Value::Float(a.round_ties_even()).int().map(Value::Int),
            ("round", [a, Value::Int(2)]) => {
                Some(Value::Float(format!("{:.2}", a.float()?).parse().ok()?))
            }
            ("round", [a @ Value::Int(_)]) => Some(a.clone()),
            ("min" | "max", [Value::List(list)]) => extreme(name, list),
            ("min" | "max", list) => extreme(name, list),
            ("range", bounds) => range(bounds),
            ("Fraction", [Value::Text(text)]) => {
                let (top, bottom) = Value::ratio(text)?;
                Value::fraction(top, bottom)
            }
            ("Fraction", [a]) => {
                let (top, bottom) = a.exact()?;
                Value::fraction(top, bottom)
            }
            ("Fraction", [a, b]) => {
                let ((a, c), (b, d)) = (a.exact()?, b.exact()?);
                Value::fraction(a.checked_mul(d)?, b.checked_mul(c)?)
            }
            ("is_integer" | ".is_integer", [a]) => Some(Value::Bool(a.is_integer()?)),
            ("format_number", [a]) => Some(Value::text(a.number()?)),
            ("str", [a]) => Some(Value::text(a.shown()?)),
            ("eval", [Value::Text(text)]) => {
                let (top, bottom) = Value::ratio(text)?;
                Value::Int(top).divide(&Value::Int(bottom))
            }
            ("gcd", [Value::Int(a), Value::Int(b)]) => {
                Some(Value::Int(crate::library::divisors::gcd(*a, *b)))
            }
            ("len", [Value::List(list)]) => Some(Value::Int(list.len() as i128)),
            (".copy", [a]) => Some(a.clone()),
            (".denominator", [a]) => Some(Value::Int(a.exact()?.1)),
            (".get", [a, key, other]) => Some(a.at(key).unwrap_or_else(|| other.clone())),
            (".lower", [Value::Text(text)]) => Some(Value::text(text.to_lowercase())),
            (".split", [Value::Text(text), Value::Text(by)]) => {
                let parts = text.split(&**by);
                Some(Value::list(
                    parts.map(|part| Value::text(part.to_owned())).collect(),
                ))
            }
            (".values", [Value::Dict(pairs)]) => Some(Value::list(
                pairs.iter().map(|(_, value)| value.clone()).collect(),
            )),
            _ => None,
        }
    }

    /// The methods of `random.Random`, failing where they fail.
    fn draw(&mut self, name: &str, values: Vec<Value>) -> Option<Value> {
        let number = |value: &Value| i64::try_from(value.index()?).ok();
        match (name, &values[..]) {
            ("randint", [low, high]) => {
                let (low, high) = (number(low)?, number(high)?);
                (low <= high).then(|| Value::Int(self.random.int(low, high).into()))
            }
            ("randrange", [low, high, rest @ ..]) => {
                let (low, high) = (number(low)?, number(high)?);
                let step = rest
                    .first()
                    .map_or(Some(1), number)
                    .filter(|step| *step > 0)?;
                let count = (high.checked_sub(low)?.checked_add(step - 1)?).div_euclid(step);
                let count = u64::try_from(count).ok().filter(|count| *count > 0)?;
                let drawn = i128::from(self.random.below(count));
                Some(Value::Int(i128::from(low) + i128::from(step) * drawn))
            }
            ("choice", [Value::List(list)]) if !list.is_empty() => {
                Some(self.random.choice(list).clone())
            }
            ("sample", [Value::List(list), count]) => {
                let count = usize::try_from(number(count)?).ok()?;
                let places =
                    (count <= list.len()).then(|| self.random.sample(list.len(), count))?;
                Some(Value::list(
                    places.into_iter().map(|at| list[at].clone()).collect(),
                ))
            }
            ("uniform", [low, high]) => {
                let (low, high) = (low.float()?, high.float()?);
                Some(Value::Float(self.random.uniform(low, high)))
            }
            ("random", []) => Some(Value::Float(self.random.unit())),
            _ => None,
        }
    }
}

fn compare(sign: &str, left: &Value, right: &Value) -> Option<bool> {
    Some(match sign {
        "==" => left.equals(right),
        "!=" => !left.equals(right),
        "<" => left.order(right)?.is_lt(),
        "<=" => left.order(right)?.is_le(),
        ">" => left.order(right)?.is_gt(),
        ">=" => left.order(right)?.is_ge(),
        _ => {
            let list = right.clone().elements()?;
            list.iter().any(|one| one.equals(left)) == (sign == "in")
        }
    })
}

/// The first of the smallest or largest.
fn extreme(name: &str, list: &[Value]) -> Option<Value> {
    let mut best = list.first()?;
    for one in &list[1..] {
        let order = one.order(best)?;
        if (name == "min" && order.is_lt()) || (name == "max" && order.is_gt()) {
            best = one;
        }
    }
    Some(best.clone())
}

fn range(bounds: &[Value]) -> Option<Value> {
    let bounds: Option<Vec<i128>> = bounds.iter().map(Value::index).collect();
    let (low, high, step) = match bounds?[..] {
        [high] => (0, high, 1),
        [low, high] => (low, high, 1),
        [low, high, step] if step > 0 => (low, high, step),
        _ => return None,
    };
    if high.saturating_sub(low) / step > LONGEST {
        return None;
    }
    let mut list = Vec::new();
    let mut at = low;
    while at < high {
        list.push(Value::Int(at));
        at += step;
    }
    Some(Value::list(list))
}

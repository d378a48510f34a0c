//! Reads the templates and runs them.
//!
//! A template is functions of assignments, loops and expressions; each name is
//! a place in a frame. What depends on no draw is worked out when it is read.
//! A program that Python would fail on gives nothing, and so does one that goes
//! on for too long.

use std::cmp::Ordering;
use std::sync::Arc;

use super::value::{Value, divide_down};
use crate::library::random::Random;

/// Turns of loops and calls after which a program is given up.
const FUEL: u32 = 1_000_000;
/// The only difficulty that upstream allows; it widens the ranges of numbers.
const DIFFICULTY: f64 = 1.0;
/// Bytes that most texts of a template fit in.
const LINE: usize = 512;
/// The longest list that is made.
const LONGEST: i64 = 100_000;

/// One word problem.
pub(super) struct Template {
    functions: Vec<Definition>,
    body: Vec<Statement>,
    names: usize,
    /// How many lines its solution has.
    pub(super) lines: usize,
}

struct Definition {
    name: usize,
    parameters: Vec<usize>,
    body: Vec<Statement>,
}

enum Statement {
    Assign(usize, Expression),
    AssignEach(Vec<usize>, Expression),
    /// Text at the end of a text.
    Extend(usize, Expression),
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
    /// Everything one after the other, as a text.
    Text(Vec<Expression>),
    /// A function of Python's or upstream's.
    Apply(Function, Vec<Expression>),
    /// One of one or two arguments, as most are.
    ApplyOne(Function, Box<Expression>),
    ApplyTwo(Function, Box<[Expression; 2]>),
    /// A function of the template.
    Call(usize, Vec<Expression>),
    If(Box<[Expression; 3]>),
    All(Vec<Expression>),
    Any(Vec<Expression>),
    Compare(Box<Expression>, Vec<(Comparison, Expression)>),
    /// Name, what it goes over, condition, element.
    Collect(usize, Box<[Expression; 3]>),
}

/// The words of a template that stand for something of Python's.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq)]
        enum $name { $($variant),+ }

        impl $name {
            fn named(word: &str) -> Option<$name> {
                match word {
                    $($word => Some($name::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

words!(
    /// Every function that a template may apply.
    Function {
        Add "+",
        Subtract "-",
        Multiply "*",
        Divide "/",
        DivideDown "//",
        Remainder "%",
        Power "**",
        Negate "neg",
        Not "not",
        Text "text",
        Format "format",
        List "list",
        Dict "dict",
        At "at",
        Int "int",
        Float "float",
        Round "round",
        Min "min",
        Max "max",
        Range "range",
        Fraction "Fraction",
        IsInteger "is_integer",
        FormatNumber "format_number",
        Eval "eval",
        Gcd "gcd",
        RandInt "draw-randint",
        RandRange "draw-randrange",
        Choice "draw-choice",
        Sample "draw-sample",
        Uniform "draw-uniform",
        Random "draw-random",
        FloatIsInteger ".is_integer",
        Copy ".copy",
        Get ".get",
        Lower ".lower",
        Split ".split",
        Values ".values",
        Denominator ".denominator",
        Str "str",
        Len "len",
    }
);

words!(
    Comparison {
        Equal "==",
        NotEqual "!=",
        Less "<",
        LessOrEqual "<=",
        Greater ">",
        GreaterOrEqual ">=",
        In "in",
        NotIn "not-in",
    }
);

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
    functions: Vec<Definition>,
    /// Names of the function that is read which have one value only.
    constants: Vec<(&'a str, Value)>,
}

/// How often a name is given a value, or its value changed.
fn assignments(form: &Form, name: &str) -> usize {
    let Form::Group(group) = form else {
        return 0;
    };
    let here = match &group[..] {
        [Form::Word("=" | "for" | "collect"), target, ..] => {
            let one = |form: &Form| usize::from(form.word() == Some(name));
            target
                .group()
                .map_or(one(target), |group| group.iter().map(one).sum())
        }
        [Form::Word(".append"), Form::Word(list), ..] => usize::from(*list == name),
        _ => 0,
    };
    here + group
        .iter()
        .map(|form| assignments(form, name))
        .sum::<usize>()
}

impl<'a> Compiler<'a> {
    /// The statements of a function. What is assigned once, outside of loops
    /// and branches, and known, is not assigned at all.
    fn body(&mut self, form: &Form<'a>) -> Option<Vec<Statement>> {
        let outer = std::mem::take(&mut self.constants);
        let mut body = Vec::new();
        for one in form.group()? {
            if let [Form::Word("="), Form::Word(name), value] = one.group()?
                && assignments(form, name) == 1
                && let Expression::Constant(value) = self.expression(value)?
            {
                self.constants.push((name, value));
            } else {
                body.extend(self.statement(one)?);
            }
        }
        self.constants = outer;
        Some(body)
    }

    fn block(&mut self, form: &Form<'a>) -> Option<Vec<Statement>> {
        let mut block = Vec::new();
        for one in form.group()? {
            block.extend(self.statement(one)?);
        }
        Some(block)
    }

    /// A statement; none of a definition.
    fn statement(&mut self, form: &Form<'a>) -> Option<Option<Statement>> {
        let group = form.group()?;
        Some(Some(match (group.first()?.word()?, &group[1..]) {
            ("def", [name, parameters, body]) => {
                let function = Definition {
                    name: self.names.place(name.word()?),
                    parameters: self.names.places(parameters)?,
                    body: self.body(body)?,
                };
                self.functions.push(function);
                return Some(None);
            }
            ("=", [target, value]) => {
                let value = self.expression(value)?;
                match target {
                    Form::Word(name) => self.assign(name, value),
                    targets => Statement::AssignEach(self.names.places(targets)?, value),
                }
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
        }))
    }

    fn assign(&mut self, name: &'a str, value: Expression) -> Statement {
        let place = self.names.place(name);
        match value {
            Expression::ApplyTwo(Function::Add, parts) if matches!(*parts, [Expression::Name(same), Expression::Text(_)] if same == place) =>
            {
                let [_, more] = *parts;
                Statement::Extend(place, more)
            }
            value => Statement::Assign(place, value),
        }
    }

    fn all(&mut self, forms: &[Form<'a>]) -> Option<Vec<Expression>> {
        forms.iter().map(|form| self.expression(form)).collect()
    }

    fn expression(&mut self, form: &Form<'a>) -> Option<Expression> {
        let group = match form {
            Form::Text(text) => return Some(Expression::Constant(Value::fixed(text.clone()))),
            Form::Word(word) => {
                let constant = match *word {
                    "none" => Some(Value::None),
                    "true" => Some(Value::Bool(true)),
                    "false" => Some(Value::Bool(false)),
                    "difficulty" => Some(Value::Float(DIFFICULTY)),
                    _ if word.starts_with(|c: char| c.is_ascii_digit()) => {
                        let int = word.parse().ok().map(Value::Int);
                        Some(int.or_else(|| word.parse().ok().map(Value::Float))?)
                    }
                    _ => {
                        let mut known = self.constants.iter();
                        let known = known.find(|(name, _)| name == word);
                        known.map(|(_, value)| value.clone())
                    }
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
                    steps.push((Comparison::named(sign.word()?)?, self.expression(right)?));
                }
                Expression::Compare(Box::new(first), steps)
            }
            "collect" => {
                let name = self.names.place(rest.first()?.word()?);
                Expression::Collect(name, three(self.all(&rest[1..])?)?)
            }
            _ => match Function::named(head) {
                Some(function) => fold(function, self.all(rest)?),
                None => Expression::Call(self.names.place(head), self.all(rest)?),
            },
        })
    }
}

/// What a function makes of constants is one itself, made once.
fn fold(function: Function, mut parts: Vec<Expression>) -> Expression {
    let constant = |part: &Expression| match part {
        Expression::Constant(value) => Some(value.clone()),
        _ => None,
    };
    let values: Option<Vec<Value>> = parts.iter().map(constant).collect();
    if let Some(value) = values.and_then(|values| apply(function, &values)) {
        return Expression::Constant(value);
    }
    if function == Function::Text {
        return Expression::Text(parts);
    }
    if function == Function::Int
        && let [Expression::ApplyTwo(Function::RandInt | Function::RandRange, _)] = &parts[..]
    {
        // These are whole numbers.
        return parts.remove(0);
    }
    match parts.len() {
        1 => Expression::ApplyOne(function, Box::new(parts.remove(0))),
        2 => match <[Expression; 2]>::try_from(parts) {
            Ok(two) => Expression::ApplyTwo(function, Box::new(two)),
            Err(parts) => Expression::Apply(function, parts),
        },
        _ => Expression::Apply(function, parts),
    }
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
    /// Reads a line of the data file: a number, the lines of a solution, and
    /// statements.
    pub(super) fn read(line: &str) -> Option<Template> {
        let mut parts = line.splitn(3, ' ').skip(1);
        let lines = parts.next()?.parse().ok()?;
        let mut rest = parts.next()?;
        let mut compiler = Compiler {
            names: Names::default(),
            functions: Vec::new(),
            constants: Vec::new(),
        };
        let form = Form::read(&mut rest)?;
        let body = compiler.block(&form)?;
        Some(Template {
            functions: compiler.functions,
            body,
            names: compiler.names.0.len(),
            lines,
        })
    }

    /// The problem, its answer and the steps between.
    pub(super) fn run(&self, random: &mut Random) -> Option<Value> {
        let mut machine = Machine {
            template: self,
            random,
            fuel: FUEL,
            scratch: String::new(),
        };
        // `rng` is a name like others, and nothing asks for its value.
        let mut frame: Frame = vec![Some(Value::None); self.names];
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
                frame[*place] = Some(match Number::made(value, frame) {
                    Some(number) => number.value(),
                    None => self.value(value, frame)?,
                });
            }
            Statement::AssignEach(places, value) => {
                let parts = self.value(value, frame)?.elements()?;
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
                for value in self.turns(over, frame)? {
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
            Expression::Text(_) => {
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
            Expression::Collect(place, parts) => {
                let [over, condition, element] = parts.as_ref();
                let mut list = Vec::new();
                let kept = frame[*place].take();
                for value in self.turns(over, frame)? {
                    self.burn()?;
                    frame[*place] = Some(value);
                    if self.holds(condition, frame)? {
                        list.push(self.value(element, frame)?);
                    }
                }
                frame[*place] = kept;
                Value::list(list)
            }
            Expression::Call(name, arguments) => {
                self.burn()?;
                let template = self.template;
                let mut functions = template.functions.iter();
                let function = functions.find(|known| known.name == *name)?;
                if arguments.len() != function.parameters.len() {
                    return None;
                }
                let mut inner: Frame = vec![None; template.names];
                for (place, argument) in function.parameters.iter().zip(arguments) {
                    inner[*place] = Some(self.value(argument, frame)?);
                }
                match self.block(&function.body, &mut inner)? {
                    Flow::Return(value) => value,
                    _ => Value::None,
                }
            }
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
            Expression::Text(parts) => parts
                .iter()
                .try_for_each(|part| self.write(part, frame, text)),
            Expression::Constant(value) => value.write(text),
            Expression::Name(place) => frame[*place].as_ref()?.write(text),
            expression => self.value(expression, frame)?.write(text),
        }
    }

    /// The methods of `random.Random`, failing where they fail.
    fn draw(&mut self, function: Function, values: &[&Value]) -> Option<Value> {
        let number = Value::index;
        match (function, values) {
            (Function::RandInt, [low, high]) => {
                let (low, high) = (number(low)?, number(high)?);
                (low <= high).then(|| Value::Int(self.random.int(low, high)))
            }
            (Function::RandRange, [low, high, rest @ ..]) => {
                let (low, high) = (number(low)?, number(high)?);
                let step = rest
                    .first()
                    .map_or(Some(1), |step| number(step))
                    .filter(|step| *step > 0)?;
                let count = (high.checked_sub(low)?.checked_add(step - 1)?).div_euclid(step);
                let count = u64::try_from(count).ok().filter(|count| *count > 0)?;
                let drawn = i64::try_from(self.random.below(count)).ok()?;
                Some(Value::Int(low.checked_add(step.checked_mul(drawn)?)?))
            }
            (Function::Choice, [Value::List(list)]) if !list.is_empty() => {
                Some(self.random.choice(list).clone())
            }
            (Function::Sample, [Value::List(list), count]) => {
                let count = usize::try_from(number(count)?).ok()?;
                let places =
                    (count <= list.len()).then(|| self.random.sample(list.len(), count))?;
                Some(Value::list(
                    places.into_iter().map(|at| list[at].clone()).collect(),
                ))
            }
            (Function::Uniform, [low, high]) => {
                let (low, high) = (low.float()?, high.float()?);
                Some(Value::Float(self.random.uniform(low, high)))
            }
            (Function::Random, []) => Some(Value::Float(self.random.unit())),
            _ => None,
        }
    }
}

/// A number, without what else a value may be.
#[derive(Clone, Copy)]
enum Number {
    Whole(i64),
    Float(f64),
}

use Number::{Float, Whole};

impl Number {
    fn of(value: &Value) -> Option<Number> {
        match value {
            Value::Int(value) => Some(Whole(*value)),
            Value::Float(value) => Some(Float(*value)),
            _ => None,
        }
    }

    fn value(self) -> Value {
        match self {
            Whole(value) => Value::Int(value),
            Float(value) => Value::Float(value),
        }
    }

    /// A number that is worked out from numbers, with no values on the way. Such
    /// an expression draws nothing, so where this gives nothing it can be tried
    /// the long way, which it goes the way of to the last bit.
    fn made(expression: &Expression, frame: &Frame) -> Option<Number> {
        match expression {
            Expression::Constant(value) => Number::of(value),
            Expression::Name(place) => Number::of(frame[*place].as_ref()?),
            Expression::ApplyOne(Function::Int, part) => match Number::made(part, frame)? {
                Float(value) => Value::Float(value).int().map(Whole),
                whole => Some(whole),
            },
            Expression::ApplyTwo(function, parts) if function.is_arithmetic() => {
                let [left, right] = parts.as_ref();
                Number::made(left, frame)?.with(*function, Number::made(right, frame)?)
            }
            _ => None,
        }
    }

    fn with(self, function: Function, other: Number) -> Option<Number> {
        if let (Whole(a), Whole(b)) = (self, other) {
            let whole = match function {
                Function::Add => a.checked_add(b),
                Function::Subtract => a.checked_sub(b),
                Function::Multiply => a.checked_mul(b),
                Function::DivideDown => divide_down(a, b).map(|(down, _)| down),
                Function::Remainder => divide_down(a, b).map(|(_, rest)| rest),
                _ => return self.float().with(function, other.float()),
            };
            return whole.map(Whole);
        }
        let (Float(a), Float(b)) = (self.float(), other.float()) else {
            return None;
        };
        match function {
            Function::Add => Some(Float(a + b)),
            Function::Subtract => Some(Float(a - b)),
            Function::Multiply => Some(Float(a * b)),
            Function::Divide if b != 0.0 => Some(Float(a / b)),
            _ => None,
        }
    }

    fn float(self) -> Number {
        match self {
            Whole(value) => Float(value as f64),
            float => float,
        }
    }

    fn order(self, other: Number) -> Option<Ordering> {
        match (self, other) {
            (Whole(a), Whole(b)) => Some(a.cmp(&b)),
            (Whole(a), Float(b)) => (a as f64).partial_cmp(&b),
            (Float(a), Whole(b)) => a.partial_cmp(&(b as f64)),
            (Float(a), Float(b)) => a.partial_cmp(&b),
        }
    }
}

impl Function {
    fn is_arithmetic(self) -> bool {
        use Function::{Add, Divide, DivideDown, Multiply, Remainder, Subtract};
        matches!(
            self,
            Add | Subtract | Multiply | Divide | DivideDown | Remainder
        )
    }

    fn is_drawn(self) -> bool {
        use Function::{Choice, RandInt, RandRange, Random, Sample, Uniform};
        matches!(
            self,
            RandInt | RandRange | Choice | Sample | Uniform | Random
        )
    }
}

/// A function of one argument that draws nothing.
fn apply_one(function: Function, a: &Value) -> Option<Value> {
    match function {
        Function::Negate => Value::Int(0).subtract(a),
        Function::Not => Some(Value::Bool(!a.is_true())),
        Function::Int => Some(Value::Int(a.int()?)),
        Function::Float => match a {
            Value::Text(text) => Some(Value::Float(text.trim().parse().ok()?)),
            a => Some(Value::Float(a.float()?)),
        },
        Function::Round => match a {
            Value::Float(a) => Value::Float(a.round_ties_even()).int().map(Value::Int),
            a @ Value::Int(_) => Some(a.clone()),
            _ => None,
        },
        Function::Min | Function::Max => match a {
            Value::List(list) => extreme(function, list),
            a => Some(a.clone()),
        },
        // A list of one list is not written in any template.
        Function::List => Some(Value::list(match a {
            Value::List(_) | Value::Dict(_) => a.clone().elements()?,
            one => vec![one.clone()],
        })),
        Function::Range => Some(Value::list(range(&[a])?.collect())),
        Function::Fraction => {
            let (top, bottom) = match a {
                Value::Text(text) => Value::ratio(text)?,
                a => a.exact()?,
            };
            Value::fraction(top, bottom)
        }
        Function::IsInteger | Function::FloatIsInteger => Some(Value::Bool(a.is_integer()?)),
        Function::FormatNumber => Some(Value::text(a.number()?)),
        Function::Str | Function::Text => {
            let mut text = String::new();
            a.write(&mut text)?;
            Some(Value::text(text))
        }
        Function::Eval => match a {
            Value::Text(text) => {
                let (top, bottom) = Value::ratio(text)?;
                (bottom != 0).then(|| Value::Float(top as f64 / bottom as f64))
            }
            _ => None,
        },
        Function::Len => match a {
            Value::List(list) => Some(Value::Int(list.len() as i64)),
            _ => None,
        },
        Function::Copy => Some(a.clone()),
        Function::Denominator => Some(Value::Int(i64::try_from(a.exact()?.1).ok()?)),
        Function::Lower => match a {
            Value::Text(text) => Some(Value::text(text.to_lowercase())),
            _ => None,
        },
        Function::Values => match a {
            Value::Dict(pairs) => Some(Value::list(
                pairs.iter().map(|(_, value)| value.clone()).collect(),
            )),
            _ => None,
        },
        _ => None,
    }
}

/// A function of two arguments that draws nothing.
fn apply_two(function: Function, a: &Value, b: &Value) -> Option<Value> {
    match function {
        Function::Add => a.add(b),
        Function::Subtract => a.subtract(b),
        Function::Multiply => a.multiply(b),
        Function::Divide => a.divide(b),
        Function::DivideDown => Some(a.divide_down(b)?.0),
        Function::Remainder => Some(a.divide_down(b)?.1),
        Function::Power => a.power(b),
        Function::At => a.at(b),
        Function::Format => match b {
            Value::Text(spec) => Some(Value::text(a.formatted(spec)?)),
            _ => None,
        },
        Function::Round => match b {
            Value::Int(2) => Some(Value::Float(format!("{:.2}", a.float()?).parse().ok()?)),
            _ => None,
        },
        Function::Min | Function::Max => {
            let second = match b.order(a)? {
                Ordering::Less => function == Function::Min,
                Ordering::Greater => function == Function::Max,
                Ordering::Equal => false,
            };
            Some(if second { b } else { a }.clone())
        }
        Function::Fraction => {
            let ((a, c), (b, d)) = (a.exact()?, b.exact()?);
            Value::fraction(a.checked_mul(d)?, b.checked_mul(c)?)
        }
        Function::Range => Some(Value::list(range(&[a, b])?.collect())),
        Function::Gcd => match (a, b) {
            (Value::Int(a), Value::Int(b)) => {
                let common = crate::library::divisors::gcd((*a).into(), (*b).into());
                Some(Value::Int(i64::try_from(common).ok()?))
            }
            _ => None,
        },
        Function::Split => match (a, b) {
            (Value::Text(text), Value::Text(by)) => {
                let parts = text.split(&**by);
                Some(Value::list(
                    parts.map(|part| Value::text(part.to_owned())).collect(),
                ))
            }
            _ => None,
        },
        Function::List => Some(Value::list(vec![a.clone(), b.clone()])),
        Function::Dict => Some(dictionary(&[a.clone(), b.clone()])),
        _ => None,
    }
}

/// A function that draws nothing, of any number of arguments.
fn apply(function: Function, values: &[Value]) -> Option<Value> {
    match (function, values) {
        (Function::Text, parts) => {
            let mut text = String::new();
            parts.iter().try_for_each(|part| part.write(&mut text))?;
            Some(Value::text(text))
        }
        (function, [a]) => apply_one(function, a),
        (function, [a, b]) => apply_two(function, a, b),
        (Function::List, _) => Some(Value::list(values.to_vec())),
        (Function::Dict, pairs) => Some(dictionary(pairs)),
        (Function::Min | Function::Max, list) => extreme(function, list),
        (Function::Range, bounds) => {
            let range = range(&bounds.iter().collect::<Vec<_>>())?;
            Some(Value::list(range.collect()))
        }
        (Function::Get, [a, key, other]) => Some(a.at(key).unwrap_or_else(|| other.clone())),
        _ => None,
    }
}

impl Comparison {
    /// Whether it holds of two values in this order; nothing where it asks for
    /// something else.
    fn orders(self, order: Ordering) -> Option<bool> {
        match self {
            Comparison::Equal => Some(order.is_eq()),
            Comparison::NotEqual => Some(order.is_ne()),
            Comparison::Less => Some(order.is_lt()),
            Comparison::LessOrEqual => Some(order.is_le()),
            Comparison::Greater => Some(order.is_gt()),
            Comparison::GreaterOrEqual => Some(order.is_ge()),
            Comparison::In | Comparison::NotIn => None,
        }
    }
}

fn compare(sign: Comparison, left: &Value, right: &Value) -> Option<bool> {
    Some(match sign {
        Comparison::Equal => left.equals(right),
        Comparison::NotEqual => !left.equals(right),
        Comparison::In | Comparison::NotIn => {
            let found = match right {
                Value::List(list) => list.iter().any(|one| one.equals(left)),
                Value::Dict(pairs) => pairs.iter().any(|(key, _)| key.equals(left)),
                _ => return None,
            };
            found == (sign == Comparison::In)
        }
        sign => sign.orders(left.order(right)?)?,
    })
}

/// The first of the smallest or largest.
fn extreme(which: Function, list: &[Value]) -> Option<Value> {
    let mut best = list.first()?;
    for one in &list[1..] {
        let order = one.order(best)?;
        if (which == Function::Min && order.is_lt()) || (which == Function::Max && order.is_gt()) {
            best = one;
        }
    }
    Some(best.clone())
}

/// What a loop goes over.
enum Turns {
    Range(Range),
    List(std::vec::IntoIter<Value>),
}

impl Iterator for Turns {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        match self {
            Turns::Range(range) => range.next(),
            Turns::List(list) => list.next(),
        }
    }
}

struct Range {
    at: i64,
    high: i64,
    step: i64,
}

impl Iterator for Range {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        let at = self.at;
        self.at = at.saturating_add(self.step);
        (at < self.high).then_some(Value::Int(at))
    }
}

fn range(bounds: &[&Value]) -> Option<Range> {
    let bounds: Option<Vec<i64>> = bounds.iter().map(|bound| bound.index()).collect();
    let (at, high, step) = match bounds?[..] {
        [high] => (0, high, 1),
        [low, high] => (low, high, 1),
        [low, high, step] if step > 0 => (low, high, step),
        _ => return None,
    };
    (high.saturating_sub(at) / step <= LONGEST).then_some(Range { at, high, step })
}

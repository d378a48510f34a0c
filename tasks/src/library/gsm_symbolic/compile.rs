//! Reads the templates. What depends on no draw is worked out here, and a last
//! call becomes part of the function that makes it.

use super::functions::apply;
use super::program::{Comparison, Definition, Expression, Function, Statement, Template};
use super::value::Value;

/// The only difficulty that upstream allows; it widens the ranges of numbers.
const DIFFICULTY: f64 = 1.0;

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

    /// Whether a word stands somewhere in it.
    fn mentions(&self, word: &str) -> bool {
        match self {
            Form::Word(one) => *one == word,
            Form::Text(_) => false,
            Form::Group(group) => group.iter().any(|form| form.mentions(word)),
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

/// What is assigned to a name only to be returned.
fn result<'f, 'a>(assigned: &'f Form<'a>, returned: &Form<'a>) -> Option<&'f Form<'a>> {
    let [Form::Word("="), Form::Word(name), value] = assigned.group()? else {
        return None;
    };
    let [Form::Word("return"), Form::Word(same)] = returned.group()? else {
        return None;
    };
    (name == same).then_some(value)
}

impl<'a> Compiler<'a> {
    /// The statements of a function. What is assigned once, outside of loops
    /// and branches, and known, is not assigned at all.
    fn body(&mut self, form: &Form<'a>) -> Option<Vec<Statement>> {
        let outer = std::mem::take(&mut self.constants);
        let mut body = Vec::new();
        let mut statements = form.group()?;
        let last = match statements {
            [before @ .., assigned, returned] if let Some(call) = result(assigned, returned) => {
                statements = before;
                Some(call)
            }
            _ => None,
        };
        for one in statements {
            if let [Form::Word("="), Form::Word(name), value] = one.group()?
                && assignments(form, name) == 1
                && let Expression::Constant(value) = self.expression(value)?
            {
                self.constants.push((name, value));
            } else {
                body.extend(self.statement(one)?);
            }
        }
        if let Some(call) = last {
            body.extend(self.returned(call)?);
        }
        self.constants = outer;
        Some(body)
    }

    /// Returns what an expression gives. Nothing of this function is asked for
    /// after its last call, so the function that is called goes on in its frame.
    fn returned(&mut self, form: &Form<'a>) -> Option<Vec<Statement>> {
        let value = self.expression(form)?;
        let Expression::Call(name, arguments) = value else {
            return Some(vec![Statement::Return(value)]);
        };
        let mut functions = self.functions.iter();
        let function = functions.find(|known| known.name == name)?;
        let given = function.parameters.iter().copied().zip(&arguments);
        let moved: Vec<_> = given
            .filter(|(place, given)| !matches!(given, Expression::Name(same) if same == place))
            .collect();
        // One after the other is as good as at once, where no argument asks for
        // a parameter that was given its value before.
        let asked = |form: &Form| {
            let mut moved = moved.iter();
            moved.any(|(place, _)| form.mentions(self.names.0[*place]))
        };
        let forms = form.group()?[1..].iter().zip(&arguments);
        let kept = arguments.len() != function.parameters.len()
            || forms
                .filter(|(_, given)| !given.is_constant())
                .any(|(form, _)| asked(form));
        if kept {
            return Some(vec![Statement::Return(Expression::Call(name, arguments))]);
        }
        let moved = moved.into_iter();
        let mut body: Vec<Statement> = moved
            .map(|(place, given)| Statement::Assign(place, given.clone()))
            .collect();
        body.extend(function.body.iter().cloned());
        Some(body)
    }

    fn block(&mut self, form: &Form<'a>) -> Option<Vec<Statement>> {
        let mut block = Vec::new();
        for one in form.group()? {
            match one.group()? {
                [Form::Word("return"), value] => block.extend(self.returned(value)?),
                _ => block.extend(self.statement(one)?),
            }
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
            Expression::ApplyTwo(Function::Add, parts) if matches!(*parts, [Expression::Name(same), Expression::Text(..)] if same == place) =>
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

impl Expression {
    fn is_constant(&self) -> bool {
        matches!(self, Expression::Constant(_))
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
        let (mut values, mut fixed) = (Vec::new(), String::new());
        for part in parts {
            match part {
                Expression::Constant(value) if value.write(&mut fixed).is_some() => {}
                part => values.push((&*std::mem::take(&mut fixed).leak(), part)),
            }
        }
        return Expression::Text(values, fixed.leak());
    }
    if function == Function::Int
        && let [
            Expression::ApplyTwo(Function::RandInt | Function::RandRange, _)
            | Expression::Apply(Function::RandRange, _),
        ] = &parts[..]
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

//! What a template is made of: functions of assignments, loops and expressions.
//! Each name is a place in a frame.

use super::value::Value;

/// One word problem.
pub(super) struct Template {
    pub(super) functions: Vec<Definition>,
    pub(super) body: Vec<Statement>,
    pub(super) names: usize,
    /// How many lines its solution has.
    pub(super) lines: usize,
}

#[derive(Clone)]
pub(super) struct Definition {
    pub(super) name: usize,
    pub(super) parameters: Vec<usize>,
    pub(super) body: Vec<Statement>,
}

#[derive(Clone)]
pub(super) enum Statement {
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

#[derive(Clone)]
pub(super) enum Expression {
    Constant(Value),
    Name(usize),
    /// Everything one after the other, as a text: values, each with the fixed
    /// text before it, and the text after them.
    Text(Vec<(&'static str, Expression)>, &'static str),
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
        pub(super) enum $name { $($variant),+ }

        impl $name {
            pub(super) fn named(word: &str) -> Option<$name> {
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

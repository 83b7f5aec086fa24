//! Conditions: RFC 9535 filter expressions, compiled over cells and typed literals.

use jsonpath_rust::parser::model::{
    Comparable, Comparison, Filter, FilterAtom, FnArg, Segment, SingularQuery, Test, TestFunction,
};
use regex::Regex;
use rowbridge_api::{Kind, Op, Type};

use super::literal::{Literal, Written};
use super::path::{self, Place, PlaceType};
use super::tokens::Tokens;
use super::{Scope, parse_condition, whole};
use crate::mapping::diagnostic::{At, Diagnostic};
use crate::mapping::file::reader::Text;
use crate::mapping::rule::Side;

/// A compiled condition.
#[derive(Clone, Debug)]
pub(in crate::mapping) enum Condition {
    /// All, left to right, ending at the first that is false.
    And(Box<[Condition]>),
    /// Any, left to right, ending at the first that is true.
    Or(Box<[Condition]>),
    Not(Box<Condition>),
    Compare {
        left: Operand,
        relation: Relation,
        right: Operand,
    },
    Exists(Place),
    /// `match()` has its pattern anchored, `search()` has not.
    Matches {
        subject: Place,
        pattern: Regex,
    },
}

/// One side of a comparison.
#[derive(Clone, Debug)]
pub(in crate::mapping) enum Operand {
    Literal(Literal),
    Place(Place),
    /// `length()`
    Length(Place),
    /// `count()`
    Count(Place),
    /// `value()`
    OnlyNode(Place),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mapping) enum Relation {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

/// Compiles a whole string as a condition.
pub(in crate::mapping) fn compile(scope: &Scope<'_>, text: &Text) -> Option<Condition> {
    let filter = parse_condition(scope, text)?;
    let mut compiler = Compiler {
        scope,
        text,
        tokens: Tokens::scan(&text.value),
    };
    compiler.filter(&filter)
}

struct Compiler<'a> {
    scope: &'a Scope<'a>,
    text: &'a Text,
    tokens: Tokens,
}

/// An operand with its place, and for a literal how it is written.
struct Compiled {
    operand: CompiledOperand,
    at: At,
}

enum CompiledOperand {
    Written(Written),
    Typed(Operand, PlaceType),
}

impl Compiler<'_> {
    fn filter(&mut self, filter: &Filter) -> Option<Condition> {
        match filter {
            Filter::Or(parts) => self.all(parts).map(Condition::Or),
            Filter::And(parts) => self.all(parts).map(Condition::And),
            Filter::Atom(atom) => self.atom(atom),
        }
    }

    /// Compiles every part, also after one that is wrong, so that all are reported.
    fn all(&mut self, parts: &[Filter]) -> Option<Box<[Condition]>> {
        let compiled: Vec<Option<Condition>> = parts.iter().map(|part| self.filter(part)).collect();
        compiled.into_iter().collect()
    }

    fn atom(&mut self, atom: &FilterAtom) -> Option<Condition> {
        let (condition, negated) = match atom {
            FilterAtom::Filter { expr, not } => (self.filter(expr)?, *not),
            FilterAtom::Test { expr, not } => (self.test(expr)?, *not),
            FilterAtom::Comparison(comparison) => (self.comparison(comparison)?, false),
        };
        Some(match negated {
            true => Condition::Not(Box::new(condition)),
            false => condition,
        })
    }

    fn test(&mut self, test: &Test) -> Option<Condition> {
        match test {
            Test::RelQuery(segments) => self.existence(segments),
            Test::AbsQuery(query) => self.existence(&query.segments),
            Test::Function(function) => self.test_function(function),
        }
    }

    fn existence(&mut self, segments: &[Segment]) -> Option<Condition> {
        let (place, at) = self.place(segments)?;
        if let PlaceType::Column(_) = place.ty(self.scope) {
            let written = self.written(at);
            self.scope.error(
                Diagnostic::warning(
                    at,
                    format!("`{written}` alone asks whether the column exists"),
                )
                .label("always true where the row exists")
                .hint(format!("did you mean `{written} != null`?")),
            );
        }
        Some(Condition::Exists(place))
    }

    fn test_function(&mut self, function: &TestFunction) -> Option<Condition> {
        let range = self.tokens.next_function();
        let at = self.text.part(range);
        let (subject, pattern, anchored) = match function {
            TestFunction::Match(subject, pattern) => (subject, pattern, true),
            TestFunction::Search(subject, pattern) => (subject, pattern, false),
            TestFunction::Custom(name, _) => {
                self.scope.error(
                    Diagnostic::error(at, format!("`{name}()` is not a function of RFC 9535"))
                        .hint("there are match(), search(), length(), count() and value()"),
                );
                return None;
            }
            TestFunction::Length(_) | TestFunction::Value(_) | TestFunction::Count(_) => {
                self.scope.error(
                    Diagnostic::error(at, "this function gives a value, not true or false")
                        .hint("compare it: `length($.after.seat_no) > 2`"),
                );
                return None;
            }
        };
        let (place, place_at) = self.argument(subject, at)?;
        if let PlaceType::Column(ty) = place.ty(self.scope)
            && !matches!(ty.kind, Kind::Text | Kind::Char | Kind::Json)
        {
            self.scope.error(
                Diagnostic::error(
                    place_at,
                    format!("a pattern is matched against text, this is {}", ty.name),
                )
                .label("never matches"),
            );
            return None;
        }
        let pattern = self.pattern(pattern, at, anchored)?;
        Some(Condition::Matches {
            subject: place,
            pattern,
        })
    }

    fn pattern(&mut self, pattern: &FnArg, at: At, anchored: bool) -> Option<Regex> {
        let FnArg::Literal(jsonpath_rust::parser::model::Literal::String(pattern)) = pattern else {
            self.scope.error(
                Diagnostic::error(at, "the pattern is not a text literal")
                    .hint("match($.after.seat_no, '[0-9]+[A-K]')"),
            );
            return None;
        };
        let range = self.tokens.next_literal();
        let source = if anchored {
            format!(r"\A(?:{pattern})\z")
        } else {
            pattern.clone()
        };
        match Regex::new(&source) {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                let problem = error.to_string();
                let last = problem.lines().last().unwrap_or_default();
                self.scope.error(
                    Diagnostic::error(self.text.part(range), "not a regular expression")
                        .label(last.trim_start_matches("error: ")),
                );
                None
            }
        }
    }

    fn comparison(&mut self, comparison: &Comparison) -> Option<Condition> {
        let (left, relation, right) = match comparison {
            Comparison::Eq(left, right) => (left, Relation::Equal, right),
            Comparison::Ne(left, right) => (left, Relation::NotEqual, right),
            Comparison::Gt(left, right) => (left, Relation::Greater, right),
            Comparison::Gte(left, right) => (left, Relation::GreaterOrEqual, right),
            Comparison::Lt(left, right) => (left, Relation::Less, right),
            Comparison::Lte(left, right) => (left, Relation::LessOrEqual, right),
        };
        let (left, right) = (self.operand(left), self.operand(right));
        let (left, right) = (left?, right?);
        self.warn_of_absent_before(&left);
        self.warn_of_absent_before(&right);
        let (left, right) = self.meet(left, right)?;
        Some(Condition::Compare {
            left,
            relation,
            right,
        })
    }

    fn operand(&mut self, comparable: &Comparable) -> Option<Compiled> {
        match comparable {
            Comparable::Literal(literal) => {
                let range = self.tokens.next_literal();
                let written = Written::parsed(literal, &self.text.value[range.clone()]);
                Some(Compiled {
                    operand: CompiledOperand::Written(written),
                    at: self.text.part(range),
                })
            }
            Comparable::SingularQuery(
                SingularQuery::Current(segments) | SingularQuery::Root(segments),
            ) => {
                let (place, at) = self.place(&path::segments_of(segments))?;
                let ty = place.ty(self.scope);
                if ty == PlaceType::Image {
                    self.scope
                        .error(path::image_is_no_value(at, &self.written(at)).hint(
                            "`$.before` alone asks whether there is one; compare a column of it",
                        ));
                    return None;
                }
                Some(Compiled {
                    operand: CompiledOperand::Typed(Operand::Place(place), ty),
                    at,
                })
            }
            Comparable::Function(function) => self.value_function(function),
        }
    }

    fn value_function(&mut self, function: &TestFunction) -> Option<Compiled> {
        let range = self.tokens.next_function();
        let at = self.text.part(range);
        let (argument, wrap): (&FnArg, fn(Place) -> Operand) = match function {
            TestFunction::Length(argument) => (argument, Operand::Length),
            TestFunction::Count(argument) => (argument, Operand::Count),
            TestFunction::Value(argument) => (argument, Operand::OnlyNode),
            TestFunction::Search(..) | TestFunction::Match(..) | TestFunction::Custom(..) => {
                self.scope.error(
                    Diagnostic::error(at, "this function is true or false by itself")
                        .hint("leave the comparison out; `!match(..)` negates"),
                );
                return None;
            }
        };
        let (place, _) = self.argument(argument, at)?;
        let ty = match function {
            TestFunction::Value(_) => place.ty(self.scope),
            _ => PlaceType::Column(Type::parse("int8")),
        };
        Some(Compiled {
            operand: CompiledOperand::Typed(wrap(place), ty),
            at,
        })
    }

    /// A function's argument, which must be a path.
    fn argument(&mut self, argument: &FnArg, function: At) -> Option<(Place, At)> {
        let segments = match argument {
            FnArg::Test(test) => match &**test {
                Test::RelQuery(segments) => Some(segments),
                Test::AbsQuery(query) => Some(&query.segments),
                Test::Function(_) => None,
            },
            FnArg::Literal(_) | FnArg::Filter(_) => None,
        };
        let Some(segments) = segments else {
            self.scope.error(
                Diagnostic::error(function, "the function's argument is not a path")
                    .hint("length($.after.seat_no)"),
            );
            return None;
        };
        self.place(segments)
    }

    fn place(&mut self, segments: &[Segment]) -> Option<(Place, At)> {
        let token = self.tokens.next_path();
        let at = self.text.part(token.whole.clone());
        let place = path::resolve(self.scope, self.text, segments, &token)?;
        Some((place, at))
    }

    /// Gives a literal the type of what it is compared with, and refuses pairs that never compare.
    fn meet(&self, left: Compiled, right: Compiled) -> Option<(Operand, Operand)> {
        use CompiledOperand::{Typed, Written};
        match (left.operand, right.operand) {
            (Typed(left, left_type), Typed(right_operand, right_type)) => {
                if let (PlaceType::Column(left_type), PlaceType::Column(right_type)) =
                    (&left_type, &right_type)
                    && family(&left_type.kind) != family(&right_type.kind)
                {
                    self.scope.error(
                        Diagnostic::error(
                            right.at,
                            format!("{} and {} do not compare", left_type.name, right_type.name),
                        )
                        .label(format!("is {}", right_type.name)),
                    );
                    return None;
                }
                Some((left, right_operand))
            }
            (Typed(operand, ty), Written(written)) => {
                Some((operand, self.literal(&written, &ty, right.at)?))
            }
            (Written(written), Typed(operand, ty)) => {
                Some((self.literal(&written, &ty, left.at)?, operand))
            }
            (Written(_), Written(_)) => {
                self.scope.error(
                    Diagnostic::error(left.at, "compares two literals")
                        .label("the same for every row")
                        .hint("one side is a path, such as `$.after.status`"),
                );
                None
            }
        }
    }

    fn literal(&self, written: &Written, ty: &PlaceType, at: At) -> Option<Operand> {
        let PlaceType::Column(ty) = ty else {
            return Some(Operand::Literal(written.untyped()));
        };
        match written.typed(ty) {
            Ok(literal) => Some(Operand::Literal(literal)),
            Err(hint) => {
                let source = self.written(at);
                self.scope.error(
                    Diagnostic::error(at, format!("`{source}` is not a {}", ty.name))
                        .label(format!("compared with {}", ty.name))
                        .hint(hint),
                );
                None
            }
        }
    }

    /// RFC 9535 has a missing node differ from any value, so such a comparison is decided by the
    /// operation and not by the row.
    fn warn_of_absent_before(&self, compared: &Compiled) {
        let ops = self.scope.ops;
        let without_before = ops.contains(Op::Insert) || ops.contains(Op::Read);
        let CompiledOperand::Typed(Operand::Place(Place::Cell(cell)), _) = &compared.operand else {
            return;
        };
        if cell.side == Side::Before && without_before {
            self.scope.error(
                Diagnostic::warning(
                    compared.at,
                    "`$.before` is compared in a rule that also runs on inserts",
                )
                .label("missing there: equal to nothing but another missing value")
                .hint("on = \"update\", or two rules"),
            );
        }
    }

    /// The characters at a place, for messages.
    fn written(&self, at: At) -> String {
        let start = whole(self.text).start;
        self.text
            .value
            .get(at.start.saturating_sub(start)..at.end.saturating_sub(start))
            .unwrap_or(&self.text.value)
            .to_owned()
    }
}

/// Kinds that compare with each other share a family.
pub(in crate::mapping) const fn family(kind: &Kind) -> &'static str {
    match kind {
        Kind::Bool => "boolean",
        Kind::Int | Kind::Decimal | Kind::Float => "number",
        Kind::Text | Kind::Char => "text",
        Kind::Bytes => "bytes",
        Kind::Json => "json",
        Kind::Date | Kind::Timestamp | Kind::TimestampTz => "instant",
        Kind::Time => "time",
        Kind::TimeTz => "time with zone",
        Kind::Interval => "interval",
        Kind::Array(_) => "array",
        Kind::Composite(_) => "composite",
        Kind::Hstore => "hstore",
    }
}

//! Fields: paths, literals, deltas, maps, templates and objects to [`Field`]s.

use rowbridge_api::{Kind, Type};

use crate::mapping::diagnostic::{Diagnostic, one_of};
use crate::mapping::expression::leaving::{in_the_clear, leaving, note};
use crate::mapping::expression::path::{self, Place, PlaceType};
use crate::mapping::expression::{Scope, column, literal::Written, template};
use crate::mapping::file::privacy::OwnClass;
use crate::mapping::file::reader::Text;
use crate::mapping::file::value::{Const, FieldDecl, From, Otherwise as OtherwiseDecl, ValueDecl};
use crate::mapping::privacy::{Class, Shield};
use crate::mapping::rule::{Conversion, Field, FieldValue, Otherwise, Side};

/// Compiles a path that gives one value at most.
pub(super) fn single(scope: &Scope<'_>, text: &Text) -> Option<Place> {
    let place = path::compile_value(scope, text)?;
    if place.ty(scope) == PlaceType::Nodes {
        scope.error(
            Diagnostic::error(text.at, format!("`{}` may give several values", text.value))
                .label("one is wanted here"),
        );
        return None;
    }
    Some(place)
}

/// Compiles the fields of an object, all of them, so that all problems are reported.
pub(super) fn fields(scope: &Scope<'_>, decls: &[FieldDecl]) -> Option<Box<[Field]>> {
    let dropped = |decl: &&FieldDecl| {
        let own = decl.value.privacy.as_ref();
        own.is_some_and(|own| own.class == Class::Drop)
    };
    let compiled: Vec<Option<Field>> = decls
        .iter()
        .filter(|decl| !dropped(decl))
        .enumerate()
        .map(|(index, decl)| {
            let value = value(scope, &decl.value)?;
            let comma = if index == 0 { "" } else { "," };
            let name = serde_json::Value::from(decl.name.value.as_str());
            Some(Field {
                at: decl.name.at,
                name: decl.name.value.clone(),
                prefix: format!("{comma}{name}:").into_bytes().into(),
                value,
                required: decl.value.required,
            })
        })
        .collect();
    compiled.into_iter().collect()
}

fn value(scope: &Scope<'_>, decl: &ValueDecl) -> Option<FieldValue> {
    let convert = decl.convert.as_ref().map(|text| conversion(scope, text));
    let default = decl.default.as_ref().map(json);
    let own = decl.privacy.as_ref();
    let value = match &decl.from {
        From::Const(literal) => FieldValue::Const(json(literal)),
        From::Template(text) => {
            let template = template::compile(scope, text)?;
            let class = protected(scope, own, template.places())?;
            wrapped(FieldValue::Template(template), class)
        }
        From::Object(decls) => FieldValue::Object(fields(scope, decls)?),
        From::Path(text) => {
            let place = path::compile_value(scope, text)?;
            let place = leaving(scope, place, text.at, own)?;
            protects_something(scope, own, std::iter::once(&place))?;
            let convert = applied(scope, decl, convert, &[&place])?;
            FieldValue::Place {
                place,
                convert,
                default,
            }
        }
        From::Coalesce(texts) => {
            let places: Vec<Option<Place>> = texts
                .iter()
                .map(|text| leaving(scope, path::compile_value(scope, text)?, text.at, own))
                .collect();
            let places: Box<[Place]> = places.into_iter().collect::<Option<_>>()?;
            protects_something(scope, own, places.iter())?;
            let all: Vec<&Place> = places.iter().collect();
            let convert = applied(scope, decl, convert, &all)?;
            FieldValue::Coalesce {
                places,
                convert,
                default,
            }
        }
        From::Delta(text) => {
            let (value, after) = delta(scope, decl, text, convert)?;
            let class = protected(scope, own, std::iter::once(&after))?;
            wrapped(value, class)
        }
        From::Map {
            path,
            with,
            otherwise,
        } => {
            let (value, place) = map(scope, path, with, otherwise)?;
            let class = protected(scope, own, std::iter::once(&place))?;
            wrapped(value, class)
        }
    };
    Some(value)
}

/// The class that an event gives to a value made from these places, once it is noted.
#[expect(clippy::option_option, reason = "absent, broken, or there")]
pub(super) fn protected<'p>(
    scope: &Scope<'_>,
    own: Option<&OwnClass>,
    places: impl Iterator<Item = &'p Place> + Clone,
) -> Option<Option<Class>> {
    protects_something(scope, own, places.clone())?;
    let Some(own) = own.filter(|own| own.class != Class::Clear) else {
        return Some(None);
    };
    for place in places {
        note(scope, place, own.class);
    }
    Some(Some(own.class))
}

/// A class on what holds nothing of a row is a mistake, probably on another field.
fn protects_something<'p>(
    scope: &Scope<'_>,
    own: Option<&OwnClass>,
    mut places: impl Iterator<Item = &'p Place>,
) -> Option<()> {
    let of_row =
        |place: &Place| matches!(place, Place::Cell(_) | Place::Shielded(_) | Place::Item(_));
    if let Some(own) = own
        && !places.any(of_row)
    {
        scope.error(
            Diagnostic::error(own.text.at, "nothing of a row is protected here")
                .label("the value is made from no column")
                .hint("leave `privacy` out"),
        );
        return None;
    }
    Some(())
}

fn wrapped(value: FieldValue, class: Option<Class>) -> FieldValue {
    match class {
        Some(class) => FieldValue::Protected {
            value: Box::new(value),
            class,
        },
        None => value,
    }
}

fn json(literal: &Const) -> Box<[u8]> {
    literal.json.clone().into_bytes().into()
}

fn delta(
    scope: &Scope<'_>,
    decl: &ValueDecl,
    text: &Text,
    convert: Option<Option<Conversion>>,
) -> Option<(FieldValue, Place)> {
    let column = column::compile(scope, text)?;
    scope.reads(column.slot, Side::Before);
    scope.reads(column.slot, Side::After);
    let after = Place::Cell(column.on(Side::After));
    if let PlaceType::Column(ty) = after.ty(scope)
        && !matches!(ty.kind, Kind::Int | Kind::Decimal | Kind::Float)
    {
        scope.error(
            Diagnostic::error(
                text.at,
                format!("`{}` is {}, not a number", text.value, ty.name),
            )
            .label("a delta is after - before"),
        );
        return None;
    }
    let hint = "name a column in the clear, or leave the field out";
    in_the_clear(scope, &after, text.at, "a delta", hint)?;
    let convert = applied(scope, decl, convert, &[&after])?;
    let value = FieldValue::Delta {
        before: Place::Cell(column.on(Side::Before)),
        after: after.clone(),
        convert,
    };
    Some((value, after))
}

fn map(
    scope: &Scope<'_>,
    path: &Text,
    with: &[(Text, Const)],
    otherwise: &OtherwiseDecl,
) -> Option<(FieldValue, Place)> {
    let place = single(scope, path)?;
    let hint = format!("{{ path = \"{}\" }}: it leaves protected", path.value);
    in_the_clear(scope, &place, path.at, "a map", &hint)?;
    let ty = place.ty(scope);
    let entries: Vec<Option<_>> = with
        .iter()
        .map(|(from, to)| {
            let typed = match &ty {
                PlaceType::Column(ty) => key_literal(&from.value, ty),
                _ => Ok(Written::Text(from.value.clone()).untyped()),
            };
            match typed {
                Ok(literal) => Some((literal, json(to))),
                Err(hint) => {
                    let wanted = match &ty {
                        PlaceType::Column(ty) => ty.name.as_str(),
                        _ => "value",
                    };
                    scope.error(
                        Diagnostic::error(from.at, format!("`{}` is not a {wanted}", from.value))
                            .label(format!("`{}` is {wanted}", path.value))
                            .hint(hint),
                    );
                    None
                }
            }
        })
        .collect();
    let value = FieldValue::Map {
        place: place.clone(),
        with: entries.into_iter().collect::<Option<_>>()?,
        otherwise: match otherwise {
            OtherwiseDecl::Unsaid => Otherwise::Unsaid,
            OtherwiseDecl::Error => Otherwise::Error,
            OtherwiseDecl::Value(literal) => Otherwise::Json(json(literal)),
        },
    };
    Some((value, place))
}

/// A key of `with` (always text in TOML) as a value of the column.
fn key_literal(
    key: &str,
    ty: &Type,
) -> Result<crate::mapping::expression::literal::Literal, &'static str> {
    let written = match (&ty.kind, key) {
        (Kind::Bool, "true") => Written::Bool(true),
        (Kind::Bool, "false") => Written::Bool(false),
        _ => Written::Text(key.to_owned()),
    };
    written.typed(ty)
}

const CONVERSIONS: [(&str, Conversion); 10] = [
    ("string", Conversion::String),
    ("integer", Conversion::Integer),
    ("number", Conversion::Number),
    ("boolean", Conversion::Boolean),
    ("date", Conversion::Date),
    ("timestamp", Conversion::Timestamp),
    ("epoch_millis", Conversion::EpochMillis),
    ("json", Conversion::Json),
    ("base64", Conversion::Base64),
    ("hex", Conversion::Hex),
];

fn conversion(scope: &Scope<'_>, text: &Text) -> Option<Conversion> {
    let name = text.value.as_str();
    if let Some((_, conversion)) = CONVERSIONS.iter().find(|(known, _)| *known == name) {
        return Some(*conversion);
    }
    if let Some(arguments) = name.strip_prefix("decimal") {
        if let Some(decimal) = decimal(arguments) {
            return Some(decimal);
        }
        scope.error(
            Diagnostic::error(
                text.at,
                format!("`{name}` is not a decimal's precision and scale"),
            )
            .hint("as = \"decimal(10,2)\": 10 digits, 2 of them after the point"),
        );
        return None;
    }
    let names: Vec<&str> = CONVERSIONS
        .iter()
        .map(|(name, _)| *name)
        .chain(["decimal(p,s)"])
        .collect();
    scope.error(
        Diagnostic::error(text.at, format!("unknown conversion `{name}`"))
            .maybe_hint(one_of(name, &names)),
    );
    None
}

fn decimal(arguments: &str) -> Option<Conversion> {
    let (precision, scale) = arguments
        .strip_prefix('(')?
        .strip_suffix(')')?
        .split_once(',')?;
    let (precision, scale) = (precision.trim().parse().ok()?, scale.trim().parse().ok()?);
    (precision > 0 && scale <= precision).then_some(Conversion::Decimal { precision, scale })
}

/// The conversion, if every place can be converted.
#[expect(clippy::option_option, reason = "absent, broken, or there")]
fn applied(
    scope: &Scope<'_>,
    decl: &ValueDecl,
    convert: Option<Option<Conversion>>,
    places: &[&Place],
) -> Option<Option<Conversion>> {
    let Some(convert) = convert else {
        return Some(None);
    };
    let convert = convert?;
    for place in places {
        if let Some(shield) = place.shield()
            && !stands(convert, shield)
        {
            let text = decl.convert.as_ref()?;
            scope.error(
                Diagnostic::error(
                    text.at,
                    format!("`as = \"{}\"` on a protected value", text.value),
                )
                .label("what protects it makes text of it")
                .hint("leave `as` out"),
            );
            return None;
        }
        if let PlaceType::Column(ty) = place.ty(scope)
            && !converts(&ty.kind, convert)
        {
            let text = decl.convert.as_ref()?;
            scope.error(
                Diagnostic::error(
                    text.at,
                    format!("{} cannot be made a {}", ty.name, text.value),
                )
                .label(format!("the column is {}", ty.name)),
            );
            return None;
        }
    }
    Some(Some(convert))
}

/// Whether a conversion of a protected value changes nothing of it.
fn stands(convert: Conversion, shield: &Shield) -> bool {
    match convert {
        Conversion::String => true,
        Conversion::Json => shield.whole.is_none(),
        _ => false,
    }
}

const fn converts(kind: &Kind, to: Conversion) -> bool {
    use Conversion::{
        Base64, Boolean, Date, Decimal, EpochMillis, Hex, Integer, Json, Number, String, Timestamp,
    };
    match kind {
        // What a document holds is known when it is read.
        Kind::Json => true,
        Kind::Text | Kind::Char => true,
        Kind::Bool => matches!(to, String | Boolean | Json),
        Kind::Int => matches!(
            to,
            String | Integer | Number | Boolean | Decimal { .. } | Json
        ),
        Kind::Decimal | Kind::Float => {
            matches!(to, String | Integer | Number | Decimal { .. } | Json)
        }
        Kind::Date | Kind::Timestamp | Kind::TimestampTz => {
            matches!(to, String | Date | Timestamp | EpochMillis)
        }
        Kind::Bytes => matches!(to, String | Base64 | Hex),
        Kind::Time | Kind::TimeTz | Kind::Interval => matches!(to, String),
        Kind::Array(_) | Kind::Composite(_) | Kind::Hstore => matches!(to, String | Json),
    }
}

//! What stands between the elements of the arrays in a type: the one thing that a type's name does not tell, for the
//! types of extensions.

use std::sync::Arc;

use rowbridge_api::{Field, Kind, Type};

/// The delimiters of the arrays in `ty`, from the outside in and field by field, where its name does not tell them.
pub(super) fn untold(ty: &Type) -> Option<String> {
    let (mut own, mut told) = (String::new(), String::new());
    collect(&ty.kind, &mut own);
    collect(&Type::parse(&ty.name).kind, &mut told);
    (own != told).then_some(own)
}

/// The type called `name` with its delimiters, if they had to be told.
///
/// # Errors
/// A delimiter that array literals give another meaning, and that no type has therefore.
pub(super) fn typed(name: &str, delimiters: Option<&str>) -> Result<Type, &'static str> {
    let mut ty = Type::parse(name);
    if let Some(delimiters) = delimiters {
        let can_delimit = |byte: u8| byte.is_ascii_punctuation() && !b"{}\"\\".contains(&byte);
        if !delimiters.bytes().all(can_delimit) {
            return Err("a delimiter that no array has");
        }
        replace(&mut ty.kind, &mut delimiters.bytes());
    }
    Ok(ty)
}

fn collect(kind: &Kind, into: &mut String) {
    match kind {
        Kind::Array(element) => {
            into.push(char::from(element.delimiter));
            collect(&element.kind, into);
        }
        Kind::Composite(fields) => fields.iter().for_each(|field| collect(&field.kind, into)),
        _ => {}
    }
}

fn replace(kind: &mut Kind, delimiters: &mut impl Iterator<Item = u8>) {
    match kind {
        Kind::Array(element) => {
            element.delimiter = delimiters.next().unwrap_or(element.delimiter);
            replace(&mut element.kind, delimiters);
        }
        Kind::Composite(fields) => {
            let mut own: Vec<Field> = fields.to_vec();
            for field in &mut own {
                replace(&mut field.kind, delimiters);
            }
            *fields = Arc::from(own);
        }
        _ => {}
    }
}

//! Protected values, written where they leave.

use rowbridge_api::{Type, ValueError};
use serde_json::Value;

use super::{Class, HashKey, Shield};
use crate::mapping::context::{Context, Found, Written, step_into, write_json};
use crate::mapping::convert::quote_since;
use crate::mapping::expression::path::{Inner, ItemPath, Place, Shielded};
use crate::mapping::fault::Fault;
use crate::mapping::item::Item;

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mapping) enum Form {
    /// As templates, keys and headers show it.
    Text,
    Json,
}

/// Why a value cannot be protected, and so does not leave.
#[derive(Debug)]
pub(in crate::mapping) enum Unprotected {
    /// It is to be hashed, and there is no key.
    NoKey,
    Dropped,
    Value(ValueError),
    NotJson,
}

impl Unprotected {
    #[cold]
    fn fault(&self, name: &str) -> Fault {
        Fault::new(match self {
            Self::NoKey => format!("{name} is to be hashed, and there is no key"),
            Self::Dropped => format!("{name} is dropped"),
            Self::Value(error) => return Fault::value(name, error),
            Self::NotJson => format!("{name} is not valid JSON"),
        })
    }
}

impl Class {
    /// Protects the text `out[start..]` where it lies.
    ///
    /// # Errors
    /// It does not leave; `out` ends at `start` then.
    pub(in crate::mapping) fn protect_since(
        self,
        start: usize,
        key: Option<&HashKey>,
        out: &mut Vec<u8>,
    ) -> Result<(), Unprotected> {
        let is_first_byte = |byte: &u8| byte & 0xC0 != 0x80;
        match (self, key) {
            (Self::Clear, _) => {}
            (Self::Truncate(characters), _) => {
                let mut first_bytes = (start..out.len()).filter(|at| is_first_byte(&out[*at]));
                if let Some(end) = first_bytes.nth(characters as usize) {
                    out.truncate(end);
                }
            }
            (Self::Mask, _) => {
                let characters = out[start..].iter().filter(|byte| is_first_byte(byte));
                let characters = characters.count();
                out.truncate(start);
                out.resize(start + characters, b'*');
            }
            (Self::Hash, Some(key)) => key.hash_since(start, out),
            (Self::Hash, None) => {
                out.truncate(start);
                return Err(Unprotected::NoKey);
            }
            (Self::Drop, _) => {
                out.truncate(start);
                return Err(Unprotected::Dropped);
            }
        }
        Ok(())
    }
}

impl Shield {
    /// Appends a whole cell, protected; null where nothing of a document is left.
    pub(in crate::mapping) fn write_cell(
        &self,
        ty: &Type,
        raw: &[u8],
        form: Form,
        key: Option<&HashKey>,
        out: &mut Vec<u8>,
    ) -> Result<(), Unprotected> {
        if !self.inside.is_empty() {
            let document = self.document(ty, raw, key)?;
            return self.write_node(&document, form, key, out);
        }
        let start = out.len();
        let Some(class) = self.whole else {
            let written = match form {
                Form::Text => ty.write_text(raw, out),
                Form::Json => ty.write_json(raw, out),
            };
            return written.map_err(Unprotected::Value);
        };
        ty.write_text(raw, out).map_err(Unprotected::Value)?;
        class.protect_since(start, key, out)?;
        if form == Form::Json {
            quote_since(start, out);
        }
        Ok(())
    }

    /// A document cell as JSON, protected inside.
    fn document(&self, ty: &Type, raw: &[u8], key: Option<&HashKey>) -> Result<Value, Unprotected> {
        let mut json = Vec::new();
        ty.write_json(raw, &mut json).map_err(Unprotected::Value)?;
        let document = serde_json::from_slice(&json).map_err(|_| Unprotected::NotJson)?;
        self.protected(document, key)
    }

    /// A document, protected inside.
    fn protected(&self, mut document: Value, key: Option<&HashKey>) -> Result<Value, Unprotected> {
        for (names, class) in &self.inside {
            protect_inside(&mut document, names, *class, key)?;
        }
        Ok(document)
    }

    /// Appends a node of a document that is protected inside.
    fn write_node(
        &self,
        node: &Value,
        form: Form,
        key: Option<&HashKey>,
        out: &mut Vec<u8>,
    ) -> Result<(), Unprotected> {
        let start = out.len();
        match (node, form, self.whole) {
            (node, Form::Json, None) | (node @ Value::Null, _, _) => write_json(node, out),
            (Value::String(text), _, _) => out.extend_from_slice(text.as_bytes()),
            (node, _, _) => write_json(node, out),
        }
        let Some(class) = self.whole.filter(|_| !node.is_null()) else {
            return Ok(());
        };
        class.protect_since(start, key, out)?;
        if form == Form::Json {
            quote_since(start, out);
        }
        Ok(())
    }
}

/// Protects what `names` lead to from `node` on, through arrays too.
fn protect_inside(
    node: &mut Value,
    names: &[String],
    class: Class,
    key: Option<&HashKey>,
) -> Result<(), Unprotected> {
    let Some((name, rest)) = names.split_first() else {
        return protect_node(node, class, key);
    };
    match node {
        Value::Array(elements) => elements
            .iter_mut()
            .try_for_each(|element| protect_inside(element, names, class, key)),
        Value::Object(members) if rest.is_empty() && class == Class::Drop => {
            members.shift_remove(name);
            Ok(())
        }
        Value::Object(members) => match members.get_mut(name) {
            Some(member) => protect_inside(member, rest, class, key),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

fn protect_node(node: &mut Value, class: Class, key: Option<&HashKey>) -> Result<(), Unprotected> {
    if node.is_null() {
        return Ok(());
    }
    let mut text = match node.take() {
        Value::String(text) => text,
        other => other.to_string(),
    }
    .into_bytes();
    class.protect_since(0, key, &mut text)?;
    *node = String::from_utf8_lossy(&text).into_owned().into();
    Ok(())
}

/// Makes a JSON string the text that it is, and lets other JSON stand.
fn unquote_since(start: usize, out: &mut Vec<u8>) {
    if out.get(start) != Some(&b'"') {
        return;
    }
    if !out[start..].contains(&b'\\') {
        out.remove(start);
        out.pop();
    } else if let Ok(text) = serde_json::from_slice::<String>(&out[start..]) {
        out.truncate(start);
        out.extend_from_slice(text.as_bytes());
    }
}

impl Context<'_> {
    /// Appends a place that is protected.
    ///
    /// # Errors
    /// As [`Context::read`], or it cannot be protected. `Ok(Written::Nothing)` if there is no value.
    pub(in crate::mapping) fn write_protected(
        &self,
        place: &Place,
        form: Form,
        out: &mut Vec<u8>,
    ) -> Result<Written, Fault> {
        match place {
            Place::Shielded(shielded) => self.write_shielded(shielded, form, out),
            Place::Item(item) => self.write_item(item, form, out),
            Place::Cell(_)
            | Place::Image(_)
            | Place::Fact(_)
            | Place::Other(..)
            | Place::OtherRow(_) => Ok(Written::Nothing),
        }
    }

    fn write_item(&self, path: &ItemPath, form: Form, out: &mut Vec<u8>) -> Result<Written, Fault> {
        let ItemPath { inner, shield } = path;
        let fault = |unprotected: Unprotected| unprotected.fault("item");
        let node = match self.item {
            Some(Item::Json(node)) => node,
            Some(Item::Value(value)) if matches!(inner, Inner::Whole) => {
                let start = out.len();
                value.write_text(out);
                let class = shield.whole.unwrap_or(Class::Clear);
                self.protect_text_since(class, start, out)?;
                if form == Form::Json {
                    quote_since(start, out);
                }
                return Ok(Written::Value);
            }
            _ => return Ok(Written::Nothing),
        };
        let document = shield.protected(node.clone(), self.key).map_err(fault)?;
        let node = match inner {
            Inner::Whole => Some(document),
            Inner::Steps(steps) => step_into(document, steps),
            Inner::Query(query) => Some(self.query_item(query, &document)?),
        };
        let Some(node) = node.filter(|node| !node.is_null()) else {
            return Ok(Written::Nothing);
        };
        shield
            .write_node(&node, form, self.key, out)
            .map_err(fault)?;
        Ok(Written::Value)
    }

    /// Appends a protected cell, or what is read inside it.
    ///
    /// # Errors
    /// As [`Context::write_protected`].
    pub(in crate::mapping) fn write_shielded(
        &self,
        place: &Shielded,
        form: Form,
        out: &mut Vec<u8>,
    ) -> Result<Written, Fault> {
        let Shielded { cell, shield } = place;
        let fault = |unprotected: Unprotected| unprotected.fault(&self.name(cell.side, cell.slot));
        // Whether it is there is asked of the whole cell, whatever is read inside.
        let (ty, raw) = match self.cell(cell.side, cell.slot, &Inner::Whole)? {
            Found::Cell(ty, raw) => (ty, raw),
            _ => return Ok(Written::Nothing),
        };
        if matches!(cell.inner, Inner::Whole) {
            shield
                .write_cell(ty, raw, form, self.key, out)
                .map_err(fault)?;
            return Ok(Written::Value);
        }
        let document = shield.document(ty, raw, self.key).map_err(fault)?;
        let node = match &cell.inner {
            Inner::Steps(steps) => step_into(document, steps),
            Inner::Query(query) => Some(self.query(query, &document, cell.side, cell.slot)?),
            Inner::Whole => Some(document),
        };
        let Some(node) = node.filter(|node| !node.is_null()) else {
            return Ok(Written::Nothing);
        };
        shield
            .write_node(&node, form, self.key, out)
            .map_err(fault)?;
        Ok(Written::Value)
    }

    /// Protects what was written since `start`: JSON, of which null stays null.
    ///
    /// # Errors
    /// It cannot be protected.
    pub(in crate::mapping) fn protect_json_since(
        &self,
        class: Class,
        start: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        if &out[start..] == b"null" {
            return Ok(());
        }
        unquote_since(start, out);
        self.protect_text_since(class, start, out)?;
        quote_since(start, out);
        Ok(())
    }

    /// Protects the text that was written since `start`.
    ///
    /// # Errors
    /// It cannot be protected.
    pub(in crate::mapping) fn protect_text_since(
        &self,
        class: Class,
        start: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        class
            .protect_since(start, self.key, out)
            .map_err(|unprotected| unprotected.fault("it"))
    }
}

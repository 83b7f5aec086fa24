//! What documents have in common: their top-level fields, with the types of their values.
//!
//! A column has one type. Types that read as one another give the wider one; a field of types that do not is `bson`, which
//! reads any value as JSON. Nested documents are told by their members, in a note.

use std::collections::{BTreeMap, HashMap};

use bson::raw::{RawBsonRef, RawDocument};
use bson::spec::ElementType;
use rowbridge_api::Type;
use rowbridge_api::survey::{KnownValues, Length, Nullability, Origin, SurveyedColumn};

use crate::text::{self, UNREADABLE, Written};

/// Names that are counted at all: documents that use a field's name as data have no end of them.
const MOST_NAMES: usize = 5_000;
/// Members of a document that a note shows.
const MOST_MEMBERS: usize = 8;
/// Longest name of a member that a note shows.
const LONGEST_MEMBER: usize = 40;
/// A longer text is no code of anything.
const LONGEST_VALUE: usize = 60;
/// Integers up to here are the same as doubles.
const EXACT_IN_DOUBLE: i64 = 1 << 53;

/// The fields of the documents that were added.
#[derive(Debug, Default)]
pub(super) struct Fields {
    documents: usize,
    /// In the order in which they came.
    fields: Vec<Field>,
    by_name: HashMap<String, usize>,
}

/// One field.
#[derive(Debug, Default)]
struct Field {
    name: String,
    /// Documents in which it has a value that is not null.
    values: usize,
    types: BTreeMap<&'static str, usize>,
    /// An integer was seen that a double does not hold.
    has_large_integers: bool,
    /// Texts and how often they came, until they are too many.
    texts: Option<BTreeMap<String, usize>>,
    /// Members of its documents.
    members: Vec<(String, usize)>,
}

impl Fields {
    /// Counts a document in. More than `few` texts of a field are too many.
    pub(super) fn add(&mut self, document: &RawDocument, few: usize) {
        self.documents += 1;
        for (name, value) in document.iter().flatten() {
            let name = name.as_str();
            let at = match self.by_name.get(name) {
                Some(at) => *at,
                None if self.fields.len() == MOST_NAMES => continue,
                None => {
                    self.fields.push(Field {
                        name: name.to_owned(),
                        texts: Some(BTreeMap::new()),
                        ..Field::default()
                    });
                    self.by_name.insert(name.to_owned(), self.fields.len() - 1);
                    self.fields.len() - 1
                }
            };
            self.fields[at].add(value, few);
        }
    }

    /// Leaves the `most` fields that most documents have; how many were left out.
    pub(super) fn keep_most_common(&mut self, most: usize) -> usize {
        let left_out = self.fields.len().saturating_sub(most);
        if left_out > 0 {
            let mut counts: Vec<usize> = self.fields.iter().map(Field::rank).collect();
            counts.sort_unstable_by(|a, b| b.cmp(a));
            let least = counts[most - 1];
            let mut ties = counts[..most]
                .iter()
                .filter(|count| **count == least)
                .count();
            self.fields.retain(|field| {
                field.rank() > least
                    || field.rank() == least && ties > 0 && {
                        ties -= 1;
                        true
                    }
            });
        }
        left_out
    }

    /// The fields as columns, the id first.
    pub(super) fn columns(&self, few: usize) -> Vec<SurveyedColumn> {
        let mut fields: Vec<&Field> = self.fields.iter().collect();
        fields.sort_by_key(|field| field.name != "_id");
        fields
            .into_iter()
            .map(|field| field.column(self.documents, few))
            .collect()
    }
}

impl Field {
    fn add(&mut self, value: RawBsonRef<'_>, few: usize) {
        let Some(name) = type_name(value.element_type()) else {
            return; // Null, which is of every type.
        };
        self.values += 1;
        *self.types.entry(name).or_default() += 1;
        match value {
            RawBsonRef::Int64(number) => {
                self.has_large_integers |= number
                    .checked_abs()
                    .is_none_or(|size| size > EXACT_IN_DOUBLE);
            }
            RawBsonRef::String(text) => self.add_text(text, few),
            RawBsonRef::Document(document) => {
                for (name, _) in document.iter().flatten() {
                    self.add_member(name.as_str());
                }
            }
            _ => {}
        }
    }

    fn add_text(&mut self, text: &str, few: usize) {
        let Some(texts) = &mut self.texts else {
            return;
        };
        *texts.entry(text.to_owned()).or_default() += 1;
        let is_code = !text.trim().is_empty() && text.len() <= LONGEST_VALUE;
        if texts.len() > few || !is_code {
            self.texts = None;
        }
    }

    fn add_member(&mut self, name: &str) {
        if let Some((_, count)) = self.members.iter_mut().find(|(known, _)| known == name) {
            *count += 1;
        } else if self.members.len() < MOST_MEMBERS * 4 {
            self.members.push((name.to_owned(), 1));
        }
    }

    /// The id comes first, whatever else.
    fn rank(&self) -> usize {
        match self.name.as_str() {
            "_id" => usize::MAX,
            _ => self.values,
        }
    }

    fn column(&self, documents: usize, few: usize) -> SurveyedColumn {
        SurveyedColumn {
            name: self.name.clone(),
            ty: Type::parse(self.type_name()),
            note: self.note(documents),
            nullability: match self.values == documents {
                true => Nullability::NeverNull,
                false => Nullability::MaybeNull,
            },
            hidden: None,
            length: Length::AlwaysSent,
            values: self.known_values(documents, few),
        }
    }

    /// The one type that reads every value that was seen, as schema.toml names it.
    fn type_name(&self) -> &'static str {
        let only = |names: &[&str]| self.types.keys().all(|name| names.contains(name));
        let types: Vec<&'static str> = self.types.keys().copied().collect();
        match types.as_slice() {
            [] => "bson",
            [one] if *one == "bool" || Type::is_bson(one) => one,
            _ if only(&["int32", "int64"]) => "int64",
            _ if only(&["int32", "int64", "double"]) && !self.has_large_integers => "double",
            _ if only(&["int32", "int64", "decimal128"]) => "decimal128",
            _ if only(&["string", "objectid"]) => "string",
            _ => "bson",
        }
    }

    fn note(&self, documents: usize) -> Option<String> {
        let mut parts = Vec::new();
        if self.types.len() > 1 {
            let counts: Vec<String> = self
                .types
                .iter()
                .map(|(name, count)| format!("{count} {name}"))
                .collect();
            parts.push(counts.join(", "));
        }
        parts.extend(self.member_note());
        match self.values {
            0 => parts.push("only null".to_owned()),
            values if values < documents => {
                parts.push(format!("a value in {values} of {documents}"));
            }
            _ => {}
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    /// Members that at least half of the documents have: a rare one may be data that is used as a name.
    fn member_note(&self) -> Option<String> {
        let documents = self.types.get("document")?;
        let is_name = |name: &str| {
            name.len() <= LONGEST_MEMBER
                && name
                    .chars()
                    .all(|c| c.is_alphanumeric() || "_-".contains(c))
        };
        let mut common: Vec<&str> = self
            .members
            .iter()
            .filter(|(name, count)| count * 2 >= *documents && is_name(name))
            .map(|(name, _)| name.as_str())
            .collect();
        let is_all = common.len() == self.members.len() && common.len() <= MOST_MEMBERS;
        common.truncate(MOST_MEMBERS);
        common.extend((!is_all).then_some(".."));
        Some(match common.as_slice() {
            [] => "{}".to_owned(),
            names => format!("{{ {} }}", names.join(", ")),
        })
    }

    fn known_values(&self, documents: usize, few: usize) -> Option<KnownValues> {
        let texts = self.texts.as_ref().filter(|texts| {
            !texts.is_empty() && texts.len() <= few && self.types.keys().eq([&"string"])
        })?;
        let mut counts: Vec<(&String, usize)> =
            texts.iter().map(|(text, count)| (text, *count)).collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        Some(KnownValues {
            values: counts.into_iter().map(|(text, _)| text.clone()).collect(),
            origin: Origin::Sample { rows: documents },
        })
    }
}

/// What schema.toml calls a type, or for a rare one what people do; nothing for null.
fn type_name(ty: ElementType) -> Option<&'static str> {
    Some(match ty {
        ElementType::Null | ElementType::Undefined => return None,
        ElementType::Double => "double",
        ElementType::String => "string",
        ElementType::EmbeddedDocument => "document",
        ElementType::Array => "array",
        ElementType::Binary => "binary",
        ElementType::ObjectId => "objectid",
        ElementType::Boolean => "bool",
        ElementType::DateTime => "datetime",
        ElementType::Int32 => "int32",
        ElementType::Int64 => "int64",
        ElementType::Decimal128 => "decimal128",
        ElementType::RegularExpression => "a regular expression",
        ElementType::JavaScriptCode | ElementType::JavaScriptCodeWithScope => "JavaScript",
        ElementType::Timestamp => "an oplog timestamp",
        ElementType::Symbol => "symbol",
        _ => "other",
    })
}

/// A document as cells of `columns`; nothing if a value does not read as its column's type.
pub(super) fn row(
    document: &RawDocument,
    columns: &[SurveyedColumn],
) -> Option<Vec<Option<String>>> {
    let cell = |column: &SurveyedColumn| {
        let Some(value) = document.get(&column.name).ok()? else {
            return Some(None);
        };
        let mut text = Vec::new();
        match text::write(value, &column.ty.kind, &mut text) {
            Written::Null => Some(None),
            Written::Value if text == UNREADABLE => None,
            Written::Value => String::from_utf8(text).ok().map(Some),
        }
    };
    columns.iter().map(cell).collect()
}

#[cfg(test)]
mod tests {
    use bson::{Bson, Decimal128, RawDocumentBuf, doc, oid::ObjectId};

    use super::*;

    const FEW: usize = 3;

    fn of(documents: &[bson::Document]) -> (Fields, Vec<RawDocumentBuf>) {
        let documents: Vec<RawDocumentBuf> = documents
            .iter()
            .map(|document| RawDocumentBuf::try_from(document).unwrap())
            .collect();
        let mut fields = Fields::default();
        for document in &documents {
            fields.add(document, FEW);
        }
        (fields, documents)
    }

    /// The type and the note of a field that has these values.
    fn column(values: Vec<Bson>) -> (String, String) {
        let documents: Vec<_> = values
            .into_iter()
            .map(|value| doc! { "v": value })
            .collect();
        let column = of(&documents).0.columns(FEW).remove(0);
        (column.ty.name, column.note.unwrap_or_default())
    }

    #[test]
    fn one_type_reads_every_value_that_was_seen() {
        let decimal: Decimal128 = "1.5".parse().unwrap();
        let id = ObjectId::from_bytes([7; 12]);
        for (values, ty, note) in [
            (vec![Bson::Int32(1)], "int32", ""),
            (
                vec![1_i32.into(), 2_i64.into()],
                "int64",
                "1 int32, 1 int64",
            ),
            (
                vec![1_i32.into(), 2.5.into()],
                "double",
                "1 double, 1 int32",
            ),
            (
                vec![i64::MAX.into(), 2.5.into()],
                "bson",
                "1 double, 1 int64",
            ),
            (
                vec![i64::MIN.into(), 2.5.into()],
                "bson",
                "1 double, 1 int64",
            ),
            (
                vec![1_i32.into(), decimal.into()],
                "decimal128",
                "1 decimal128, 1 int32",
            ),
            (
                vec![2.5.into(), decimal.into()],
                "bson",
                "1 decimal128, 1 double",
            ),
            (
                vec!["a".into(), id.into()],
                "string",
                "1 objectid, 1 string",
            ),
            (vec!["a".into(), 1_i32.into()], "bson", "1 int32, 1 string"),
            (vec![id.into(), Bson::Null], "objectid", "a value in 1 of 2"),
            (vec![Bson::Null], "bson", "only null"),
            (vec![Bson::MinKey], "bson", ""),
            (vec![true.into()], "bool", ""),
            (
                vec![
                    doc! { "a": 1, "b": 2 }.into(),
                    doc! { "a": 1, "x@y": 2, "b": 1 }.into(),
                ],
                "document",
                "{ a, b, .. }",
            ),
            (
                vec![doc! { "a": 1 }.into(), Bson::Array(vec![])],
                "bson",
                "1 array, 1 document; { a }",
            ),
        ] {
            let (found, said) = column(values.clone());
            assert_eq!((found.as_str(), said.as_str()), (ty, note), "{values:?}");
            assert!(reads_all(values), "{ty}");
        }
    }

    /// Whether the type that is claimed to read every value does.
    fn reads_all(values: Vec<Bson>) -> bool {
        let documents = values.into_iter().map(|value| doc! { "v": value });
        let (fields, documents) = of(&documents.collect::<Vec<_>>());
        let columns = fields.columns(FEW);
        let row = |document| row(document, &columns);
        documents.iter().all(|document| row(document).is_some())
    }

    #[test]
    fn few_texts_are_known_values_and_long_or_many_are_not() {
        let known = |texts: &[&str]| {
            let documents: Vec<_> = texts.iter().map(|text| doc! { "v": *text }).collect();
            of(&documents).0.columns(FEW)[0]
                .values
                .clone()
                .map(|known| known.values)
        };
        assert_eq!(
            known(&["a", "b", "b"]),
            Some(vec!["b".to_owned(), "a".to_owned()])
        );
        assert_eq!(known(&["a", "b", "c", "d"]), None);
        assert_eq!(known(&["a", " "]), None);
        assert_eq!(known(&["x".repeat(61).as_str()]), None);
    }

    #[test]
    fn of_too_many_fields_the_common_ones_stay_and_the_id_is_first() {
        let (mut fields, _) = of(&[
            doc! { "often": 1, "k17": 1, "_id": Bson::Null },
            doc! { "often": 1, "k18": 1 },
        ]);
        assert_eq!(fields.keep_most_common(3), 1);
        let names: Vec<String> = fields
            .columns(FEW)
            .into_iter()
            .map(|column| column.name)
            .collect();
        assert_eq!(names, ["_id", "often", "k17"]);
    }

    #[test]
    fn a_document_whose_value_reads_as_no_text_is_no_sample() {
        let documents = [
            doc! { "at": bson::DateTime::MAX },
            doc! { "at": bson::DateTime::from_millis(0) },
            doc! {},
        ];
        let (fields, documents) = of(&documents);
        let columns = fields.columns(FEW);
        let rows: Vec<_> = documents
            .iter()
            .map(|document| row(document, &columns))
            .collect();
        assert_eq!(rows[0], None);
        assert_eq!(
            rows[1].as_ref().unwrap()[0].as_deref(),
            Some("1970-01-01 00:00:00+00")
        );
        assert_eq!(rows[2], Some(vec![None]));
    }
}

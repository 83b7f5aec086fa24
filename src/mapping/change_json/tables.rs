//! The tables that change JSON and cases may speak of: short name, source name, typed columns.

use std::sync::Arc;

use rowbridge_api::{Column, Shape, ShapeId, TableName};

use crate::mapping::Mapping;

/// One table of `[tables]` with its columns from schema.toml.
#[derive(Clone, Debug)]
pub struct DeclaredTable {
    /// What rules call it.
    pub short: String,
    /// The shape its changes get; its id is the table's number in [`Tables`].
    pub shape: Arc<Shape>,
}

impl DeclaredTable {
    /// The number of column `name`.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<usize> {
        self.shape
            .columns
            .iter()
            .position(|column| column.name == name)
    }
}

/// Every table a mapping declares.
#[derive(Clone, Debug, Default)]
pub struct Tables(Vec<DeclaredTable>);

impl Tables {
    /// The tables of `mapping`, with the columns of its schema.toml.
    #[must_use]
    pub fn of(mapping: &Mapping) -> Self {
        let declared = |(short, _): (&str, &TableName)| {
            Some(DeclaredTable {
                short: short.to_owned(),
                shape: Arc::new(mapping.shape(short)?),
            })
        };
        Self(mapping.tables().filter_map(declared).collect())
    }

    /// Numbers the tables in the order given: short name, source name, columns.
    #[cfg(test)]
    pub(crate) fn new(tables: impl IntoIterator<Item = (String, TableName, Vec<Column>)>) -> Self {
        let number = |(index, (short, table, columns)): (usize, (String, TableName, _))| {
            let id = ShapeId(u32::try_from(index).expect("a mapping declares few tables"));
            let shape = Arc::new(Shape {
                id,
                table,
                table_id: None,
                columns,
            });
            DeclaredTable { short, shape }
        };
        Self(tables.into_iter().enumerate().map(number).collect())
    }

    /// The table with this short name or, failing that, this source name (`schema.name`).
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&DeclaredTable> {
        let by_short = self.0.iter().find(|table| table.short == name);
        by_short.or_else(|| {
            self.0
                .iter()
                .find(|table| table.shape.table.to_string() == name)
        })
    }

    /// The table that the source stores under `schema` and `name`.
    #[must_use]
    pub fn stored_as(&self, schema: &str, name: &str) -> Option<&DeclaredTable> {
        self.0
            .iter()
            .find(|table| table.shape.table.schema == schema && table.shape.table.name == name)
    }

    /// Another shape of a table, or another table; under a number that no shape had.
    pub(crate) fn announce(&mut self, short: &str, table: TableName, columns: Vec<Column>) {
        let numbers = self.0.iter().map(|table| table.shape.id.0 + 1);
        let id = ShapeId(numbers.max().unwrap_or_default());
        let shape = Arc::new(Shape {
            id,
            table,
            table_id: None,
            columns,
        });
        self.0.retain(|known| known.short != short);
        self.0.push(DeclaredTable {
            short: short.to_owned(),
            shape,
        });
    }

    /// Short names, for messages.
    pub(crate) fn short_names(&self) -> String {
        let names: Vec<&str> = self.0.iter().map(|table| table.short.as_str()).collect();
        names.join(", ")
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

//! Arrays of every type, composites of every type, and what nests in what.

use proptest::prelude::*;

use crate::corpus::Column;
use crate::form::{Form, quoted};
use crate::generate::{self as any_of, Draw};

/// Values drawn per type.
const DRAWN: usize = 40;

/// An array column for every type without parts: nulls, dimensions, lower bounds.
pub(crate) fn arrays(draw: &mut Draw, scalars: &[Column]) -> Vec<Column> {
    scalars
        .iter()
        .map(|scalar| array_of(draw, scalar))
        .collect()
}

/// An array column of any other.
pub(crate) fn array_of(draw: &mut Draw, element: &Column) -> Column {
    let delimiter = match &*element.sql {
        "box" => ';',
        "colon" => ':',
        _ => ',',
    };
    let mut one = |_: usize| {
        let index = draw.one(&any::<prop::sample::Index>());
        element.values[index.index(element.values.len())]
            .as_deref()
            .map_or("NULL".to_owned(), quoted)
    };
    let mut list = |count: usize| {
        let elements: Vec<String> = (0..count).map(&mut one).collect();
        format!("{{{}}}", elements.join(&delimiter.to_string()))
    };
    let mut grid = |rows: usize, columns: usize| {
        let rows: Vec<String> = (0..rows).map(|_| list(columns)).collect();
        format!("{{{}}}", rows.join(&delimiter.to_string()))
    };
    let mut values = vec![None, Some("{}".to_owned())];
    // Elements that are arrays or documents are not told from dimensions.
    let has_dimensions = !matches!(element.form, Form::Document | Form::Array(..));
    if has_dimensions {
        values.push(Some(grid(2, 3)));
        let cube = [grid(1, 2), grid(1, 2)].join(&delimiter.to_string());
        values.push(Some(format!("{{{cube}}}")));
        values.push(Some(format!("[-1:0][5:6]={}", grid(2, 2))));
    }
    for row in 0..DRAWN {
        values.push(Some(list(1 + row % 5)));
    }
    values.push(Some(format!("[2:4]={}", list(3))));
    values.push(Some(format!("[0:0]={}", list(1))));
    Column {
        sql: format!("{}[]", element.sql),
        declared: match element.form {
            Form::Array(..) => format!("({})[]", element.declared),
            _ => format!("{}[]", element.declared),
        },
        form: Form::Array(Box::new(element.form.clone()), delimiter),
        values,
        comparable: element.comparable,
    }
}

/// Composites by hand, domains over them, and a composite with a field of every other column's type.
pub(crate) fn composites(draw: &mut Draw, parts: &[&[Column]]) -> (String, Vec<Column>) {
    let mut columns = by_hand(draw);
    let mut ddl = String::new();
    for (number, part) in parts.iter().enumerate() {
        let sql = format!("part{number}");
        let fields = part
            .iter()
            .enumerate()
            .map(|(index, column)| format!("f{index} {}", column.sql));
        ddl.push_str(&format!(
            "CREATE TYPE {sql} AS ({});\n",
            fields.collect::<Vec<_>>().join(", ")
        ));
        columns.push(composite_of(draw, &sql, part));
    }
    let elements = columns.iter().filter(|column| !column.sql.ends_with("[]"));
    let arrays: Vec<Column> = elements.map(|column| array_of(draw, column)).collect();
    columns.extend(arrays);
    (ddl, columns)
}

fn composite_of(draw: &mut Draw, sql: &str, fields: &[Column]) -> Column {
    let names = || (0..fields.len()).map(|index| format!("f{index}"));
    let declared: Vec<String> = names()
        .zip(fields)
        .map(|(name, field)| format!("{name} {}", field.declared))
        .collect();
    let mut row = || {
        let values = fields.iter().map(|field| {
            let index = draw.one(&any::<prop::sample::Index>());
            field.values[index.index(field.values.len())]
                .as_deref()
                .map_or(String::new(), quoted)
        });
        format!("({})", values.collect::<Vec<_>>().join(","))
    };
    let mut values: Vec<Option<String>> = (0..DRAWN).map(|_| Some(row())).collect();
    values.push(Some(format!(
        "({})",
        ",".repeat(fields.len().saturating_sub(1))
    )));
    Column {
        sql: sql.to_owned(),
        declared: format!("row({})", declared.join(", ")),
        form: Form::Composite(
            names()
                .zip(fields)
                .map(|(name, field)| (name, field.form.clone()))
                .collect(),
        ),
        values,
        comparable: false,
    }
}

/// A column whose values are written out.
fn column(sql: &str, declared: &str, form: Form, values: &[&str]) -> Column {
    let values = values.iter().map(|text| Some((*text).to_owned()));
    Column {
        sql: sql.to_owned(),
        declared: declared.to_owned(),
        form,
        values: values.collect(),
        comparable: true,
    }
}

fn fields(all: Vec<(&str, Form)>) -> Form {
    let all = all.into_iter().map(|(name, form)| (name.to_owned(), form));
    Form::Composite(all.collect())
}

fn by_hand(draw: &mut Draw) -> Vec<Column> {
    use Form::{Array, Float, Text};
    let place = column(
        "\"Odd \"\"Place\"",
        "row(x float8, y float8)",
        fields(vec![("x", Float), ("y", Float)]),
        &["(0.5,-0)", "(NaN,Infinity)", "(,)"],
    );
    let tags = column(
        "tags",
        "text[]",
        Array(Box::new(Text), ','),
        &["{}", "{a,NULL,\"NULL\"}", "{{a,b},{c,d}}", "[3:4]={a,b}"],
    );
    let single = column(
        "single",
        "row(only text)",
        fields(vec![("only", Text)]),
        &["()", "(\"\")", "(\"a,)\")"],
    );
    let nothing = column("nothing", "row()", fields(vec![]), &["()"]);
    let tag_lists = array_of(draw, &tags);
    let address = address(draw, &tags, &place);
    let home = Column {
        sql: "home".to_owned(),
        declared: address.declared.clone(),
        form: address.form.clone(),
        values: address.values.clone(),
        comparable: true,
    };
    let nested = nested(draw, &address, &nothing, &single);
    vec![
        place, tags, tag_lists, single, nothing, address, home, nested,
    ]
}

fn address(draw: &mut Draw, tags: &Column, place: &Column) -> Column {
    use Form::{Array, Text};
    let mut address = column(
        "address",
        "row(street text, \"Zip, \"\"Code\" varchar(9), price numeric(10,2), tags text[], at row(x float8, y float8), moods mood[])",
        fields(vec![
            ("street", Text),
            ("Zip, \"Code", Text),
            ("price", Text),
            ("tags", tags.form.clone()),
            ("at", place.form.clone()),
            ("moods", Array(Box::new(Text), ',')),
        ]),
        &[
            "(,,,,,)",
            "(\"\",\"\",0,{},\"(,)\",{})",
            r#"("a ""b"" \\ (c), \n",' ,1.5,"{""x y"",NULL,""\\""""}","(1,2)","{""o k"",""com,ma"",NULL}")"#,
        ],
    );
    address.values.extend((0..20).map(|_| {
        let street = draw.one(&any_of::text(8));
        let list = draw.one(&any_of::text(4));
        let list = quoted(&format!("{{{}}}", quoted(&list)));
        Some(format!("({},x,2,{list},,)", quoted(&street)))
    }));
    address
}

/// Composites in domains, arrays and composites, beside everything else that has a grammar of its own.
fn nested(draw: &mut Draw, address: &Column, nothing: &Column, single: &Column) -> Column {
    use Form::{Array, Bytes, Document, Hstore, Instant};
    let part = |column: &Column, index: usize| {
        let value = column.values[index % column.values.len()].as_deref();
        value.map_or(String::new(), quoted)
    };
    let rows = (0..20).map(|index| {
        let others = array_of(draw, address);
        let fields = [
            part(address, index),
            part(&others, index),
            quoted(&draw.one(&any_of::hstore())),
            quoted(&draw.one(&any_of::json())),
            part(nothing, 0),
            part(single, index),
            quoted(&draw.one(&any_of::bytea())),
            quoted("0044-03-15 10:00:00+00 BC"),
        ];
        format!("({})", fields.join(","))
    });
    let rows: Vec<String> = rows.collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let declared = format!(
        "row(home {0}, others {0}[], extra hstore, doc jsonb, empty row(), alone row(only text), raw bytea, at timestamptz)",
        address.declared
    );
    let form = fields(vec![
        ("home", address.form.clone()),
        ("others", Array(Box::new(address.form.clone()), ',')),
        ("extra", Hstore),
        ("doc", Document),
        ("empty", nothing.form.clone()),
        ("alone", single.form.clone()),
        ("raw", Bytes),
        ("at", Instant),
    ]);
    column("nested", &declared, form, &rows)
}

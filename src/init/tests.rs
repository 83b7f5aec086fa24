//! Whole packs from made surveys.

use proptest::prelude::*;
use rowbridge_api::survey::{
    Basis, BeforeImage, Enabling, KnownValues, Length, Nullability, Origin, Seen, Survey,
    SurveyedColumn,
};
use rowbridge_api::{TableName, Type};

use super::*;
use crate::mapping::cases::Case;
use crate::mapping::change_json::Tables;

fn column(name: &str, ty: &str) -> SurveyedColumn {
    SurveyedColumn {
        name: name.to_owned(),
        ty: Type::parse(ty),
        note: None,
        nullability: Nullability::NeverNull,
        hidden: None,
        length: Length::AlwaysSent,
        values: None,
    }
}

fn coded(name: &str, values: &[&str], origin: Origin) -> SurveyedColumn {
    let values = values.iter().map(|value| (*value).to_owned()).collect();
    SurveyedColumn {
        values: Some(KnownValues { values, origin }),
        ..column(name, "text")
    }
}

fn row(cells: &[&str]) -> Vec<Option<String>> {
    let cell = |cell: &&str| (*cell != "NULL").then(|| (*cell).to_owned());
    cells.iter().map(cell).collect()
}

/// Seats of passengers, with whole old rows.
fn segments() -> Survey {
    Survey {
        table: TableName::new("public", "segments"),
        rows: Some(1_234_567),
        basis: Basis::Declared,
        columns: vec![
            column("id", "int8"),
            column("pnr", "text"),
            column("contact_email", "text"),
            coded("cabin", &["Y", "J"], Origin::Sample { rows: 1_000 }),
            SurveyedColumn {
                nullability: Nullability::MaybeNull,
                ..column("seat_no", "text")
            },
            column("fare", "numeric(10,2)"),
            coded("status", &["OPEN", "CHECKED_IN"], Origin::Statistics),
            column("extras", "jsonb"),
            column("updated_at", "timestamptz"),
            SurveyedColumn {
                hidden: Some("generated: the server does not publish it".to_owned()),
                ..column("fare_with_tax", "numeric")
            },
        ],
        key: vec!["id".to_owned()],
        unique: Vec::new(),
        before: BeforeImage::Whole,
        enabling: None,
        references: vec![vec!["pnr".to_owned()]],
        samples: vec![
            row(&[
                "7",
                "QX4RTZ",
                "canary@corp.test",
                "Y",
                "12A",
                "310.00",
                "OPEN",
                "{}",
                "2026-11-20 09:00:00+00",
                "1",
            ]),
            row(&[
                "8",
                "K7WMPD",
                "canary@corp.test",
                "J",
                "NULL",
                "1200.00",
                "CHECKED_IN",
                "{}",
                "2026-11-20 09:01:00+00",
                "1",
            ]),
        ],
        remarks: Vec::new(),
    }
}

/// The same, as most tables are: of an old row only the key is sent.
fn segments_by_key() -> Survey {
    Survey {
        before: BeforeImage::Columns(vec!["id".to_owned()]),
        enabling: Some(Enabling {
            statement: "ALTER TABLE public.segments REPLICA IDENTITY FULL;".to_owned(),
            cost: "every UPDATE and DELETE then writes the whole old row to the WAL".to_owned(),
        }),
        ..segments()
    }
}

/// Documents of guests' stays, as they were seen: of an update only what it set is sent, of an old document its id.
fn stays() -> Survey {
    let left_out = |name: &str, ty: &str, note: Option<&str>| SurveyedColumn {
        length: Length::LeftOut,
        note: note.map(str::to_owned),
        ..column(name, ty)
    };
    Survey {
        table: TableName::new("hotel", "stays"),
        rows: Some(1_234_567),
        basis: Basis::Rows {
            seen: 1_000,
            of: Seen::AtRandom,
        },
        columns: vec![
            column("_id", "objectid"),
            SurveyedColumn {
                ty: Type::parse("string"),
                length: Length::LeftOut,
                ..coded(
                    "bookingStatus",
                    &["Arrived", "Departure"],
                    Origin::Sample { rows: 1_000 },
                )
            },
            left_out(
                "roomNumber",
                "bson",
                Some("12 int32, 980 string; a value in 992 of 1000"),
            ),
            left_out("balance", "decimal128", None),
            left_out("guest", "document", Some("{ id, name, .. }")),
            left_out("updatedAt", "datetime", None),
        ],
        key: vec!["_id".to_owned()],
        unique: Vec::new(),
        before: BeforeImage::Columns(vec!["_id".to_owned()]),
        enabling: Some(Enabling {
            statement: "db.getSiblingDB(\"hotel\").runCommand({ \"collMod\": \"stays\" })"
                .to_owned(),
            cost: "each update also writes the document before it".to_owned(),
        }),
        references: Vec::new(),
        samples: vec![row(&[
            "65f1a0c2e4b0a1b2c3d4e5f6",
            "Arrived",
            "\"412\"",
            "567.00",
            "{}",
            "2026-11-20 09:00:00+00",
        ])],
        remarks: Vec::new(),
    }
}

fn of(survey: &Survey, rows: Rows) -> Draft {
    draft("travel", std::slice::from_ref(survey), rows).unwrap_or_else(|error| panic!("{error}"))
}

fn text<'d>(draft: &'d Draft, name: &str) -> &'d str {
    let file = draft.files.iter().find(|file| file.name == name);
    &file
        .unwrap_or_else(|| panic!("no {name} in {:?}", names(draft)))
        .text
}

fn names(draft: &Draft) -> Vec<&str> {
    draft.files.iter().map(|file| file.name.as_str()).collect()
}

fn pack_of(draft: &Draft) -> Pack {
    let file = |name: &str| SourceFile {
        name: name.to_owned(),
        text: text(draft, name).to_owned(),
    };
    Pack {
        mapping: file("mapping.toml"),
        schema: file("schema.toml"),
        params: toml::Table::new(),
    }
}

/// Compiles the files as a user's next command does, and runs every case.
fn holds(draft: &Draft) -> Result<(), String> {
    let (mapping, warnings) =
        Mapping::compile(&pack_of(draft)).map_err(|errors| errors.render(Look::PLAIN))?;
    // What looks personal is left out but for the key, and there a human has to decide.
    let mut lines = warnings.lines();
    if lines.any(|(_, line)| !line.contains("looks personal")) {
        return Err(warnings.render(Look::PLAIN));
    }
    let mapping = Arc::new(mapping);
    let tables = Tables::of(&mapping);
    for file in draft
        .files
        .iter()
        .filter(|file| file.name.starts_with("cases/"))
    {
        let source = SourceFile {
            name: file.name.clone(),
            text: file.text.clone(),
        };
        let case = Case::parse(&source, &tables).map_err(|problems| format!("{problems:?}"))?;
        if !case.run(&mapping, &tables).passed() {
            return Err(format!("{} fails:\n{}", file.name, file.text));
        }
    }
    Ok(())
}

#[test]
fn a_table_with_whole_old_rows() {
    let draft = of(&segments(), Rows::Real);
    holds(&draft).unwrap();
    insta::assert_snapshot!("whole_mapping", text(&draft, "mapping.toml"));
    insta::assert_snapshot!("whole_schema", text(&draft, "schema.toml"));
    let cases: Vec<String> = draft
        .files
        .iter()
        .filter(|file| file.name.starts_with("cases/"))
        .map(|file| format!("==> {}\n{}", file.name, file.text))
        .collect();
    insta::assert_snapshot!("whole_cases", cases.join("\n"));
    assert_eq!((draft.events, draft.cases, draft.real_rows), (8, 9, 1));
}

#[test]
fn a_table_of_whose_old_rows_only_the_key_is_sent() {
    let draft = of(&segments_by_key(), Rows::Real);
    holds(&draft).unwrap();
    insta::assert_snapshot!("by_key_mapping", text(&draft, "mapping.toml"));
    let update = text(&draft, "cases/segment-updated.toml");
    assert!(!update.contains("before"), "{update}");
    let delete = text(&draft, "cases/segment-deleted.toml");
    assert!(delete.contains("before = { id = 7 }"), "{delete}");
}

#[test]
fn documents_of_whose_updates_only_what_they_set_is_sent() {
    let draft = of(&stays(), Rows::Real);
    holds(&draft).unwrap();
    insta::assert_snapshot!("seen_mapping", text(&draft, "mapping.toml"));
    insta::assert_snapshot!("seen_schema", text(&draft, "schema.toml"));
    insta::assert_snapshot!("seen_update", text(&draft, "cases/stay-updated.toml"));
    let warned = draft.warnings.join("\n");
    let seen = "hotel.stays (1,000 documents taken at random, of about 1,234,567)";
    assert!(warned.contains(seen), "{warned}");
    assert_eq!((draft.events, draft.cases), (3, 3));

    // Once images before a change are kept, everything can be said.
    let mut survey = stays();
    survey.before = BeforeImage::Whole;
    survey.enabling = None;
    let draft = of(&survey, Rows::Real);
    holds(&draft).unwrap();
    let mapping = text(&draft, "mapping.toml");
    for event in ["StayBookingArrived", "StayBalanceChanged", "StayDeleted"] {
        assert!(mapping.contains(&format!("\"{event}\"")), "{mapping}");
    }
}

#[test]
fn what_is_switched_off_compiles_once_it_is_switched_on() {
    let draft = of(&segments_by_key(), Rows::Real);
    let mut pack = pack_of(&draft);
    let is_off = |line: &&str| line.starts_with('#') && !line.starts_with("# ");
    let off = pack.mapping.text.lines().filter(is_off).count();
    assert!(off > 20, "{}", pack.mapping.text);
    let lines: Vec<&str> = pack
        .mapping
        .text
        .lines()
        .map(|line| if is_off(&line) { &line[1..] } else { line })
        .collect();
    pack.mapping.text = lines.join("\n");
    let (mapping, _) =
        Mapping::compile(&pack).unwrap_or_else(|errors| panic!("{}", errors.render(Look::PLAIN)));
    assert!(mapping.rules().contains(&"SegmentCheckedIn".to_owned()));
}

#[test]
fn what_looks_personal_is_in_no_file() {
    for rows in [Rows::Real, Rows::MadeUp] {
        let draft = of(&segments(), rows);
        assert!(draft.files.iter().all(|file| !file.text.contains("canary")));
        assert!(text(&draft, "cases/segment-created.toml").contains("alex@example.com"));
        let warned = draft.warnings.join("\n");
        assert!(warned.contains("public.segments.contact_email"), "{warned}");
    }
}

#[test]
fn without_rows_no_case_holds_one() {
    let draft = of(&segments(), Rows::MadeUp);
    holds(&draft).unwrap();
    assert_eq!((draft.cases, draft.real_rows), (9, 0));
    for real in ["QX4RTZ", "K7WMPD", "12A", "310.00", "1200.00"] {
        assert!(
            draft.files.iter().all(|file| !file.text.contains(real)),
            "{real}"
        );
    }
}

#[test]
fn a_table_that_publishing_would_break_is_told_of_twice() {
    let survey = Survey {
        key: Vec::new(),
        before: BeforeImage::Refused,
        ..segments_by_key()
    };
    let draft = of(&survey, Rows::Real);
    holds(&draft).unwrap();
    assert_eq!(draft.events, 1);
    assert!(text(&draft, "mapping.toml").contains("BEWARE"));
    assert!(draft.warnings[0].contains("every UPDATE and DELETE of it fails"));
}

#[test]
fn a_table_without_anything_that_names_a_row_is_keyed_by_transaction() {
    let survey = Survey {
        key: Vec::new(),
        columns: vec![column("at", "timestamptz"), column("what", "text")],
        samples: vec![row(&["2026-11-20 09:00:00+00", "a"])],
        references: Vec::new(),
        ..segments()
    };
    let draft = of(&survey, Rows::Real);
    holds(&draft).unwrap();
    assert!(text(&draft, "mapping.toml").contains("\"{$.tx.id}\""));
    assert!(!text(&draft, "cases/segment-created.toml").contains("key"));
}

#[test]
fn states_with_names_that_are_taken_get_longer_ones() {
    let mut survey = segments();
    let values = ["CREATED", "DELETED", "A", "7", "it's \"x\"", "OPEN"];
    survey.columns[6] = coded("status", &values, Origin::Declared("an enum type"));
    survey.columns.push(coded(
        "payment_status",
        &["OPEN", "PAID"],
        Origin::Statistics,
    ));
    survey.samples.clear();
    let draft = of(&survey, Rows::Real);
    holds(&draft).unwrap();
    let mapping = text(&draft, "mapping.toml");
    for event in [
        "SegmentStatusCreated",
        "SegmentStatusDeleted",
        "SegmentStatusA",
        "SegmentStatus7",
        "SegmentOpen",
        // One value cannot be written as a literal, so not all are told.
        "SegmentStatusChanged",
        "SegmentPaymentOpen",
        "SegmentPaymentPaid",
        "SegmentPaymentStatusChanged",
    ] {
        assert!(
            mapping.contains(&format!("\"{event}\"")),
            "{event}:\n{mapping}"
        );
    }
}

/// Names as no one should give them.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z][a-z_]{0,10}",
        "[ -~äßé中\u{7f}]{1,12}",
        prop::sample::select(vec![
            "key",
            "topic",
            "data",
            "table",
            "on",
            "when",
            "status",
            "state",
            "Status",
            "order",
            "select",
            "amount",
            "email",
            "id",
            "updated_at",
            "$",
            "a.b",
            "before",
            "null",
            "true",
        ])
        .prop_map(str::to_owned),
    ]
}

fn any_column() -> impl Strategy<Value = SurveyedColumn> {
    let types = prop::sample::select(vec![
        "int4",
        "int8",
        "text",
        "varchar(3)",
        "char(2)",
        "bool",
        "numeric(10,2)",
        "numeric",
        "money",
        "float8",
        "date",
        "timestamptz",
        "interval",
        "uuid",
        "jsonb",
        "bytea",
        "text[]",
        "public.odd",
        "numeric(2,2)",
        "inet",
        "time",
        "string",
        "objectid",
        "int64",
        "double",
        "datetime",
        "decimal128",
        "document",
        "bson",
    ]);
    let values = prop::option::of(prop::collection::vec("[ -~é]{1,6}", 1..5));
    let origin = prop_oneof![
        Just(Origin::Statistics),
        Just(Origin::Declared("an enum type")),
        Just(Origin::Sample { rows: 50 }),
    ];
    let length = prop::sample::select(vec![
        Length::AlwaysSent,
        Length::MaybeLeftOut,
        Length::LeftOut,
    ]);
    let flags = (any::<bool>(), length, prop::bool::weighted(0.1));
    (name(), types, values, origin, flags).prop_map(|(name, ty, values, origin, flags)| {
        let (nullable, length, hidden) = flags;
        let ty = Type::parse(ty);
        let is_text = matches!(
            ty.kind,
            rowbridge_api::Kind::Text | rowbridge_api::Kind::Char
        );
        SurveyedColumn {
            name,
            note: None,
            nullability: if nullable {
                Nullability::MaybeNull
            } else {
                Nullability::NeverNull
            },
            hidden: hidden.then(|| "generated".to_owned()),
            length,
            values: values
                .filter(|_| is_text)
                .map(|values| KnownValues { values, origin }),
            ty,
        }
    })
}

fn any_survey() -> impl Strategy<Value = Survey> {
    let columns = prop::collection::vec(any_column(), 1..9);
    (name(), name(), columns, 0..3_usize, 0..4_u8).prop_map(
        |(schema, table, columns, key, before)| {
            let mut seen = std::collections::HashSet::new();
            let mut columns = columns;
            columns.retain(|column| seen.insert(column.name.clone()));
            columns[0].hidden = None;
            let key: Vec<String> = columns
                .iter()
                .take(key)
                .map(|column| column.name.clone())
                .collect();
            Survey {
                table: TableName::new(schema.replace('.', "_"), table),
                rows: None,
                basis: Basis::Declared,
                before: match before {
                    0 => BeforeImage::Refused,
                    1 if !key.is_empty() => BeforeImage::Columns(key.clone()),
                    _ => BeforeImage::Whole,
                },
                enabling: (before < 2).then(|| Enabling {
                    statement: "ALTER TABLE t REPLICA IDENTITY FULL;".to_owned(),
                    cost: "more WAL".to_owned(),
                }),
                key,
                unique: Vec::new(),
                references: Vec::new(),
                samples: Vec::new(),
                remarks: Vec::new(),
                columns,
            }
        },
    )
}

proptest! {
    #[test]
    fn any_tables_give_a_pack_that_compiles_and_passes(
        surveys in prop::collection::vec(any_survey(), 1..4),
    ) {
        let mut seen = std::collections::HashSet::new();
        let mut surveys = surveys;
        surveys.retain(|survey| seen.insert(survey.table.clone()));
        let draft = draft("travel", &surveys, Rows::Real);
        let draft = draft.map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert!(holds(&draft).is_ok(), "{}", holds(&draft).unwrap_err());
    }
}

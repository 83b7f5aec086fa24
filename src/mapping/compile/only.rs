//! `only`: the rows whose column is in the list of a parameter.

use std::collections::BTreeMap;

use super::ResolvedParam;
use crate::mapping::diagnostic::{Diagnostic, one_of};
use crate::mapping::expression::literal::Written;
use crate::mapping::expression::path::{Place, PlaceType};
use crate::mapping::expression::{Scope, column};
use crate::mapping::file::reader::Text;
use crate::mapping::rule::{Only, Side};

/// Compiles every pair of column and parameter; a broken one is reported.
pub(super) fn compile(
    scope: &Scope<'_>,
    params: &BTreeMap<String, ResolvedParam>,
    list: &[(Text, Text)],
) -> Vec<Option<Only>> {
    list.iter()
        .map(|(column, param)| one(scope, params, column, param))
        .collect()
}

fn one(
    scope: &Scope<'_>,
    params: &BTreeMap<String, ResolvedParam>,
    column: &Text,
    param: &Text,
) -> Option<Only> {
    let place = column::compile(scope, column);
    let Some(resolved) = params.get(&param.value) else {
        let names: Vec<&str> = params.keys().map(String::as_str).collect();
        scope.error(
            Diagnostic::error(param.at, format!("unknown parameter `{}`", param.value))
                .label("not in [params]")
                .maybe_hint(one_of(&param.value, &names)),
        );
        return None;
    };
    let place = place?;
    let Some(list) = resolved.value.as_array() else {
        scope.error(
            Diagnostic::error(
                resolved.at,
                format!("`{}` is used by `only` and is no list", param.value),
            )
            .hint(format!("{} = [\"web\", \"app\"]", param.value)),
        );
        return None;
    };
    scope.reads(place.slot, Side::Row);
    let place = Place::Cell(place.on(Side::Row));
    let ty = place.ty(scope);
    let values: Vec<Option<_>> = list
        .iter()
        .map(|value| {
            let written = Written::of_toml(value);
            let typed = match (&written, &ty) {
                (Some(written), PlaceType::Column(ty)) => written.typed(ty).ok(),
                (Some(written), _) => Some(written.untyped()),
                (None, _) => None,
            };
            if typed.is_none() {
                let wanted = match &ty {
                    PlaceType::Column(ty) => ty.name.as_str(),
                    _ => "a plain value",
                };
                scope.error(
                    Diagnostic::error(resolved.at, format!("`{value}` is not a {wanted}"))
                        .label(format!("compared with column `{}`", column.value)),
                );
            }
            typed
        })
        .collect();
    Some(Only {
        at: column.at,
        place,
        values: values.into_iter().collect::<Option<_>>()?,
        column: column.value.clone(),
        param: param.value.clone(),
    })
}

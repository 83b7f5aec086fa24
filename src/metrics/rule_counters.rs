//! One counter per rule; rules that give the same label share one.

use std::collections::BTreeSet;
use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::Label;

#[derive(Clone)]
pub(super) struct RuleCounters {
    family: Family<Label, Counter>,
    label: &'static str,
    by_rule: Arc<[Counter]>,
    /// Each counter once.
    distinct: Arc<[Counter]>,
}

impl RuleCounters {
    /// Registers a family; `values` are the label's, in rule order.
    pub(super) fn register(
        registry: &mut Registry,
        (name, help, label): (&str, &str, &'static str),
        values: &[String],
    ) -> Self {
        let family = Family::<Label, Counter>::default();
        registry.register(name, help, family.clone());
        Self::of(family, label, values)
    }

    /// The counters of the same family for other rules.
    pub(super) fn of_rules(&self, values: &[String]) -> Self {
        Self::of(self.family.clone(), self.label, values)
    }

    fn of(family: Family<Label, Counter>, label: &'static str, values: &[String]) -> Self {
        let counter = |value: &String| family.get_or_create_owned(&[(label, value.clone())]);
        let distinct: BTreeSet<&String> = values.iter().collect();
        Self {
            label,
            by_rule: values.iter().map(counter).collect(),
            distinct: distinct.into_iter().map(counter).collect(),
            family,
        }
    }

    /// Counts for the rule numbered `rule`; one that does not exist is ignored.
    pub(super) fn add(&self, rule: u16, count: u64) {
        if let Some(counter) = self.by_rule.get(usize::from(rule)) {
            counter.inc_by(count);
        }
    }

    /// Of all rules.
    pub(super) fn total(&self) -> u64 {
        self.distinct.iter().map(Counter::get).sum()
    }
}

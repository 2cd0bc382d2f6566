//! Metrics that are read at the time of a scrape.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet},
    metrics::{MetricType, exemplar::Exemplar},
};

use crate::{
    catalogue::Metric,
    registrar::{describe, kind},
};

/// Values at one time.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    families: BTreeMap<&'static str, Family>,
}

#[derive(Debug, Clone)]
struct Family {
    metric: &'static Metric,
    samples: Vec<(Box<[Arc<str>]>, f64)>,
}

impl Snapshot {
    /// Sets a counter or gauge.
    ///
    /// # Panics
    /// When the number of labels differs from the declaration, which is a bug.
    pub fn set<const N: usize>(
        &mut self,
        metric: &'static Metric,
        labels: [impl Into<Arc<str>>; N],
        value: f64,
    ) {
        assert_eq!(metric.labels.len(), N, "{}", metric.name);
        let family = self.families.entry(metric.name);
        let family = family.or_insert_with(|| Family { metric, samples: Vec::new() });
        family.samples.push((labels.map(Into::into).into(), value));
    }

    /// Sets a metric without labels.
    pub fn put(&mut self, metric: &'static Metric, value: f64) {
        self.set::<0>(metric, [] as [&str; 0], value);
    }

    /// Sets a metric without labels, if its value is known.
    pub fn put_known(&mut self, metric: &'static Metric, value: Option<f64>) {
        if let Some(value) = value {
            self.put(metric, value);
        }
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        for family in self.families.values() {
            let mut encoder = describe(encoder, family.metric)?;
            for (values, value) in &family.samples {
                let labels: Vec<(&str, &str)> = family
                    .metric
                    .labels
                    .iter()
                    .copied()
                    .zip(values.iter().map(|value| &**value))
                    .collect();
                if labels.is_empty() {
                    encode_value(&mut encoder, family.metric, *value)?;
                } else {
                    let mut one = encoder.encode_family(&labels)?;
                    encode_value(&mut one, family.metric, *value)?;
                }
            }
        }
        Ok(())
    }
}

fn encode_value(encoder: &mut MetricEncoder<'_>, metric: &Metric, value: f64) -> std::fmt::Result {
    if matches!(kind(metric), MetricType::Counter) {
        let none: Option<&Exemplar<NoLabelSet, f64>> = None;
        encoder.encode_counter(&value, none)
    } else {
        encoder.encode_gauge(&value)
    }
}

/// The snapshot in a registry.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shown(Arc<Mutex<Snapshot>>);

impl Shown {
    pub(crate) fn replace(&self, snapshot: Snapshot) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }
}

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).encode(&mut encoder)
    }
}

/// Labels with declared names and values of two types.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Labels<const N: usize> {
    pub(crate) names: &'static [&'static str],
    pub(crate) values: [Arc<str>; N],
}

impl<const N: usize> Labels<N> {
    /// # Panics
    /// When the number of labels differs from the declaration, which is a bug.
    pub(crate) fn new(metric: &'static Metric, values: [&str; N]) -> Self {
        assert_eq!(metric.labels.len(), N, "{}", metric.name);
        Self { names: metric.labels, values: values.map(Into::into) }
    }
}

impl<const N: usize> EncodeLabelSet for Labels<N> {
    fn encode(
        &self,
        encoder: &mut prometheus_client::encoding::LabelSetEncoder<'_>,
    ) -> std::fmt::Result {
        let values = self.values.iter().map(|value| &**value);
        let pairs: Vec<(&str, &str)> = self.names.iter().copied().zip(values).collect();
        pairs.encode(encoder)
    }
}

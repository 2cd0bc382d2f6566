//! Registration of declared metrics.

use prometheus_client::{
    encoding::{DescriptorEncoder, MetricEncoder},
    metrics::{
        MetricType, TypedMetric,
        histogram::{Histogram, NativeHistogramConfig},
    },
    registry::{Metric as Registered, Registry},
};

use crate::catalogue::{Buckets, Metric, Shape};

/// Maximum number of native buckets of a histogram. Beyond it, they are merged into wider ones.
const NATIVE_BUCKETS: usize = 160;

/// The library's type of a metric.
pub(crate) fn kind(metric: &Metric) -> MetricType {
    match metric.shape {
        Shape::Counter => MetricType::Counter,
        Shape::Gauge => MetricType::Gauge,
        Shape::Histogram(_) => MetricType::Histogram,
    }
}

/// The name for the library, which adds `_total` itself.
fn stem(metric: &Metric) -> &'static str {
    metric.name.strip_suffix("_total").unwrap_or(metric.name)
}

/// Registers a metric under its declaration, and returns it.
///
/// # Panics
/// When the metric has another type than declared, which is a bug.
pub(crate) fn register<M>(registry: &mut Registry, metric: &'static Metric, value: M) -> M
where
    M: Registered + TypedMetric + Clone,
{
    assert_eq!(kind(metric).as_str(), M::TYPE.as_str(), "{}", metric.name);
    registry.register(stem(metric), metric.help, value.clone());
    value
}

/// Starts encoding a metric that is not registered itself.
pub(crate) fn describe<'s>(
    encoder: &'s mut DescriptorEncoder<'_>,
    metric: &'static Metric,
) -> Result<MetricEncoder<'s>, std::fmt::Error> {
    encoder.encode_descriptor(stem(metric), metric.help, None, kind(metric))
}

/// An empty histogram with these buckets and native ones.
pub(crate) fn histogram(buckets: Buckets) -> Histogram {
    let native = NativeHistogramConfig::default().max_buckets(NATIVE_BUCKETS);
    Histogram::new_classic_and_native(buckets.bounds().iter().copied(), native)
}

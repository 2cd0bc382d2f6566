//! The reference page says what the code says.

#[test]
fn the_reference_page_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/metrics.md");
    let page = std::fs::read_to_string(path).unwrap_or_default();
    let hint = "run: cargo run -p rota-metrics --example reference";
    assert!(page == rota_metrics::reference::page(), "{path} is out of date; {hint}");
}

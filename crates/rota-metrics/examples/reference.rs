//! Writes `docs/reference/metrics.md`.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/metrics.md");
    std::fs::create_dir_all(page.parent().unwrap_or(&page))?;
    std::fs::write(page, rota_metrics::reference::page())
}

//! `rota open`: shows the dashboard of a server in the browser.

use std::process::Stdio;

use tokio::process::Command;

use crate::{config::Settings, exit::Failure, output};

/// The programs that open an address, by what the desktop has.
const OPENERS: [&str; 2] =
    if cfg!(target_os = "macos") { ["open", "xdg-open"] } else { ["xdg-open", "open"] };

/// Prints the address, and opens it if this machine has a browser.
///
/// # Errors
/// When there is no address, or standard output fails.
pub(crate) async fn run(settings: &Settings) -> Result<(), Failure> {
    let urls = settings.list("url");
    let url = urls.first().ok_or_else(|| Failure::usage("url: no address is set"))?;
    let page = page(url);
    output::verbatim(format!("{page}\n").as_bytes())?;
    for opener in OPENERS {
        let mut command = Command::new(opener);
        command.arg(&page).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if command.status().await.is_ok_and(|status| status.success()) {
            return Ok(());
        }
    }
    output::note("no browser could be opened here; open the address in one");
    Ok(())
}

/// The address of the dashboard of a server at this URL.
fn page(url: &str) -> String {
    format!("{}/ui/", url.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_below_the_url() {
        for url in ["http://127.0.0.1:7420", "http://127.0.0.1:7420/"] {
            assert_eq!(page(url), "http://127.0.0.1:7420/ui/");
        }
    }
}

//! The style sheet, the scripts and the icon: built into the program, compressed once, and cached for ever under a path
//! that names their content.

use std::{fmt::Write as _, io::Write as _, sync::LazyLock};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use ring::digest::{Context, SHA256};

/// A file.
pub(crate) struct Asset {
    name: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plain: &'static [u8],
    pub(crate) gzip: Bytes,
}

struct Assets {
    hash: String,
    files: Vec<Asset>,
}

static ASSETS: LazyLock<Assets> = LazyLock::new(|| {
    let script = "text/javascript; charset=utf-8";
    let files: [(&str, &str, &[u8]); 4] = [
        ("app.css", "text/css; charset=utf-8", include_bytes!("../assets/app.css")),
        ("app.js", script, include_bytes!("../assets/app.js")),
        ("live.js", script, include_bytes!("../assets/live.js")),
        ("icon.svg", "image/svg+xml", include_bytes!("../assets/icon.svg")),
    ];
    let mut content = Context::new(&SHA256);
    for (_, _, plain) in files {
        content.update(plain);
    }
    let mut hash = String::new();
    for byte in &content.finish().as_ref()[..8] {
        // Writing to a string does not fail.
        let _ = write!(hash, "{byte:02x}");
    }
    let files = files.map(|(name, kind, plain)| Asset {
        name,
        kind,
        plain,
        gzip: gzip(plain, Compression::best()),
    });
    Assets { hash, files: files.into() }
});

/// The relative link to a file.
pub(crate) fn link(name: &str) -> String {
    format!("assets/{}/{name}", ASSETS.hash)
}

/// The file, and whether the path names the content that it has.
pub(crate) fn find(hash: &str, name: &str) -> Option<(&'static Asset, bool)> {
    let file = ASSETS.files.iter().find(|file| file.name == name)?;
    Some((file, hash == ASSETS.hash))
}

/// The content as gzip.
pub(crate) fn gzip(plain: &[u8], level: Compression) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 3), level);
    // Writing to memory does not fail.
    let _ = encoder.write_all(plain);
    encoder.finish().unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_view_is_small() {
        let first = ["app.css", "app.js", "live.js", "icon.svg"].map(|name| {
            let (file, current) = find(&ASSETS.hash, name).expect(name);
            assert!(current);
            file.gzip.len()
        });
        let sum: usize = first.iter().sum();
        assert!(sum < 60_000, "{sum} bytes, and a page must fit into 100 kB as well");
        assert!(find(&ASSETS.hash, "../lib.rs").is_none());
        assert!(find("0000", "app.css").is_some_and(|(_, current)| !current));
    }

    #[test]
    fn scripts_make_no_code_from_text_and_name_no_other_host() {
        for name in ["app.css", "app.js", "live.js"] {
            let (file, _) = find(&ASSETS.hash, name).expect(name);
            let text = std::str::from_utf8(file.plain).expect("text");
            for word in [
                "eval(",
                "new Function",
                "innerHTML =",
                "document.write",
                "http://",
                "https://",
                "@import",
            ] {
                assert!(!text.contains(word), "{name} has {word}");
            }
        }
    }
}

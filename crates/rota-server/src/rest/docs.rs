//! The page that shows the contract: Swagger UI, which needs nothing from elsewhere.
//!
//! `vendor/swagger-ui` has the component, and `docs/` the page, its colours and its search.

use axum::{
    extract::Path,
    http::{HeaderName, Uri, header},
    response::{Html, IntoResponse, Response},
};

use super::problem;

/// Scripts and styles come from this server alone, none is in the page, and none is made from text. Icons in styles are
/// `data:` URLs.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const PLAIN: [(HeaderName, &str); 1] = [(header::CACHE_CONTROL, "no-cache")];
/// Every browser reads gzip.
const VENDORED: [(HeaderName, &str); 2] =
    [(header::CACHE_CONTROL, "max-age=86400"), (header::CONTENT_ENCODING, "gzip")];

const SCRIPT: (HeaderName, &str) = (header::CONTENT_TYPE, "text/javascript; charset=utf-8");
const STYLE: (HeaderName, &str) = (header::CONTENT_TYPE, "text/css; charset=utf-8");
const PICTURE: (HeaderName, &str) = (header::CONTENT_TYPE, "image/svg+xml");

const SWAGGER_SCRIPT: &[u8] = include_bytes!("../../vendor/swagger-ui/swagger-ui-bundle.js.gz");
const SWAGGER_STYLE: &[u8] = include_bytes!("../../vendor/swagger-ui/swagger-ui.css.gz");

pub(crate) async fn page() -> impl IntoResponse {
    ([(header::CONTENT_SECURITY_POLICY, POLICY)], Html(include_str!("docs/page.html")))
}

pub(crate) async fn file(Path(name): Path<String>, uri: Uri) -> Response {
    match name.as_str() {
        "docs.js" => ([SCRIPT], PLAIN, include_str!("docs/docs.js")).into_response(),
        "docs.css" => ([STYLE], PLAIN, include_str!("docs/docs.css")).into_response(),
        "favicon.svg" => ([PICTURE], PLAIN, include_str!("docs/favicon.svg")).into_response(),
        "swagger-ui-bundle.js" => ([SCRIPT], VENDORED, SWAGGER_SCRIPT).into_response(),
        "swagger-ui.css" => ([STYLE], VENDORED, SWAGGER_STYLE).into_response(),
        _ => problem::not_found(uri).await.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn the_component_is_the_reviewed_one() {
        for (file, sum) in [
            (SWAGGER_SCRIPT, "e6a898692f2d768e807c3ba4626068a69a2c5dd960dd6c76f3e4d3a3de180af2"),
            (SWAGGER_STYLE, "5ed08757e53da3e026d6cbecc61fe5d43585c9560b302d534ad56692519a273d"),
        ] {
            let mut content = Vec::new();
            flate2::read::GzDecoder::new(file).read_to_end(&mut content).expect("gzip");
            let found: String =
                Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(found, sum);
        }
    }
}

//! Links between pages. They are relative and pages are one level deep, so any prefix of a proxy works. Names are in
//! the query alone, so they can hold slashes.

use form_urlencoded::{Serializer, parse};

/// The link to a page with these parameters.
pub(crate) fn to<K: AsRef<str>, V: AsRef<str>>(
    page: &str,
    pairs: impl IntoIterator<Item = (K, V)>,
) -> String {
    let query = Serializer::new(String::new()).extend_pairs(pairs).finish();
    let page = if page.is_empty() { "./" } else { page };
    if query.is_empty() { page.to_owned() } else { format!("{page}?{query}") }
}

/// The link to a page without parameters.
pub(crate) fn page(page: &str) -> String {
    to(page, [("", ""); 0])
}

/// The pairs of a query, percent-decoded, in order.
pub(crate) fn pairs(query: &str) -> Vec<(String, String)> {
    parse(query.as_bytes()).into_owned().collect()
}

/// Whether this can be the name of a page. Nothing else of a path goes into a link.
pub(crate) fn is_page(name: &str) -> bool {
    name.len() <= 20 && name.bytes().all(|byte| byte.is_ascii_lowercase())
}

/// A link that came with a request, if it is one to a page of the dashboard.
pub(crate) fn checked(link: &str) -> Option<String> {
    let (name, query) = link.split_once('?').unwrap_or((link, ""));
    let name = if name == "./" { "" } else { name };
    // Written anew, so that nothing but a page and parameters is left of it.
    is_page(name).then(|| to(name, pairs(query)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_comes_back() {
        for name in
            ["a/b", "100%", "a&b=c", "a b+c", "?#;", "../..", "t_0%2F1", "ä\u{202e}b", "\"<>'"]
        {
            let link = to("task", [("id", name)]);
            let (page, query) = link.split_once('?').expect("a query");
            assert_eq!(page, "task");
            assert_eq!(pairs(query), [("id".to_owned(), name.to_owned())]);
            assert!(link.bytes().all(|byte| byte.is_ascii_graphic()), "{link}");
            assert_eq!(link.matches(['/', '#', '"', '<']).count(), 0, "{link}");
        }
        assert_eq!(page(""), "./");
        assert_eq!(page("tasks"), "tasks");
    }

    #[test]
    fn only_pages_are_a_way_back() {
        for (given, link) in [
            ("tasks?status=failed", Some("tasks?status=failed")),
            ("./", Some("./")),
            ("", Some("./")),
            ("task?id=a%2Fb", Some("task?id=a%2Fb")),
            ("tasks?a=\r\nset-cookie: x", Some("tasks?a=%0D%0Aset-cookie%3A+x")),
            ("//evil.example", None),
            ("https://evil.example", None),
            ("/v1/tasks", None),
            ("../v1", None),
            ("javascript:alert(1)", None),
            ("\\evil", None),
        ] {
            assert_eq!(checked(given).as_deref(), link, "{given}");
        }
    }
}

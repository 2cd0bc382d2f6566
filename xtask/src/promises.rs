//! What `docs/guarantees.md` promises is held by tests: each promise names some, and each of those is
//! there. Promises are the headings of the third level; tests are named as `file.rs::function`.

use std::{fs, path::Path};

use crate::Finding;

const PAGE: &str = "docs/guarantees.md";

/// What is wrong with the page below `root`.
pub(crate) fn check(root: &Path) -> Result<Vec<Finding>, String> {
    let read = |path: &str| fs::read_to_string(root.join(path)).ok();
    let page = read(PAGE).ok_or_else(|| format!("{PAGE} cannot be read"))?;
    Ok(check_page(&page, read))
}

fn check_page(page: &str, read: impl Fn(&str) -> Option<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut promise: Option<(usize, &str, bool)> = None;
    for (at, line) in (1..).zip(page.lines()) {
        if line.starts_with("## ") || line.starts_with("### ") {
            findings.extend(unheld(promise.take()));
            promise = line.strip_prefix("### ").map(|title| (at, title, false));
        }
        for (file, test) in tests_named(line) {
            if let Some((_, _, held)) = &mut promise {
                *held = true;
            }
            if !read(file).is_some_and(|source| has_test(file, &source, test)) {
                let message = format!("names a test that is not there: {file}::{test}");
                findings.push(Finding { place: format!("{PAGE}:{at}"), message });
            }
        }
    }
    findings.extend(unheld(promise));
    findings
}

fn unheld(promise: Option<(usize, &str, bool)>) -> Option<Finding> {
    let (at, title, _) = promise.filter(|(_, _, held)| !held)?;
    let message = format!("`{title}` names no test: what nothing holds is no promise");
    Some(Finding { place: format!("{PAGE}:{at}"), message })
}

/// The tests that a line names, in code spans.
fn tests_named(line: &str) -> impl Iterator<Item = (&str, &str)> {
    let spans = line.split('`').skip(1).step_by(2);
    spans.filter_map(|span| span.split_once("::").filter(|(file, _)| file.ends_with(".rs")))
}

/// Whether there is a test of that name: a function under an attribute that ends in `test]` or takes
/// arguments, within `proptest!`, or an obligation of the stores' common suite.
fn has_test(file: &str, source: &str, test: &str) -> bool {
    let lines: Vec<_> = source.lines().map(str::trim_start).collect();
    let names = |line: &str| {
        let rest = line.strip_prefix("pub ").or_else(|| line.strip_prefix("pub(super) "));
        let rest = rest.unwrap_or(line);
        let rest = rest.strip_prefix("async ").unwrap_or(rest).strip_prefix("fn ");
        let rest = rest.and_then(|rest| rest.strip_prefix(test));
        rest.is_some_and(|rest| rest.starts_with(['(', '<']))
    };
    let Some(at) = lines.iter().position(|line| names(line)) else { return false };
    let mut above = lines[..at].iter().rev().take_while(|line| !line.is_empty());
    file.contains("/conformance/") || above.any(|line| is_test_attribute(line))
}

fn is_test_attribute(line: &str) -> bool {
    let attribute = line.strip_prefix("#[").unwrap_or_default();
    let name: String =
        attribute.chars().take_while(|c| c.is_alphanumeric() || ['_', ':'].contains(c)).collect();
    name == "test" || name.ends_with("::test")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "/// What it shows.\n#[test]\nfn it_holds() {}\n\nfn it_helps() {}\n\n\
        #[tokio::test(flavor = \"multi_thread\")]\nasync fn it_waits() {}\n";

    fn findings(page: &str) -> Vec<String> {
        let read = |path: &str| (path == "a/b.rs").then(|| SOURCE.to_owned());
        check_page(page, read).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_promise_that_a_test_holds_is_in_order() {
        let page =
            "## A\n### One\n- `a/b.rs::it_holds`\n### Two\nit is `a/b.rs::it_waits`, so\n## B\n";
        assert_eq!(findings(page), [""; 0]);
    }

    #[test]
    fn a_promise_without_a_test_is_found() {
        let found = findings("### One\nwords\n### Two\n- `a/b.rs::it_holds`\n### Three\n");
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains(":1: `One`") && found[1].contains(":5: `Three`"), "{found:?}");
    }

    #[test]
    fn a_test_that_is_not_there_is_found() {
        for wrong in ["a/b.rs::it_hold", "a/b.rs::it_helps", "a/c.rs::it_holds"] {
            let found = findings(&format!("### One\n- `{wrong}`\n"));
            assert!(found.len() == 1 && found[0].contains(wrong), "{wrong}: {found:?}");
        }
    }
}

//! Habits of the sources that no lint holds: each file says what it owns, none grows without end,
//! nothing outside tests gives up with `unwrap` or leaves to chance which branch of a `select!` runs,
//! and no test sleeps.
//!
//! Files are read as tokens, not as text: what a comment or a string says is no finding.

use std::{
    fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

use crate::Finding;

/// Lines of a file, tests included.
const LINES_MAX: usize = 600;

/// What is wrong in the Rust files below `directory`, shown relative to `root`.
pub(crate) fn check(root: &Path, directory: &Path) -> Result<Vec<Finding>, String> {
    let mut findings = Vec::new();
    for path in rust_files(directory)? {
        let text = fs::read_to_string(&path)
            .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        let shown = path.strip_prefix(root).unwrap_or(&path);
        findings.extend(check_file(shown, &text)?);
    }
    Ok(findings)
}

/// Rust files below a directory in a fixed order; other packages, generated code and build output are left out.
pub(crate) fn rust_files(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |error| format!("{} cannot be listed: {error}", directory.display());
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        entries.push(entry.map_err(failed)?.path());
    }
    entries.sort();
    let mut files = Vec::new();
    for path in entries {
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes()[0] == b'.');
        if path.is_dir()
            && !hidden
            && !path.ends_with("target")
            && !path.ends_with("generated")
            && !path.join("Cargo.toml").exists()
        {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

fn check_file(path: &Path, text: &str) -> Result<Vec<Finding>, String> {
    let mut findings = Vec::new();
    let mut found = |place: String, message: &str| {
        findings.push(Finding { place, message: message.to_owned() });
    };
    let file = path.display().to_string();
    if !text.starts_with("//!") {
        found(
            file.clone(),
            "must open with `//!`, saying what it owns and what it leaves to others",
        );
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        let message =
            format!("has {lines} lines, more than {LINES_MAX}: split it along a real seam");
        found(file.clone(), &message);
    }
    let tokens = TokenStream::from_str(text)
        .map_err(|error| format!("{file} cannot be read as Rust: {error}"))?;
    let mut calls = Vec::new();
    walk(tokens, is_test_file(path), &mut calls);
    for call in calls {
        let place = format!("{file}:{}", call.line);
        match call.what {
            What::Unwrap => found(
                place,
                "`unwrap` outside tests: return an error, or `expect` with the invariant that holds",
            ),
            What::ChanceOrder => found(
                place,
                "`select!` without `biased;`: chance decides between branches, and no run can be repeated",
            ),
            What::Sleep => {
                found(place, "a test sleeps: wait for a signal, or pause the clock and advance it");
            }
        }
    }
    Ok(findings)
}

/// Files that hold nothing but tests, by their place, though they do not say so themselves. A suite
/// for others to run is one too.
pub(crate) fn is_test_file(path: &Path) -> bool {
    let part =
        |part: &std::ffi::OsStr| part == "tests" || part == "benches" || part == "conformance";
    path.parent().is_some_and(|parent| parent.iter().any(part))
        || path.file_stem().is_some_and(|stem| {
            stem == "tests" || stem.to_str().is_some_and(|stem| stem.ends_with("_tests"))
        })
}

#[derive(Debug, PartialEq, Eq)]
struct Call {
    what: What,
    line: usize,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum What {
    Unwrap,
    Sleep,
    ChanceOrder,
}

/// Looks through tokens for calls. An attribute that names `test` makes tests of what follows it, up
/// to the end of its item.
fn walk(tokens: TokenStream, in_tests: bool, calls: &mut Vec<Call>) {
    let tokens: Vec<_> = tokens.into_iter().collect();
    let mut item_is_test = false;
    for (at, token) in tokens.iter().enumerate() {
        let next = |distance: usize| tokens.get(at + distance);
        match token {
            TokenTree::Group(group) => {
                if is_attribute(&tokens, at) {
                    item_is_test |= names_test(group);
                    continue;
                }
                walk(group.stream(), in_tests || item_is_test, calls);
                if group.delimiter() == Delimiter::Brace {
                    item_is_test = false;
                }
            }
            TokenTree::Punct(punct) if punct.as_char() == ';' => item_is_test = false,
            TokenTree::Ident(ident) => {
                let called = next(1).is_some_and(is_arguments);
                let method = at > 0 && is_punct(&tokens[at - 1], '.');
                let declared = at > 0 && is_word(&tokens[at - 1], "fn");
                let line = ident.span().start().line;
                if ident == "unwrap" && called && method && !in_tests && !item_is_test {
                    calls.push(Call { what: What::Unwrap, line });
                }
                if ident == "select"
                    && next(1).is_some_and(|token| is_punct(token, '!'))
                    && next(2).is_some_and(|branches| !is_biased(branches))
                    && !in_tests
                    && !item_is_test
                {
                    calls.push(Call { what: What::ChanceOrder, line });
                }
                if ident == "sleep" && called && !declared && (in_tests || item_is_test) {
                    calls.push(Call { what: What::Sleep, line });
                }
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

/// `#[…]` or `#![…]`, seen from the brackets.
pub(crate) fn is_attribute(tokens: &[TokenTree], at: usize) -> bool {
    let before = |distance: usize| at.checked_sub(distance).map(|at| &tokens[at]);
    let brackets =
        matches!(&tokens[at], TokenTree::Group(g) if g.delimiter() == Delimiter::Bracket);
    let hash = |distance| before(distance).is_some_and(|token| is_punct(token, '#'));
    brackets && (hash(1) || (before(1).is_some_and(|token| is_punct(token, '!')) && hash(2)))
}

/// Whether an attribute says `test` (`cfg(test)`, `test`, `tokio::test`), and not `not(test)`.
pub(crate) fn names_test(group: &Group) -> bool {
    let mut says = false;
    let mut denied = false;
    for token in group.stream() {
        match &token {
            TokenTree::Group(inside) if !denied => says |= names_test(inside),
            _ => says |= is_word(&token, "test"),
        }
        denied = is_word(&token, "not");
    }
    says
}

fn is_arguments(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Parenthesis)
}

/// Whether the branches of a `select!` are polled in the order in which they are written.
fn is_biased(branches: &TokenTree) -> bool {
    let TokenTree::Group(branches) = branches else { return false };
    branches.stream().into_iter().next().is_some_and(|first| is_word(&first, "biased"))
}

pub(crate) fn is_punct(token: &TokenTree, char: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == char)
}

fn is_word(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(path: &str, text: &str) -> Vec<String> {
        let findings = check_file(Path::new(path), text).expect("Rust");
        findings.iter().map(ToString::to_string).collect()
    }

    fn one(path: &str, text: &str, place: &str, word: &str) {
        let messages = messages(path, text);
        assert_eq!(messages.len(), 1, "{messages:?}");
        assert!(messages[0].starts_with(place), "{messages:?}");
        assert!(messages[0].contains(word), "{messages:?}");
    }

    #[test]
    fn a_file_must_say_what_it_owns() {
        one("src/a.rs", "mod b;\n", "src/a.rs: ", "`//!`");
        assert_eq!(messages("src/a.rs", "//! Owns b.\nmod b;\n"), [""; 0]);
    }

    #[test]
    fn a_file_must_end() {
        let long = format!("//! Long.\n{}", "// More.\n".repeat(LINES_MAX));
        one("src/a.rs", &long, "src/a.rs: ", "has 601 lines");
        let full = format!("//! Full.\n{}", "// More.\n".repeat(LINES_MAX - 1));
        assert_eq!(messages("src/a.rs", &full), [""; 0]);
    }

    #[test]
    fn unwrap_is_for_tests() {
        one("src/a.rs", "//! A.\nfn a() {\n    b().unwrap();\n}\n", "src/a.rs:3: ", "`unwrap`");
        one("src/a.rs", "//! A.\nfn a() { log!(b().unwrap()); }\n", "src/a.rs:2: ", "`unwrap`");
        one(
            "src/a.rs",
            "//! A.\n#[cfg(not(test))]\nmod a { fn a() { b().unwrap(); } }\n",
            "src/a.rs:3: ",
            "`unwrap`",
        );
        // What follows a test is not one.
        one(
            "src/a.rs",
            "//! A.\n#[test]\nfn a() { b().unwrap(); }\nfn c() { d().unwrap(); }\n",
            "src/a.rs:4: ",
            "`unwrap`",
        );
        one(
            "src/a.rs",
            "//! A.\n#[cfg(test)]\nmod tests;\nfn c() { d().unwrap(); }\n",
            "src/a.rs:4: ",
            "`unwrap`",
        );
        for fine in [
            "//! A.\n#[cfg(test)]\nmod tests { fn a() { b().unwrap(); } }\n",
            "//! A.\n#[tokio::test(start_paused = true)]\n#[doc = \"x\"]\nasync fn a() { b().unwrap(); }\n",
            "//! A.\nfn a() { b().unwrap_or(1); /* b().unwrap() */ log(\"b().unwrap()\"); }\n",
        ] {
            assert_eq!(messages("src/a.rs", fine), [""; 0], "{fine}");
        }
        let text = "//! A.\nfn a() { b().unwrap(); }\n";
        for fine in [
            "tests/a.rs",
            "src/machine/tests.rs",
            "tests/tests/kill.rs",
            "src/conformance/reads.rs",
        ] {
            assert_eq!(messages(fine, text), [""; 0], "{fine}");
        }
    }

    #[test]
    fn tests_do_not_sleep() {
        let text = "//! A.\nasync fn a() {\n    tokio::time::sleep(b).await;\n}\n";
        one("tests/a.rs", text, "tests/a.rs:3: ", "sleeps");
        assert_eq!(messages("src/a.rs", text), [""; 0]);
        one(
            "src/a.rs",
            "//! A.\n#[test]\nfn a() { thread::sleep(b); }\n",
            "src/a.rs:3: ",
            "sleeps",
        );
    }

    #[test]
    fn branches_of_select_have_an_order() {
        let text =
            "//! A.\nasync fn a() {\n    tokio::select! {\n        () = b() => {}\n    }\n}\n";
        one("src/a.rs", text, "src/a.rs:3: ", "`biased;`");
        assert_eq!(messages("tests/a.rs", text), [""; 0]);
        let ordered = text.replace("select! {\n", "select! {\n        biased;\n");
        assert_eq!(messages("src/a.rs", &ordered), [""; 0]);
    }

    #[test]
    fn what_is_not_rust_is_an_error() {
        assert!(check_file(Path::new("src/a.rs"), "//! A.\nfn a( {\n").is_err());
    }

    #[test]
    fn packages_inside_packages_are_left_to_themselves() {
        let directory = tempfile::tempdir().expect("a directory");
        let write = |path: &str, text: &str| {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        };
        write("src/lib.rs", "fn a() {}\n");
        write("inner/Cargo.toml", "");
        write("inner/src/lib.rs", "fn a() {}\n");
        write("target/debug/a.rs", "fn a() {}\n");
        write("generated/a.rs", "fn a() {}\n");
        let findings = check(directory.path(), directory.path()).expect("readable");
        let places: Vec<_> = findings.iter().map(|finding| finding.place.as_str()).collect();
        assert_eq!(places, ["src/lib.rs"]);
    }
}

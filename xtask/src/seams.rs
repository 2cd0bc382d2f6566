//! Which modules of a crate must not name which others. Crates are the business of [`edges`](crate::edges).
//!
//! Files are read as tokens, so comments and strings can name everything.

use std::{fs, path::Path, str::FromStr};

use proc_macro2::{TokenStream, TokenTree};

use crate::{Finding, sources::rust_files};

/// Modules, and what they must not name.
struct Seam {
    /// Their directory.
    below: &'static str,
    /// Files in it that may.
    except: &'static [&'static str],
    names: &'static [&'static str],
    /// Why not.
    because: &'static str,
}

const BEHIND_OPERATIONS: &[&str] = &["rota_core", "rota_engine", "validate", "definition", "wire"];

const SEAMS: &[Seam] = &[
    Seam {
        below: "crates/rota-server/src/rest",
        except: &[],
        names: BEHIND_OPERATIONS,
        because: "what an operation does is written once, in `operations`",
    },
    Seam {
        below: "crates/rota-server/src/grpc",
        // The stream of a worker is no call.
        except: &["work.rs"],
        names: BEHIND_OPERATIONS,
        because: "what an operation does is written once, in `operations`",
    },
];

/// What is wrong in the sources below `root`.
pub(crate) fn check(root: &Path) -> Result<Vec<Finding>, String> {
    let mut findings = Vec::new();
    for seam in SEAMS {
        for path in rust_files(&root.join(seam.below))? {
            if seam.except.iter().any(|file| path.ends_with(file)) {
                continue;
            }
            let shown = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            let text = fs::read_to_string(&path)
                .map_err(|error| format!("{shown} cannot be read: {error}"))?;
            findings.extend(check_file(&shown, &text, seam)?);
        }
    }
    Ok(findings)
}

fn check_file(file: &str, text: &str, seam: &Seam) -> Result<Vec<Finding>, String> {
    let tokens = TokenStream::from_str(text)
        .map_err(|error| format!("{file} cannot be read as Rust: {error}"))?;
    let mut findings = Vec::new();
    walk(tokens, &mut |name, line| {
        if seam.names.contains(&name) {
            let message = format!("names `{name}`: {}", seam.because);
            findings.push(Finding { place: format!("{file}:{line}"), message });
        }
    });
    Ok(findings)
}

fn walk(tokens: TokenStream, found: &mut impl FnMut(&str, usize)) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => walk(group.stream(), found),
            TokenTree::Ident(ident) => found(&ident.to_string(), ident.span().start().line),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_code_alone() {
        let seam = &SEAMS[0];
        let found = |text| {
            let findings = check_file("rest/tasks.rs", text, seam).unwrap();
            findings.into_iter().map(|finding| finding.place).collect::<Vec<_>>()
        };
        assert_eq!(found("//! Not `validate`.\nuse crate::operations;\n"), [""; 0]);
        assert_eq!(
            found("use crate::{\n    validate,\n};\nfn f() { rota_engine::g(\"wire\") }\n"),
            ["rest/tasks.rs:2", "rest/tasks.rs:4"]
        );
    }

    #[test]
    fn the_modules_of_a_seam_are_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for seam in SEAMS {
            let directory = root.join(seam.below);
            assert!(directory.is_dir(), "{}", seam.below);
            assert!(
                seam.except.iter().all(|file| directory.join(file).is_file()),
                "{}",
                seam.below
            );
        }
    }
}

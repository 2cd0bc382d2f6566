//! Circles of modules: files of a crate that name one another, directly or by way of others, cannot be read one by
//! one. Those that stand, with the reason for each, are in `xtask/circles.txt`; [`crate::uses`] finds which file
//! names which.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use crate::{
    Finding,
    uses::{self, Uses},
};

/// The list of circles that stand.
const ALLOWED: &str = "xtask/circles.txt";

/// Files of one crate that may form a circle.
#[derive(Debug, PartialEq, Eq)]
struct Allowed {
    line: usize,
    package: String,
    files: BTreeSet<String>,
}

/// What is wrong in the crates in these directories, each with `src`, below `root`.
pub(crate) fn check(root: &Path, packages: &[&Path]) -> Result<Vec<Finding>, String> {
    let list = fs::read_to_string(root.join(ALLOWED))
        .map_err(|error| format!("{ALLOWED} cannot be read: {error}"))?;
    let (allowed, mut findings) = parse(&list);
    let mut stands = BTreeSet::new();
    for package in packages {
        let name = package.strip_prefix(root).unwrap_or(package).display().to_string();
        let source = package.join("src");
        if !source.is_dir() {
            continue;
        }
        for circle in circles(&uses::of(&source)?) {
            let entry = allowed
                .iter()
                .position(|allowed| allowed.package == name && circle.is_subset(&allowed.files));
            match entry {
                Some(entry) => {
                    stands.extend(circle.into_iter().map(|file| (entry, file)));
                }
                None => findings.push(told(&name, &circle)),
            }
        }
    }
    for (entry, Allowed { line, files, .. }) in allowed.iter().enumerate() {
        let gone: Vec<_> = files
            .iter()
            .filter(|file| !stands.contains(&(entry, (*file).clone())))
            .map(String::as_str)
            .collect();
        if !gone.is_empty() {
            let message = format!("no longer part of a circle, remove: {}", gone.join(" "));
            findings.push(Finding { place: format!("{ALLOWED}:{line}"), message });
        }
    }
    Ok(findings)
}

fn told(package: &str, circle: &BTreeSet<String>) -> Finding {
    let files: Vec<_> = circle.iter().map(String::as_str).collect();
    let message = format!(
        "files in a circle, each names the next directly or by way of others: {}; break it, or give the reason in \
         {ALLOWED}",
        files.join(" ")
    );
    Finding { place: package.to_owned(), message }
}

/// Reads the list: lines `crate: file file`, each below the lines `# reason` that it stands for.
fn parse(list: &str) -> (Vec<Allowed>, Vec<Finding>) {
    let (mut allowed, mut findings) = (Vec::new(), Vec::new());
    let mut has_reason = false;
    for (at, line) in list.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            has_reason = false;
        } else if let Some(reason) = line.strip_prefix('#') {
            has_reason |= !reason.trim().is_empty();
        } else {
            let mut found = |message: &str| {
                let place = format!("{ALLOWED}:{}", at + 1);
                findings.push(Finding { place, message: message.to_owned() });
            };
            let Some((package, files)) = line.split_once(':') else {
                found("must be `crate: file file`");
                continue;
            };
            if !has_reason {
                found("has no reason: write it as `# reason` in the line above");
            }
            let files = files.split_whitespace().map(str::to_owned).collect();
            allowed.push(Allowed { line: at + 1, package: package.trim().to_owned(), files });
        }
    }
    (allowed, findings)
}

/// The files that reach one another, as sets of more than one.
fn circles(uses: &Uses) -> Vec<BTreeSet<String>> {
    let reached: BTreeMap<&String, BTreeSet<&String>> =
        uses.keys().map(|file| (file, reachable(uses, file))).collect();
    let mut circles = BTreeSet::new();
    for (file, reaches) in &reached {
        let circle: BTreeSet<String> = reaches
            .iter()
            .filter(|other| reached.get(**other).is_some_and(|back| back.contains(file)))
            .map(|other| (*other).clone())
            .collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

fn reachable<'a>(uses: &'a Uses, from: &'a String) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(file) = open.pop() {
        for next in uses.get(file).into_iter().flatten() {
            if reached.insert(next) {
                open.push(next);
            }
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(edges: &[(&str, &[&str])]) -> Uses {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        edges.iter().map(|(from, to)| ((*from).to_owned(), owned(to))).collect()
    }

    #[test]
    fn only_files_that_reach_one_another_are_a_circle() {
        let chain = uses(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[])]);
        assert!(circles(&chain).is_empty());
        let both =
            uses(&[("a", &["b"]), ("b", &["c"]), ("c", &["a"]), ("d", &["a", "e"]), ("e", &["d"])]);
        let found: Vec<Vec<_>> =
            circles(&both).into_iter().map(|circle| circle.into_iter().collect()).collect();
        assert_eq!(found, [["a", "b", "c"].to_vec(), ["d", "e"].to_vec()]);
    }

    #[test]
    fn a_circle_that_may_stand_needs_a_reason() {
        let (allowed, findings) =
            parse("# One type.\ncrates/a: x.rs y.rs\n\ncrates/b: z.rs\nwords\n");
        assert_eq!(allowed.len(), 2);
        assert_eq!((allowed[0].package.as_str(), allowed[0].files.len()), ("crates/a", 2));
        let places: Vec<_> = findings.iter().map(|finding| finding.place.as_str()).collect();
        assert_eq!(places, ["xtask/circles.txt:4", "xtask/circles.txt:5"]);
    }

    #[test]
    fn new_circles_and_reasons_without_one_are_found() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("crates/a/src/lib.rs", "mod x;\nmod y;\nmod z;\n");
        write("crates/a/src/x.rs", "use crate::y::Y;\n");
        write("crates/a/src/y.rs", "use crate::x::X;\n");
        write("crates/a/src/z.rs", "use crate::x::X;\n");
        let package = root.path().join("crates/a");
        let findings = |list: &str| {
            write(ALLOWED, list);
            let findings = check(root.path(), &[&package]).unwrap();
            findings.into_iter().map(|finding| finding.to_string()).collect::<Vec<_>>()
        };
        let found = findings("");
        assert!(found.len() == 1 && found[0].contains("x.rs y.rs;"), "{found:?}");
        assert_eq!(findings("# One type.\ncrates/a: x.rs y.rs\n"), [""; 0]);
        let found = findings("# One type.\ncrates/a: x.rs y.rs z.rs\n");
        assert!(found.len() == 1 && found[0].ends_with("remove: z.rs"), "{found:?}");
    }
}

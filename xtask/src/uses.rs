//! Which file of a crate names which other, read from paths: `crate::…`, `super::…`, `self::…`, and those that begin
//! with a module below. What a module passes on (`pub use`) counts for the file that it comes from.
//!
//! Tests are left out, and what a file names of the modules above it: it is part of them, as where the methods of one
//! type are in several files. So a circle is one of files side by side, or of a file and one of another branch.
//!
//! Files are read as tokens. Names that macros make are not seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    str::FromStr,
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::sources::{is_attribute, is_punct, is_test_file, names_test, rust_files};

/// For each file, the others that it names. Files are relative to `src`.
pub(crate) type Uses = BTreeMap<String, BTreeSet<String>>;

/// A module's path from the root of the crate.
type ModulePath = Vec<String>;

/// A file as it was read.
struct Source {
    file: String,
    /// Paths that it names, with the name they get here if they are imported.
    paths: Vec<Named>,
    /// Words of its code outside of imports.
    words: BTreeSet<String>,
}

/// A path that a file names.
struct Named {
    path: ModulePath,
    /// It is imported under this name.
    alias: Option<String>,
    /// It is passed on to other modules.
    is_passed_on: bool,
}

/// Reads the files below `source`.
pub(crate) fn of(source: &Path) -> Result<Uses, String> {
    let mut texts = BTreeMap::new();
    for path in rust_files(source)? {
        let relative = path.strip_prefix(source).unwrap_or(&path);
        if is_test_file(relative) || relative.starts_with("bin") {
            continue;
        }
        let text = fs::read_to_string(&path)
            .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        let file = relative.display().to_string();
        // Beside a library, the program is a crate of its own.
        if file != "main.rs" || !source.join("lib.rs").exists() {
            texts.insert(module_of(&file), (file, text));
        }
    }
    let modules: BTreeSet<ModulePath> = texts.keys().cloned().collect();
    let mut sources = BTreeMap::new();
    for (module, (file, text)) in texts {
        let tokens = TokenStream::from_str(&text)
            .map_err(|error| format!("{file} cannot be read as Rust: {error}"))?;
        let mut source = Source { file, paths: Vec::new(), words: BTreeSet::new() };
        Reader { modules: &modules, source: &mut source }.read(tokens, &module);
        sources.insert(module, source);
    }
    Ok(edges(&sources))
}

/// `a/b.rs` and `a/b/mod.rs` hold the module `a::b`.
fn module_of(file: &str) -> ModulePath {
    let stem = file.trim_end_matches(".rs");
    let stem = stem.strip_suffix("/mod").unwrap_or(stem);
    if matches!(stem, "lib" | "main" | "mod") {
        return Vec::new();
    }
    stem.split('/').map(str::to_owned).collect()
}

fn edges(sources: &BTreeMap<ModulePath, Source>) -> Uses {
    let mut uses = Uses::new();
    for (module, source) in sources {
        let mut named = BTreeSet::new();
        for Named { path, alias, is_passed_on } in &source.paths {
            let is_used = alias.as_ref().is_none_or(|alias| source.words.contains(alias));
            if *is_passed_on && !is_used {
                continue;
            }
            let target = home(sources, path, 8);
            // A file is part of the modules above it, so it may name what they hold.
            if let Some(found) = sources.get(&target).filter(|_| !module.starts_with(&target)) {
                named.insert(found.file.clone());
            }
        }
        uses.insert(source.file.clone(), named);
    }
    uses
}

/// The module that a path comes from, wherever it is passed on. `limit` ends circles of imports.
fn home(sources: &BTreeMap<ModulePath, Source>, path: &[String], limit: usize) -> ModulePath {
    let length = (0..=path.len()).rev().find(|length| sources.contains_key(&path[..*length]));
    let (module, rest) = path.split_at(length.unwrap_or(0));
    let imported = rest.first().and_then(|name| {
        let source = sources.get(module)?;
        source.paths.iter().find(|named| named.alias.as_ref() == Some(name))
    });
    match imported {
        Some(named) if limit > 0 => {
            let further = [&named.path[..], &rest[1..]].concat();
            home(sources, &further, limit - 1)
        }
        _ => module.to_vec(),
    }
}

/// Reads the tokens of one file.
struct Reader<'a> {
    modules: &'a BTreeSet<ModulePath>,
    source: &'a mut Source,
}

impl Reader<'_> {
    /// `module` is where the tokens stand: a file can hold modules.
    fn read(&mut self, tokens: TokenStream, module: &[String]) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let (mut at, mut is_passed_on) = (0, false);
        while let Some(token) = tokens.get(at) {
            at = match token {
                TokenTree::Group(group) if is_attribute(&tokens, at) => {
                    if names_test(group) {
                        behind_item(&tokens, at + 1)
                    } else {
                        at + 1
                    }
                }
                // What stands between `pub` and `use` says how far it is passed on.
                TokenTree::Group(group) if is_passed_on => {
                    is_passed_on = group.delimiter() == Delimiter::Parenthesis;
                    at += 1;
                    continue;
                }
                TokenTree::Group(group) => {
                    self.read(group.stream(), module);
                    at + 1
                }
                TokenTree::Ident(ident) if ident == "pub" => {
                    is_passed_on = true;
                    at += 1;
                    continue;
                }
                TokenTree::Ident(ident) if ident == "use" => {
                    let length = tokens[at..].iter().position(|token| is_punct(token, ';'));
                    let end = length.map_or(tokens.len(), |length| at + length);
                    self.import(&tokens[at + 1..end], module, &[], is_passed_on);
                    end + 1
                }
                TokenTree::Ident(ident) if ident == "mod" => self.inner(&tokens, at, module),
                TokenTree::Ident(_) => self.path(&tokens, at, module),
                TokenTree::Punct(_) | TokenTree::Literal(_) => at + 1,
            };
            is_passed_on = false;
        }
    }

    /// A module within the file, or one of another file.
    fn inner(&mut self, tokens: &[TokenTree], at: usize, module: &[String]) -> usize {
        let (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) =
            (tokens.get(at + 1), tokens.get(at + 2))
        else {
            return at + 1;
        };
        self.read(body.stream(), &[module, &[name.to_string()]].concat());
        at + 3
    }

    /// A word, or a path of several. Gives where it ends.
    fn path(&mut self, tokens: &[TokenTree], at: usize, module: &[String]) -> usize {
        let (path, end) = path_from(tokens, at);
        self.source.words.extend(path.first().cloned());
        let is_of_a_macro = at > 0 && is_punct(&tokens[at - 1], '$');
        if path.len() > 1 && !is_of_a_macro {
            self.name(module, &path, None, false);
        }
        end
    }

    /// The paths of an import: `a::{b, c as d}`. `above` stands before the braces.
    fn import(
        &mut self,
        tokens: &[TokenTree],
        module: &[String],
        above: &[String],
        is_passed_on: bool,
    ) {
        for tree in tokens.split(|token| is_punct(token, ',')) {
            let (path, end) = path_from(tree, 0);
            let path = [above, &path].concat();
            match tree.get(end) {
                Some(TokenTree::Group(group)) => {
                    let inside: Vec<_> = group.stream().into_iter().collect();
                    self.import(&inside, module, &path, is_passed_on);
                }
                Some(TokenTree::Ident(_)) => {
                    // `as`
                    let alias = tree.get(end + 1).map(ToString::to_string);
                    self.name(module, &path, alias, is_passed_on);
                }
                _ => {
                    let (last, before) = match path.split_last() {
                        Some((last, before)) if last == "self" && !before.is_empty() => {
                            (before.last(), before)
                        }
                        Some((last, _)) => (Some(last), &path[..]),
                        None => continue,
                    };
                    let is_glob = tree.last().is_some_and(|token| is_punct(token, '*'));
                    let alias = last.cloned().filter(|_| !is_glob);
                    self.name(module, before, alias, is_passed_on);
                }
            }
        }
    }

    /// Notes a path, if it is one of this crate.
    fn name(&mut self, module: &[String], path: &[String], alias: Option<String>, passed: bool) {
        let mut from = module.to_vec();
        let mut rest = path;
        match rest.first().map(String::as_str) {
            Some("crate") => {
                from.clear();
                rest = &rest[1..];
            }
            Some("self") => rest = &rest[1..],
            Some("super") => {
                while let Some((_, further)) =
                    rest.split_first().filter(|(first, _)| *first == "super")
                {
                    from.pop();
                    rest = further;
                }
            }
            Some(first) => {
                let below = [module, &[first.to_owned()]].concat();
                if !self.modules.contains(&below) {
                    return;
                }
            }
            None => return,
        }
        let path = [&from[..], rest].concat();
        self.source.paths.push(Named { path, alias, is_passed_on: passed });
    }
}

/// The names of a path, and where it ends.
fn path_from(tokens: &[TokenTree], mut at: usize) -> (Vec<String>, usize) {
    let mut path = Vec::new();
    while let Some(TokenTree::Ident(ident)) = tokens.get(at) {
        path.push(ident.to_string());
        at += 1;
        let is_joined = tokens.get(at).is_some_and(|token| is_punct(token, ':'))
            && tokens.get(at + 1).is_some_and(|token| is_punct(token, ':'));
        if !is_joined {
            return (path, at);
        }
        at += 2;
    }
    (path, at)
}

/// Where the item ends whose attribute is before `at`.
fn behind_item(tokens: &[TokenTree], at: usize) -> usize {
    let ends = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        token => is_punct(token, ';'),
    };
    tokens[at..].iter().position(ends).map_or(tokens.len(), |length| at + length + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(files: &[(&str, &str)]) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let named = of(root.path()).unwrap().into_iter();
        named
            .flat_map(|(from, to)| to.into_iter().map(move |to| format!("{from} > {to}")))
            .collect()
    }

    #[test]
    fn paths_of_all_forms_are_found() {
        let found = uses(&[
            ("lib.rs", "mod a;\nmod b;\npub use a::A;\n"),
            ("a.rs", "mod inner;\nfn a(it: crate::b::B) { inner::f(); std::fmt::f() }\n"),
            ("a/inner.rs", "use super::super::b::{self, B};\n"),
            ("b.rs", "mod own { use super::super::a::inner::C; }\n// crate::a::A\n"),
        ]);
        assert_eq!(
            found,
            ["a.rs > a/inner.rs", "a.rs > b.rs", "a/inner.rs > b.rs", "b.rs > a/inner.rs"]
        );
    }

    #[test]
    fn what_a_module_passes_on_counts_for_where_it_comes_from() {
        let found = uses(&[
            ("m/mod.rs", "mod a;\nmod b;\npub(crate) use self::a::{A, Z as Y};\nuse b::B;\n"),
            ("m/a.rs", "use super::B;\n"),
            ("m/b.rs", "use super::Own;\n"),
            ("lib.rs", "mod m;\nmod x;\npub use m::A;\nfn f(a: A) {}\n"),
            ("x.rs", "use crate::{A, m::Y};\n"),
        ]);
        assert_eq!(
            found,
            ["lib.rs > m/a.rs", "m/a.rs > m/b.rs", "m/mod.rs > m/b.rs", "x.rs > m/a.rs"]
        );
    }

    #[test]
    fn tests_count_for_nothing() {
        let found = uses(&[
            ("lib.rs", "mod a;\nmod b;\n"),
            (
                "a.rs",
                "#[cfg(test)]\nmod tests { use crate::b::B; }\n#[test]\nfn f() { crate::b::g() }\n",
            ),
            ("b.rs", "#[cfg(not(test))]\nuse crate::a::A;\n"),
            ("b/tests.rs", "use crate::a::A;\n"),
        ]);
        assert_eq!(found, ["b.rs > a.rs"]);
    }
}

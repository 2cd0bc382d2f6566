//! The file of contexts: where it is, how it is read and written, and which context is in force.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    config::{self, By, Context},
    exit::{Exit, Failure},
};

/// The variable that names the context.
pub(crate) const VARIABLE: &str = "ROTA_CONTEXT";

/// The contents of the file.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Contexts {
    /// The context of commands that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) current: Option<String>,
    /// Settings of the client, by the name of the context.
    #[serde(default)]
    pub(super) contexts: BTreeMap<String, BTreeMap<String, String>>,
}

/// The settings that a context can have.
pub(super) fn keys() -> impl Iterator<Item = &'static config::Key> {
    config::keys().filter(|key| config::CLIENT.contains(&key.scope) && !key.secret)
}

/// Chooses the context of a command: that of the flag, the variable or `rota context use`.
///
/// # Errors
/// When the named context does not exist, or the file cannot be read.
pub(crate) fn choose(flag: Option<&str>) -> Result<Option<Context>, Failure> {
    let variable = std::env::var(VARIABLE).ok().filter(|name| !name.is_empty());
    let path = path();
    let known = match &path {
        Some(path) => read(path)?,
        None => Contexts::default(),
    };
    chosen(flag, variable.as_deref(), known)
}

fn chosen(
    flag: Option<&str>,
    variable: Option<&str>,
    known: Contexts,
) -> Result<Option<Context>, Failure> {
    let Contexts { current, mut contexts } = known;
    let (name, by) = match (flag, variable, current) {
        (Some(name), ..) => (name.to_owned(), By::Flag),
        (None, Some(name), _) => (name.to_owned(), By::Variable),
        (None, None, Some(name)) => (name, By::File),
        (None, None, None) => return Ok(None),
    };
    match contexts.remove(&name) {
        Some(settings) => Ok(Some(Context { name, by, settings })),
        None => Err(unknown(&name, contexts.keys())),
    }
}

/// The error for a context that does not exist.
pub(super) fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> Failure {
    let known: Vec<_> = known.map(String::as_str).collect();
    let hint = if known.is_empty() {
        "there is no context yet; add one with `rota context add NAME --url URL`".to_owned()
    } else {
        format!("the contexts are {}", known.join(", "))
    };
    Failure::new(Exit::NotFound, format!("no such context: {name}")).hint(hint)
}

/// The names of the contexts, for completion. Empty if the file cannot be read.
pub(crate) fn names() -> Vec<String> {
    let known = path().and_then(|path| read(&path).ok()).unwrap_or_default();
    known.contexts.into_keys().collect()
}

/// The path of the file: `rota/contexts.toml` in the configuration directory of the user.
pub(super) fn path() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    // The specification says that a relative path counts as absent.
    let xdg = variable("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let base = xdg.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".config")))?;
    Some(base.join("rota").join("contexts.toml"))
}

/// Reads the file. A missing one has no contexts.
pub(super) fn read(path: &Path) -> Result<Contexts, Failure> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Contexts::default()),
        text => text.map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?,
    };
    parse(&text).map_err(|why| Failure::usage(format!("{}: {why}", path.display())))
}

fn parse(text: &str) -> Result<Contexts, String> {
    let known: Contexts = toml::from_str(text).map_err(|error| error.to_string())?;
    for (name, settings) in &known.contexts {
        if let Some(key) = settings.keys().find(|key| !keys().any(|known| known.name == **key)) {
            return Err(if key == "token" {
                format!("context {name}: a token cannot be in this file; use token_file")
            } else {
                format!("context {name}: unknown key {key}")
            });
        }
    }
    Ok(known)
}

/// Replaces the file. Only its owner can read it.
pub(super) fn write(path: &Path, contexts: &Contexts) -> Result<(), Failure> {
    let named = |error: io::Error| Failure::failed(format!("{}: {error}", path.display()));
    let text = toml::to_string(contexts).map_err(Failure::failed)?;
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir).map_err(named)?;
    // A new file with a rename, so that an interruption leaves the old one.
    let new = dir.join(format!(".contexts.toml.{}", std::process::id()));
    let written = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&new, path));
    written.map_err(|error| {
        // It may not exist.
        let _ = fs::remove_file(&new);
        named(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str =
        "current = \"a\"\n[contexts.a]\nurl = \"http://a:1\"\n[contexts.b]\nurl = \"http://b:1\"\n";

    #[test]
    fn the_flag_goes_over_the_variable_over_the_choice_in_the_file() {
        let known = || parse(FILE).expect("a sound file");
        let name = |flag, variable| {
            chosen(flag, variable, known()).expect("known").map(|chosen| (chosen.name, chosen.by))
        };
        assert_eq!(name(None, None), Some(("a".to_owned(), By::File)));
        assert_eq!(name(None, Some("b")), Some(("b".to_owned(), By::Variable)));
        assert_eq!(name(Some("a"), Some("b")), Some(("a".to_owned(), By::Flag)));
        assert!(chosen(None, None, Contexts::default()).expect("none").is_none());
        let refused = chosen(Some("c"), None, known()).expect_err("it does not exist");
        assert_eq!(refused.exit, Exit::NotFound);
    }

    #[test]
    fn a_secret_and_an_unknown_key_are_refused() {
        let told = parse("[contexts.a]\ntoken = \"x\"\n").expect_err("a secret");
        assert!(told.contains("use token_file"), "{told}");
        let told = parse("[contexts.a]\nqueue = \"x\"\n").expect_err("no setting of a client");
        assert!(told.contains("unknown key queue"), "{told}");
    }

    #[test]
    fn only_the_owner_can_read_the_file() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("new/contexts.toml");
        let contexts = parse(FILE).expect("a sound file");
        for _ in 0..2 {
            write(&path, &contexts).expect("written");
            let mode = fs::metadata(&path).expect("it exists").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            assert_eq!(read(&path).expect("it can be read"), contexts);
        }
    }
}

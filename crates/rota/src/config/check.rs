//! Checks the effective values against the allowed ones, before anything uses them.

use std::{
    ffi::OsString,
    net::{IpAddr, SocketAddr},
};

use rota_core::Name;
use rota_proto::TimeSpan;
use rota_server::{TRACE_ID, Tokens};

use super::{Key, Scope, Settings, Source, Takes, file::nearest, table::keys, variable_of};
use crate::{exit::Failure, guard};

/// Known variables that are not settings: of the command line, and those set for programs of tasks.
const NO_SETTINGS: [&str; 8] = [
    "ROTA_CONFIG",
    "ROTA_CONTEXT",
    "ROTA_TASK_ID",
    "ROTA_QUEUE",
    "ROTA_KIND",
    "ROTA_ATTEMPT",
    "ROTA_LEASE_TOKEN",
    guard::HANDED_OVER,
];
/// Prefixes of variables for tests, measurements and scripts.
const TOOLS: [&str; 5] = [
    "ROTA_TEST_",
    "ROTA_FAIL_POINT",
    "ROTA_STALL_FILE",
    "ROTA_METRICS_OFF",
    "ROTA_CLUSTER_PROCESS",
];

/// Checks the keys of these scopes.
///
/// # Errors
/// When a value is not allowed. The message names each such key, its source and the allowed values.
pub(crate) fn check(settings: &Settings, scopes: &[Scope]) -> Result<(), Failure> {
    let checked = keys().filter(|key| scopes.contains(&key.scope));
    let mut wrong: Vec<String> = checked.filter_map(|key| problem(settings, key)).collect();
    if scopes.contains(&Scope::Worker) && settings.text("allow_command") == "false" {
        let set = COMMAND_KEYS.iter().filter(|key| *settings.source(key) != Source::Default);
        wrong.extend(set.map(|key| {
            format!(
                "{key} ({}) has no effect without allow_command; add --allow-command to run programs",
                settings.source(key)
            )
        }));
    }
    if wrong.is_empty() { Ok(()) } else { Err(Failure::usage(wrong.join("\n"))) }
}

/// Settings for running programs.
const COMMAND_KEYS: [&str; 3] = ["allowed_programs", "allowed_env", "command_user"];

/// Lists that mean "all" when they are not set, and what to do instead of setting them to empty. An empty
/// list is refused, because it may come from a variable that lost its value.
const NEVER_EMPTY: [(&str, &str); 4] = [
    ("allowed_programs", "name programs, or unset it to allow all of them"),
    ("queues", "name queues, or unset it to serve all of them"),
    ("api_tokens", "set a token, or unset it to serve without any"),
    ("metrics_tokens", "set a token, or unset it"),
];

/// The scheme and the host of a URL, as browsers write an origin. `None` if it is not the URL of a page.
pub(crate) fn origin(url: &str) -> Option<String> {
    let url = url::Url::parse(url).ok()?;
    let is_page = matches!(url.scheme(), "http" | "https") && url.username().is_empty();
    (is_page && url.has_host()).then(|| url.origin().ascii_serialization())
}

/// What is wrong with the elements of a list.
fn wrong_part(settings: &Settings, key: &str) -> Option<String> {
    let parts = settings.list(key);
    let empty = NEVER_EMPTY.iter().find(|(name, _)| *name == key && parts.is_empty());
    if let Some((_, instead)) = empty {
        return Some(format!("the list is empty; {instead}"));
    }
    let no_program = |part: &&String| part.contains('/') && !part.starts_with('/');
    let no_variable =
        |part: &&String| !part.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'=');
    let no_host = |part: &&String| {
        let is_address = part.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        !is_address && part.contains(['/', ':', '@', ' '])
    };
    match key {
        "public_url" => {
            let text = settings.text(key);
            let needed = "must be a URL with http:// or https:// and a host, such as https://rota.example.com";
            (!text.is_empty() && origin(text).is_none()).then(|| format!("{text:?} {needed}"))
        }
        "trace_url" => {
            let text = settings.text(key);
            let is_url = origin(&text.replace(TRACE_ID, "0")).is_some();
            let needed = "must be a URL with http:// or https:// and a host, with {trace_id} in the place of the id of \
                          the trace, such as https://tempo.example.com/trace/{trace_id}";
            let is_good = text.is_empty() || (is_url && text.contains(TRACE_ID));
            (!is_good).then(|| format!("{text:?} {needed}"))
        }
        "allowed_programs" => parts
            .iter()
            .find(no_program)
            .map(|part| format!("{part:?} must be the name of a program or its absolute path")),
        "http_allowed_hosts" => parts.iter().find(no_host).map(|part| {
            format!("{part:?} must be a host name or address, without scheme, port and path")
        }),
        "allowed_env" => parts
            .iter()
            .find(no_variable)
            .map(|part| format!("{part:?} is not the name of a variable")),
        _ => None,
    }
}

/// What is wrong with a value: key, source and reason.
fn problem(settings: &Settings, key: &Key) -> Option<String> {
    let text = settings.text(key.name);
    let source = settings.source(key.name);
    if *source != Source::Default
        && let Some(wrong) = wrong_part(settings, key.name)
    {
        return Some(format!("{} ({source}): {wrong}", key.name));
    }
    if key.secret {
        let tokens = matches!(key.name, "api_tokens" | "metrics_tokens");
        let weak = Tokens::new(settings.list(key.name)).err().filter(|_| tokens)?;
        return Some(format!("{} ({source}): {weak}", key.name));
    }
    let is_default = *source == Source::Default;
    let wanted = (!is_default).then(|| wanted(key.takes, text))??;
    Some(format!("{} = {text:?} ({source}): {wanted}", key.name))
}

/// The allowed values, if the text is not one.
fn wanted(takes: Takes, text: &str) -> Option<String> {
    match takes {
        Takes::Text => None,
        Takes::Names => {
            let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
            names.filter_map(|name| Name::check(name).err()).next().map(|error| error.to_string())
        }
        Takes::OneOf(words) => {
            let (last, others) = words.split_last()?;
            let others = others.join(", ");
            (!words.contains(&text)).then(|| format!("must be {others} or {last}"))
        }
        Takes::Address => {
            let is_one = text.is_empty() || text.parse::<SocketAddr>().is_ok();
            (!is_one).then(|| "must be an address and a port, such as 127.0.0.1:7420".to_owned())
        }
        Takes::Number(least, most) => {
            let number = text.parse::<u64>().ok();
            let is_one = number.is_some_and(|number| (least..=most).contains(&number));
            (!is_one).then(|| format!("must be a whole number from {least} to {most}"))
        }
        Takes::Time(least, most) => {
            let range = format!("must be a duration from {least} to {most}");
            match (text.parse::<TimeSpan>(), least.parse::<TimeSpan>(), most.parse::<TimeSpan>()) {
                (Ok(time), Ok(first), Ok(last)) if first <= time && time <= last => None,
                (Err(error), ..) => Some(format!("{error}; the value {range}")),
                _ => Some(range),
            }
        }
    }
}

/// Checks that every `ROTA_*` variable is UTF-8. An unreadable setting must not count as absent: a server
/// would serve without its tokens, and a worker would run every program.
///
/// # Errors
/// When one is not UTF-8. The message names all of them, without values, which may be secrets.
pub(crate) fn check_variables(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(), Failure> {
    let wrong: Vec<String> = variables
        .into_iter()
        .filter(|(name, _)| name.as_encoded_bytes().starts_with(b"ROTA_"))
        // A path can have any bytes.
        .filter(|(name, _)| name != "ROTA_CONFIG")
        .filter_map(|(name, value)| match (name.to_str(), value.to_str()) {
            (Some(_), Some(_)) => None,
            (Some(name), None) => Some(format!("the value of the variable {name} is not UTF-8")),
            (None, _) => Some(format!("the name of the variable {name:?} is not UTF-8")),
        })
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Failure::usage(wrong.join("\n")).hint("set it to text in UTF-8, or unset it"))
}

/// Warnings for `ROTA_*` variables that are not settings.
pub(crate) fn unknown_variables(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let is_known = |name: &str| {
        NO_SETTINGS.contains(&name)
            || TOOLS.iter().any(|tool| name.starts_with(tool))
            || keys().any(|key| {
                key.variable() == name
                    || key.formerly.is_some_and(|former| variable_of(former) == name)
            })
    };
    let names = names.into_iter().filter(|name| name.starts_with("ROTA_") && !is_known(name));
    let said = |name: String| {
        let key = name.trim_start_matches("ROTA_").to_lowercase();
        // The first underscore may stand for the dot after a table.
        let near = nearest(&key).or_else(|| nearest(&key.replacen('_', ".", 1)));
        let near = keys().find(|key| Some(key.name) == near).map(Key::variable);
        let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        format!("the variable {name} is not a setting{near}")
    };
    names.map(said).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigFile, flags};

    #[test]
    fn defaults_are_allowed() {
        for key in keys().filter(|key| !key.default().is_empty()) {
            assert_eq!(wanted(key.takes, &key.default()), None, "{}", key.name);
        }
    }

    #[test]
    fn what_is_not_allowed_is_told_what_is() {
        let number = Takes::Number(1, 9);
        for text in ["0", "10", "-1", "", "many", "1.5", "99999999999999999999"] {
            let told = wanted(number, text);
            assert_eq!(told.as_deref(), Some("must be a whole number from 1 to 9"), "{text}");
        }
        let time = Takes::Time("1s", "1h");
        assert_eq!(wanted(time, "1h"), None);
        for text in ["500ms", "2h", "5", "soon", "-5s"] {
            let told = wanted(time, text).expect(text);
            assert!(told.ends_with("must be a duration from 1s to 1h"), "{told}");
        }
        assert!(wanted(time, "5").is_some_and(|told| told.contains("use \"5s\"")));
        assert!(
            wanted(Takes::OneOf(&["a", "b"]), "c").is_some_and(|told| told == "must be a or b")
        );
        assert!(
            wanted(Takes::Address, "nowhere").is_some() && wanted(Takes::Address, "").is_none()
        );
        assert!(wanted(Takes::Names, "a,b c").is_some() && wanted(Takes::Names, "a, b").is_none());
    }

    #[test]
    fn the_address_of_a_trace_holds_its_id() {
        let command = clap::Command::new("rota").args(flags(&[Scope::Server]));
        let wrong = |url: &str| {
            let matches = command.clone().get_matches_from(["rota", "--trace-url", url]);
            let settings = Settings::resolve(&matches, |_| None, None, &ConfigFile::default());
            wrong_part(&settings.expect("no contradiction"), "trace_url")
        };
        for good in ["https://tempo.example.com/trace/{trace_id}", "http://x:3000/?q={trace_id}"] {
            assert_eq!(wrong(good), None, "{good}");
        }
        for bad in ["https://tempo.example.com/trace", "javascript:alert({trace_id})", "{trace_id}"]
        {
            assert!(wrong(bad).is_some_and(|told| told.contains("{trace_id}")), "{bad}");
        }
    }

    #[test]
    fn a_variable_that_is_not_utf_8_is_named_and_its_value_is_not_shown() {
        use std::os::unix::ffi::OsStringExt;
        let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let check = |name: &[u8], value: &[u8]| check_variables([(text(name), text(value))]);
        assert!(check(b"ROTA_TOKEN", b"a token").is_ok());
        assert!(check(b"ROTA_CONFIG", b"/etc/r\xff.toml").is_ok());
        assert!(check(b"OTHER", b"\xff").is_ok());
        let error = check(b"ROTA_API_TOKENS", b"secret\xff").expect_err("not UTF-8").to_string();
        assert!(error.contains("ROTA_API_TOKENS is not UTF-8"), "{error}");
        assert!(!error.contains("secret"), "{error}");
        let error = check(b"ROTA_\xff", b"x").expect_err("not UTF-8").to_string();
        assert!(error.contains("ROTA_\\xFF"), "{error}");
    }

    #[test]
    fn variables_that_are_no_settings_are_told() {
        let names =
            ["ROTA_LIMITS_BATHC", "ROTA_SLOTS", "ROTA_TEST_SEED", "HOME", "ROTA_XYZZYXYZZY"];
        let told = unknown_variables(names.map(str::to_owned));
        assert_eq!(
            told,
            [
                "the variable ROTA_LIMITS_BATHC is not a setting; did you mean ROTA_LIMITS_BATCH?",
                "the variable ROTA_XYZZYXYZZY is not a setting",
            ]
        );
    }
}

//! Settings in the query of the store's URL: `etcd://HOST/PREFIX?quota_bytes=8589934592` sets
//! `store.etcd.quota_bytes`.

use std::collections::BTreeMap;

use super::{Source, table::keys};
use crate::exit::Failure;

/// Values by key, with their sources.
type Values = BTreeMap<&'static str, (String, Source)>;

/// The table of settings for the store at that URL, if Rota knows it.
pub(crate) fn table_of(url: &str) -> Option<&'static str> {
    let (scheme, _) = url.split_once(':')?;
    Some(match scheme {
        "file" => "embedded",
        "etcd" => "etcd",
        "redis" | "rediss" | "redis+sentinel" | "rediss+sentinel" => "redis",
        "consul" => "consul",
        _ => return None,
    })
}

/// What a setting in the query does to one that has another value elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Query {
    /// It contradicts it.
    Contradicts,
    /// It goes over it, because the command names several stores.
    Overrides,
}

/// Moves the settings from the query of the store's URL to their keys.
///
/// # Errors
/// When the query names a key that the store does not have, a secret, or a key that has another value elsewhere.
pub(super) fn take_query(values: &mut Values, query: Query) -> Result<(), Failure> {
    let overrides = query == Query::Overrides;
    let Some((url, source)) = values.get("store").cloned() else { return Ok(()) };
    let Some((address, query)) = url.split_once('?') else { return Ok(()) };
    let Some(table) = table_of(address) else { return Ok(()) };
    let wrong = |why: String| Failure::usage(format!("the URL in store ({source}): {why}"));
    for (field, text) in form_urlencoded::parse(query.as_bytes()) {
        let name = format!("store.{table}.{field}");
        let Some(key) = keys().find(|key| key.name == name) else {
            let known = keys().filter_map(|key| {
                key.name.strip_prefix(&format!("store.{table}.")).filter(|_| !key.secret)
            });
            let known: Vec<&str> = known.collect();
            return Err(wrong(format!("there is no setting {field:?}; use {}", known.join(", "))));
        };
        if key.secret {
            return Err(wrong(format!("{field} must not be in it, because URLs are shown")).hint(
                format!("set the variable {}, or {field}_file to a file with it", key.variable()),
            ));
        }
        if let Some((given, place)) = values.get(key.name)
            && *place != Source::Default
            && *given != text
            && !overrides
        {
            let twice = format!("{field}={text} contradicts {name} = {given:?} ({place})");
            return Err(wrong(twice).hint("remove one of them"));
        }
        values.insert(key.name, (text.into_owned(), Source::StoreUrl));
    }
    values.insert("store", (address.to_owned(), source));
    Ok(())
}

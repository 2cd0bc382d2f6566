//! Whether a server is set up as the law of the store needs it: asked on each new connection, and whenever somebody wants
//! to know how the store is.

use std::collections::HashMap;

use redis::{Value, aio::MultiplexedConnection};

use super::{
    answer,
    fault::Fault,
    options::{RedisDurability, RedisOptions},
};

/// The oldest version with scripts that declare what they do.
const VERSION_MIN: (u32, u32) = (7, 0);
/// The first version with `WAITAOF`.
const WAITAOF: (u32, u32) = (7, 2);

const SETTINGS: [&str; 3] = ["appendonly", "appendfsync", "no-appendfsync-on-rewrite"];

/// What a server says of itself.
#[derive(Debug, Default)]
pub(super) struct Inspection {
    info: HashMap<String, String>,
    /// The settings that decide about durability; `None` where the user may not see them.
    settings: Option<HashMap<String, String>>,
}

/// Asks a server.
pub(super) async fn inspect(connection: &mut MultiplexedConnection) -> Result<Inspection, Fault> {
    let info: Value = redis::cmd("INFO").query_async(connection).await?;
    let info = answer::text(info)?;
    let info = info.lines().filter_map(|line| line.trim_end().split_once(':'));
    let info = info.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let mut question = redis::cmd("CONFIG");
    question.arg("GET").arg(&SETTINGS[..]);
    let settings = match question.query_async::<Value>(connection).await {
        Ok(told) => {
            let told = answer::pairs(told)?.into_iter();
            Some(
                told.map(|(name, value)| Ok((name, answer::text(value)?)))
                    .collect::<Result<_, Fault>>()?,
            )
        }
        // An error without a code is not the server's: the connection broke.
        Err(error) => match (error.code().is_some(), Fault::from(error)) {
            // Not allowed to this user, or renamed away as some hosted servers do.
            (true, Fault::Forbidden(_) | Fault::Unknown(_)) => None,
            (_, fault) => return Err(fault),
        },
    };
    Ok(Inspection { info, settings })
}

impl Inspection {
    fn text(&self, name: &str) -> &str {
        self.info.get(name).map_or("", String::as_str)
    }

    fn number(&self, name: &str) -> u64 {
        self.text(name).parse().unwrap_or(0)
    }

    fn version(&self) -> (u32, u32) {
        let mut parts = self.text("redis_version").split('.').map(|part| part.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    }

    pub(super) fn has_waitaof(&self) -> bool {
        self.version() >= WAITAOF
    }

    /// The random id of this run of the server.
    pub(super) fn run(&self) -> &str {
        self.text("run_id")
    }

    /// Whether the server goes on with an append-only file that it had when it started, and that is not empty.
    pub(super) fn may_have_torn_file(&self) -> bool {
        let is_new = self.text("aof_last_rewrite_time_sec") != "-1"
            || self.number("aof_rewrite_in_progress") != 0
            || self.number("aof_rewrite_scheduled") != 0
            || self.number("aof_current_size") == self.number("aof_base_size");
        self.number("aof_enabled") != 0 && !is_new
    }

    pub(super) fn bytes_used(&self) -> u64 {
        self.number("used_memory")
    }

    /// What `maxmemory` allows; `None` without a limit.
    pub(super) fn bytes_max(&self) -> Option<u64> {
        Some(self.number("maxmemory")).filter(|bytes| *bytes > 0)
    }

    /// Refuses a server that cannot take requests now.
    pub(super) fn check_role(&self) -> Result<(), Fault> {
        if self.number("loading") != 0 {
            Err(Fault::Refused("Redis is loading its data".to_owned()))
        } else if self.text("role") != "master" {
            Err(Fault::Elsewhere("the server is a replica, not the master".to_owned()))
        } else {
            Ok(())
        }
    }

    /// Why the server must not be used as it is set up.
    pub(super) fn unfit(&self, options: &RedisOptions) -> Option<String> {
        let (major, minor) = self.version();
        if (major, minor) < VERSION_MIN {
            return Some(format!("Redis {major}.{minor} is too old; use 7.0 or later"));
        }
        if self.number("cluster_enabled") != 0 {
            return Some(
                "Redis runs in cluster mode, which Rota does not support: there it could not notice a failover that \
                 loses acknowledged changes; use a server with cluster-enabled no, alone or with Sentinel"
                    .to_owned(),
            );
        }
        let policy = self.text("maxmemory_policy");
        if policy != "noeviction" {
            return Some(format!(
                "Redis deletes data when its memory is full (maxmemory-policy {policy}); set it to noeviction"
            ));
        }
        if options.durability == RedisDurability::Async {
            return None;
        }
        let Some(settings) = &self.settings else {
            return Some(
                "Redis does not tell how durable it is: allow the user CONFIG GET, or accept the loss of the last \
                 batches in a crash with durability = \"async\""
                    .to_owned(),
            );
        };
        let wanted =
            [("appendonly", "yes"), ("appendfsync", "always"), ("no-appendfsync-on-rewrite", "no")];
        let wrong = wanted
            .iter()
            .filter(|(name, value)| settings.get(*name).is_none_or(|found| found != value));
        let wrong: Vec<String> = wrong.map(|(name, value)| format!("{name} {value}")).collect();
        (!wrong.is_empty()).then(|| {
            format!(
                "Redis acknowledges before data is on the disk: set {} (CONFIG SET and the configuration file), or \
                 accept the loss of the last batches in a crash with durability = \"async\"",
                wrong.join(", ")
            )
        })
    }

    /// What the operator accepted instead of the whole law.
    pub(super) fn weakness(&self, options: &RedisOptions) -> Option<String> {
        if options.durability == RedisDurability::Always {
            return None;
        }
        let mode = self.settings.as_ref().map(|settings| {
            let of = |name: &str| settings.get(name).cloned().unwrap_or_default();
            format!(" (appendonly {}, appendfsync {})", of("appendonly"), of("appendfsync"))
        });
        Some(format!(
            "durability is async{}: a crash of Redis can lose acknowledged batches",
            mode.unwrap_or_default()
        ))
    }

    /// Why the server takes no writes now.
    pub(super) fn problem(&self, options: &RedisOptions) -> Option<String> {
        if let Some(unfit) = self.unfit(options) {
            return Some(unfit);
        }
        if let Err(fault) = self.check_role() {
            return Some(fault.reason());
        }
        if self.text("aof_last_write_status") == "err" {
            return Some(
                "Redis cannot write its append-only file; look at its disk and its log".to_owned(),
            );
        }
        let (used, max) = (self.bytes_used(), self.bytes_max()?);
        (used >= max).then(|| format!("Redis is full: {used} of {max} bytes of maxmemory are used"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::options::RedisServers;

    fn server(version: &str, policy: &str, settings: Option<[&str; 3]>) -> Inspection {
        let info = [("redis_version", version), ("maxmemory_policy", policy), ("role", "master")];
        let owned = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
        };
        let settings = settings
            .map(|values| owned(&std::array::from_fn::<_, 3, _>(|i| (SETTINGS[i], values[i]))));
        Inspection { info: owned(&info), settings }
    }

    #[test]
    fn a_server_that_keeps_less_is_refused_unless_that_is_accepted() {
        let strict = RedisOptions::new(RedisServers::Single("a:1".to_owned()));
        let loose = RedisOptions { durability: RedisDurability::Async, ..strict.clone() };
        let good = Some(["yes", "always", "no"]);
        for (inspection, word, even_if_accepted) in [
            (server("7.0.15", "noeviction", good), "", false),
            (server("6.2.6", "noeviction", good), "too old", true),
            (server("7.2.4", "allkeys-lru", good), "noeviction", true),
            (server("7.0.15", "noeviction", None), "CONFIG GET", false),
            (server("7.0.15", "noeviction", Some(["no", "always", "no"])), "appendonly yes", false),
            (
                server("7.0.15", "noeviction", Some(["yes", "everysec", "no"])),
                "appendfsync always",
                false,
            ),
            (
                server("7.0.15", "noeviction", Some(["yes", "always", "yes"])),
                "on-rewrite no",
                false,
            ),
        ] {
            let refused = inspection.unfit(&strict).unwrap_or_default();
            assert!(refused.contains(word) && refused.is_empty() == word.is_empty(), "{refused}");
            assert_eq!(inspection.unfit(&loose).is_some(), even_if_accepted, "{refused}");
            assert!(
                inspection.weakness(&loose).is_some() && inspection.weakness(&strict).is_none()
            );
        }
    }
}

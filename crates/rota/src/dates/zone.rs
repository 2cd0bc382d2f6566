//! The time zone of the user and of the host.

use std::sync::OnceLock;

use rota_cron::Zone;

/// The time zone of the user: that of the variable `TZ`, else that of the host, else UTC.
pub(crate) fn local_zone() -> &'static Zone {
    static ZONE: OnceLock<Zone> = OnceLock::new();
    ZONE.get_or_init(|| {
        let named = std::env::var("TZ").ok().filter(|name| !name.is_empty());
        let named = named.and_then(|name| Zone::find(name.trim_start_matches(':')).ok());
        named.or_else(zone_of_host).unwrap_or_else(Zone::utc)
    })
}

/// The time zone of the host. None if it has no name that is known.
pub(crate) fn zone_of_host() -> Option<Zone> {
    // The target of the link, such as /usr/share/zoneinfo/Europe/Berlin.
    let Ok(target) = std::fs::canonicalize("/etc/localtime") else { return Some(Zone::utc()) };
    let target = target.to_string_lossy().into_owned();
    let (_, name) = target.split_once("/zoneinfo/")?;
    Zone::find(name).ok()
}

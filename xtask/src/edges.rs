//! Which room may depend on which, and which crates from elsewhere have a single place.
//!
//! The tables below are the law; `cargo metadata` says what is.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;

use crate::Finding;

/// A crate of the workspace, and what of the workspace it may name.
struct Room {
    name: &'static str,
    may: &'static [&'static str],
    /// What its tests may name beyond that.
    tests_may: &'static [&'static str],
    /// Why nothing else.
    because: &'static str,
}

const ROOMS: &[Room] = &[
    Room {
        name: "rota-cron",
        may: &[],
        tests_may: &[],
        because: "when something recurs is a question of text, calendars and time zones alone",
    },
    Room {
        name: "rota-core",
        may: &["rota-cron"],
        tests_may: &[],
        because: "the core is pure: it knows neither who asks nor what is kept",
    },
    Room {
        name: "rota-store",
        may: &[],
        tests_may: &[],
        because: "the store keeps keys, values and fences, and must not know what a task is",
    },
    Room {
        name: "rota-proto",
        may: &[],
        tests_may: &[],
        because: "the wire contract holds no logic, so that clients need nothing but it",
    },
    Room {
        name: "rota-proto-generate",
        may: &[],
        tests_may: &[],
        because: "it reads the protobuf files, and the crate that it writes must build without it",
    },
    Room {
        name: "rota-metrics",
        may: &[],
        tests_may: &[],
        because: "it knows names and numbers; what they count is the business of those who count",
    },
    Room {
        name: "rota-trace",
        may: &[],
        tests_may: &[],
        because: "spans are written about what others do; where they go is the binary's choice",
    },
    Room {
        name: "rota-tls",
        may: &[],
        tests_may: &[],
        because: "certificates and handshakes are the same whoever connects, and need to know nothing else",
    },
    Room {
        name: "rota-dashboard",
        may: &["rota-proto"],
        tests_may: &[],
        because: "the dashboard is a client of the API, and can do nothing that the API cannot",
    },
    Room {
        name: "rota-engine",
        may: &["rota-core", "rota-cron", "rota-metrics", "rota-store"],
        tests_may: &[],
        because: "the engine speaks no HTTP and no gRPC; the server maps the wire to it",
    },
    Room {
        name: "rota-server",
        may: &[
            "rota-core",
            "rota-cron",
            "rota-dashboard",
            "rota-engine",
            "rota-metrics",
            "rota-proto",
            "rota-tls",
            "rota-trace",
        ],
        tests_may: &["rota-store"],
        because: "the server sees the engine alone; which store is behind it is the binary's choice",
    },
    Room {
        name: "rota-sim",
        may: &[
            "rota-client",
            "rota-core",
            "rota-cron",
            "rota-engine",
            "rota-metrics",
            "rota-proto",
            "rota-server",
            "rota-store",
            "rota-worker",
        ],
        tests_may: &[],
        because: "the simulator runs what is shipped, and nothing that is shipped may need it",
    },
    Room {
        name: "rota-client",
        may: &["rota-proto", "rota-tls"],
        tests_may: &["rota-engine", "rota-server", "rota-store"],
        because: "a client knows the wire contract and nothing of the server's inside",
    },
    Room {
        name: "rota-worker",
        may: &["rota-client", "rota-metrics", "rota-proto", "rota-trace"],
        tests_may: &["rota-engine", "rota-server", "rota-store"],
        because: "a worker reaches the cluster through the client alone, never a store or an engine",
    },
    Room {
        name: "rota",
        may: &[
            "rota-client",
            "rota-core",
            "rota-cron",
            "rota-engine",
            "rota-metrics",
            "rota-proto",
            "rota-server",
            "rota-store",
            "rota-tls",
            "rota-trace",
            "rota-worker",
        ],
        tests_may: &[],
        because: "the binary puts the parts together; nothing beside it is a part",
    },
    Room {
        name: "rota-demo",
        may: &["rota-client", "rota-worker"],
        tests_may: &[],
        because: "the demo uses what any user can use",
    },
    Room {
        name: "rota-tests",
        may: &["rota-client", "rota-proto", "rota-worker"],
        tests_may: &[],
        because: "tests of real processes look from outside, as a user does",
    },
    Room {
        name: "bench-core",
        may: &["rota-core"],
        tests_may: &[],
        because: "it measures the state machine alone",
    },
    Room {
        name: "bench-latency",
        may: &[],
        tests_may: &[],
        because: "it measures the machine, and the program as anybody runs it",
    },
    Room {
        name: "bench-metrics",
        may: &["rota-client"],
        tests_may: &[],
        because: "it measures the program as anybody runs and asks it",
    },
    Room {
        name: "bench-store-engines",
        may: &["rota-store"],
        tests_may: &[],
        because: "it measures what keeps the data, and knows of tasks only what is kept of them",
    },
    Room {
        name: "bench-ticks",
        may: &["rota-core", "rota-cron", "rota-engine", "rota-store"],
        tests_may: &[],
        because: "it measures the engine without what is around it",
    },
    Room {
        name: "xtask",
        may: &[],
        tests_may: &[],
        because: "the checks stand beside the project",
    },
];

/// Crates from elsewhere with a single place, or a place where they must not be.
struct Fence {
    crates: &'static [&'static str],
    rooms: Rooms,
    because: &'static str,
}

enum Rooms {
    Only(&'static [&'static str]),
    AllBut(&'static [&'static str]),
}

const FENCES: &[Fence] = &[
    Fence {
        crates: &["redb"],
        rooms: Rooms::Only(&["bench-store-engines"]),
        because: "it was measured and not chosen; a driver has its place in rota-store alone",
    },
    Fence {
        crates: &[
            "consul",
            "etcd-client",
            "fjall",
            "heed",
            "lsm-tree",
            "redis",
            "rocksdb",
            "rs-consul",
            "rusqlite",
            "sled",
        ],
        rooms: Rooms::Only(&["rota-store"]),
        because: "a store's driver is named in rota-store alone, so that a backend can be changed",
    },
    Fence {
        crates: &["axum", "h2", "http", "hyper", "hyper-util", "tower", "tower-http"],
        rooms: Rooms::AllBut(&["rota-core", "rota-engine", "rota-store"]),
        because: "HTTP ends at the server; what decides and keeps does not speak it",
    },
    Fence {
        crates: &["reqwest"],
        rooms: Rooms::AllBut(&["rota-core", "rota-engine"]),
        because: "requests over HTTP begin outside what decides; Consul has no other API",
    },
    Fence {
        crates: &["tonic", "tonic-prost"],
        rooms: Rooms::AllBut(&["rota-core", "rota-engine"]),
        because: "gRPC ends at the server, and in the store, whose etcd is spoken to by it",
    },
    Fence {
        crates: &["rustls-native-certs", "tokio-rustls", "yasna"],
        rooms: Rooms::Only(&["rota-tls"]),
        because: "handshakes and certificates of Rota's own connections are the business of rota-tls alone",
    },
    Fence {
        crates: &["metrics", "procfs", "prometheus", "prometheus-client"],
        rooms: Rooms::Only(&["rota-metrics"]),
        because: "what is not declared in rota-metrics is not shown",
    },
    Fence {
        crates: &["clap", "clap_complete", "comfy-table", "indicatif", "ratatui", "toml"],
        rooms: Rooms::Only(&["rota", "rota-demo"]),
        because: "flags, configuration files and drawing belong to programs, not to libraries",
    },
    Fence {
        crates: &["opentelemetry-otlp", "opentelemetry_sdk"],
        rooms: Rooms::Only(&["rota"]),
        because: "where traces go is the program's choice; libraries write spans by rota-trace",
    },
    Fence {
        crates: &["mimalloc", "tikv-jemallocator", "tracing-subscriber"],
        rooms: Rooms::Only(&[
            "bench-core",
            "bench-store-engines",
            "bench-ticks",
            "rota",
            "rota-demo",
            "rota-sim",
        ]),
        because: "what holds for a whole process is the program's choice",
    },
];

/// What the core may use from elsewhere. A list of what is allowed, because purity is lost by what
/// nobody thought of forbidding.
const CORE_MAY_USE: &[&str] = &["bytes", "rustc-hash", "thiserror"];

/// A package of the workspace, as `cargo metadata` shows it.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    /// Nothing for a normal one, else `dev` or `build`.
    kind: Option<String>,
    /// Set for those of the workspace.
    path: Option<PathBuf>,
}

impl Package {
    pub(crate) fn directory(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(Path::new("."))
    }
}

/// The packages of the workspace at `root`.
pub(crate) fn workspace(root: &Path) -> Result<Vec<Package>, String> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--no-deps"])
        .current_dir(root)
        .output()
        .map_err(|error| format!("cargo metadata: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("cargo metadata says something else than expected: {error}"))?;
    Ok(metadata.packages)
}

/// Every edge that the tables do not allow.
pub(crate) fn check(packages: &[Package]) -> Vec<Finding> {
    packages.iter().flat_map(check_package).collect()
}

fn check_package(package: &Package) -> Vec<Finding> {
    let Some(room) = ROOMS.iter().find(|room| room.name == package.name) else {
        return vec![Finding {
            place: package.name.clone(),
            message: "is not in the table of rooms (xtask/src/edges.rs): say there what it may use"
                .to_owned(),
        }];
    };
    let refused = |dependency: &Dependency| {
        let because = if dependency.path.is_some() {
            of_the_workspace(room, dependency)?
        } else {
            from_elsewhere(room, dependency)?
        };
        let message = format!("must not depend on {}: {because}", dependency.name);
        Some(Finding { place: room.name.to_owned(), message })
    };
    package.dependencies.iter().filter_map(refused).collect()
}

fn of_the_workspace(room: &Room, dependency: &Dependency) -> Option<&'static str> {
    let name = dependency.name.as_str();
    // Tests may name their own room: that is how they turn its features on.
    let tests_may = room.tests_may.contains(&name) || room.name == name;
    let in_tests = dependency.kind.as_deref() == Some("dev") && tests_may;
    (!room.may.contains(&name) && !in_tests).then_some(room.because)
}

fn from_elsewhere(room: &Room, dependency: &Dependency) -> Option<&'static str> {
    // What only tests use does not shape the room.
    if dependency.kind.as_deref() == Some("dev") {
        return None;
    }
    let name = dependency.name.as_str();
    let fenced = FENCES.iter().find(|fence| {
        let outside = match fence.rooms {
            Rooms::Only(rooms) => !rooms.contains(&room.name),
            Rooms::AllBut(rooms) => rooms.contains(&room.name),
        };
        outside && fence.crates.contains(&name)
    });
    if let Some(fence) = fenced {
        return Some(fence.because);
    }
    (room.name == "rota-core" && !CORE_MAY_USE.contains(&name)).then_some(room.because)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[(&str, Option<&str>, bool)]) -> Package {
        let dependency = |&(name, kind, ours): &(&str, Option<&str>, bool)| Dependency {
            name: name.to_owned(),
            kind: kind.map(str::to_owned),
            path: ours.then(PathBuf::new),
        };
        Package {
            name: name.to_owned(),
            manifest_path: PathBuf::new(),
            dependencies: dependencies.iter().map(dependency).collect(),
        }
    }

    #[test]
    fn a_forbidden_edge_is_found_and_its_reason_given() {
        for (from, to, kind, ours) in [
            ("rota-core", "rota-store", None, true),
            ("rota-core", "rota-store", Some("dev"), true),
            ("rota-core", "tokio", None, false),
            ("rota-core", "serde", None, false),
            ("rota-core", "prost", Some("build"), false),
            ("rota-core", "tracing", None, false),
            ("rota-core", "rand", None, false),
            ("rota-store", "rota-core", None, true),
            ("rota-store", "axum", None, false),
            ("rota-engine", "rota-proto", None, true),
            ("rota-engine", "fjall", None, false),
            ("rota-engine", "axum", None, false),
            ("rota-server", "rota-store", None, true),
            ("rota-server", "fjall", None, false),
            ("rota-client", "rota-server", None, true),
            ("rota-worker", "rota-engine", None, true),
            ("rota-worker", "clap", None, false),
            ("rota", "redb", None, false),
            ("rota-demo", "rota-engine", None, true),
        ] {
            let found = check_package(&package(from, &[(to, kind, ours)]));
            assert_eq!(found.len(), 1, "{from} -> {to}");
            let message = found[0].to_string();
            assert!(
                message.starts_with(&format!("{from}: must not depend on {to}: ")),
                "{message}"
            );
            assert!(!message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn an_allowed_edge_is_not() {
        for (from, to, kind, ours) in [
            ("rota-core", "bytes", None, false),
            ("rota-core", "proptest", Some("dev"), false),
            ("rota-store", "fjall", None, false),
            ("rota-store", "tonic", None, false),
            ("rota-store", "rota-store", Some("dev"), true),
            ("rota-engine", "rota-core", None, true),
            ("rota-server", "rota-store", Some("dev"), true),
            ("rota-server", "axum", None, false),
            ("rota-worker", "rota-client", None, true),
            ("rota", "rota-store", None, true),
            ("rota", "clap", None, false),
        ] {
            let found = check_package(&package(from, &[(to, kind, ours)]));
            assert_eq!(found, [], "{from} -> {to}");
        }
    }

    #[test]
    fn a_crate_without_a_room_is_found() {
        let found = check(&[package("rota-extras", &[])]);
        assert_eq!(found.len(), 1);
        assert!(found[0].message.contains("table of rooms"), "{}", found[0]);
    }

    #[test]
    fn the_tables_point_one_way() {
        // A room may only name rooms whose own lists do not lead back to it.
        fn reaches(from: &str, to: &str) -> bool {
            let room = ROOMS.iter().find(|room| room.name == from).expect("a room");
            room.may.iter().any(|next| *next == to || reaches(next, to))
        }
        for room in ROOMS {
            assert!(!reaches(room.name, room.name), "{} depends on itself", room.name);
        }
    }

    #[test]
    fn the_workspace_can_be_read() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a parent");
        let packages = workspace(root).expect("cargo metadata");
        let core = packages.iter().find(|package| package.name == "rota-core").expect("the core");
        assert!(core.directory().ends_with("crates/rota-core"));
        assert!(core.dependencies.iter().any(|dependency| dependency.name == "bytes"));
    }
}

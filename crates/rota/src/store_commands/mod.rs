//! Commands that work on a store itself, without a server: `rota store`.

mod check;
mod copy;
mod dump;
mod export;
mod failure;
mod import;
mod progress;
mod stores;
mod summary;

use std::path::PathBuf;

use clap::{Subcommand, builder::NonEmptyStringValueParser as Text};
use tokio::signal::unix::{SignalKind, signal};

use self::stores::Opened;
use crate::{
    config::Settings,
    exit::{Exit, Failure},
    output::Format,
};

/// Commands for a store.
#[derive(Debug, Subcommand)]
pub(crate) enum StoreVerb {
    /// Copy everything from one store to another. No node may run on either.
    #[command(after_help = COPY_HELP)]
    Copy {
        /// URL of the store to read, as in --store. It stays as it is.
        #[arg(value_parser = Text::new())]
        from: String,
        /// URL of the store to write. It must be empty, or hold the beginning of the same copy.
        #[arg(value_parser = Text::new())]
        to: String,
        /// Remove an unfinished copy or import of something else from TO first.
        #[arg(long)]
        restart: bool,
    },
    /// Check that every record of a store can be read and that no two contradict each other. Nodes can run meanwhile,
    /// except on an embedded store.
    Check {
        /// URL of the store [default: the store of the settings].
        #[arg(value_name = "STORE", value_parser = Text::new())]
        named: Option<String>,
    },
    /// Write everything of a store to a file, as a backup or to import it into another. Nodes can run meanwhile, except
    /// on an embedded store.
    Export {
        /// File to create, or `-` for standard output.
        file: PathBuf,
        /// URL of the store [default: the store of the settings].
        #[arg(value_name = "STORE", value_parser = Text::new())]
        named: Option<String>,
    },
    /// Read the file of an export into an empty store. No node may run on it.
    Import {
        /// File to read, or `-` for standard input.
        file: PathBuf,
        /// URL of the store [default: the store of the settings].
        #[arg(value_name = "STORE", value_parser = Text::new())]
        named: Option<String>,
        /// Remove an unfinished copy from the store first.
        #[arg(long)]
        restart: bool,
    },
    /// Show the records of a store in readable form. Nodes can run meanwhile, except on an embedded store.
    Dump {
        /// URL of the store [default: the store of the settings].
        #[arg(value_name = "STORE", value_parser = Text::new())]
        named: Option<String>,
        /// Show only records whose SPACE/KEY begins with this text, such as live/ or name/id/order-7.
        #[arg(long, value_name = "SPACE/KEY", default_value = "")]
        prefix: String,
    },
}

const COPY_HELP: &str = "\
A copy that was interrupted continues when the same command runs again. Until it is finished, no
node serves from TO. The settings of stores apply to FROM and TO. Settings in the query of a URL apply
to that store alone: 'etcd://e1:2379/rota?user=rota&password_file=/run/secrets/etcd'.";

/// Runs the command.
pub(crate) async fn run(
    verb: StoreVerb,
    settings: &Settings,
    format: Format,
) -> Result<(), Failure> {
    let mut stop = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let interrupted = || Err(Failure::new(Exit::Interrupted, "interrupted"));
    let opened = Opened::default();
    let done = tokio::select! {
        biased;
        _ = stop.0.recv() => interrupted(),
        _ = stop.1.recv() => interrupted(),
        done = perform(verb, settings, format, &opened) => done,
    };
    opened.close().await;
    done
}

async fn perform(
    verb: StoreVerb,
    settings: &Settings,
    format: Format,
    opened: &Opened,
) -> Result<(), Failure> {
    match verb {
        StoreVerb::Copy { from, to, restart } => {
            copy::run((&from, &to), restart, settings, format, opened).await
        }
        StoreVerb::Check { named } => check::run(named.as_deref(), settings, format, opened).await,
        StoreVerb::Export { file, named } => {
            export::run(&file, named.as_deref(), settings, format, opened).await
        }
        StoreVerb::Import { file, named, restart } => {
            import::run((&file, named.as_deref()), restart, settings, format, opened).await
        }
        StoreVerb::Dump { named, prefix } => {
            dump::run(named.as_deref(), &prefix, settings, format, opened).await
        }
    }
}

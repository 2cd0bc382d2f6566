//! The banner of `rota dev`: the address, a first task to paste, and what tasks are allowed to do.
//!
//! It goes to standard output, and the log to standard error. With `log_format = json` a program reads the
//! output, so there is no banner.

use std::{
    ffi::OsStr,
    net::IpAddr,
    path::{Path, PathBuf},
};

use crate::{config::Settings, exit::Failure, output, text::line, tls};

/// The width of the column with the names of what is allowed.
const NAMES: usize = 10;

/// Prints the banner for a server at this URL.
///
/// # Errors
/// When standard output fails, or a setting is invalid.
pub(crate) fn print(settings: &Settings, url: &str) -> Result<(), Failure> {
    if settings.text("log_format") == "json" {
        return Ok(());
    }
    let banner = Banner::new(settings, url, &program())?;
    output::verbatim(banner.text(Style::of_stdout()).as_bytes())
}

/// How to call this program from another terminal: by its name if it was found by name, otherwise by its path.
fn program() -> String {
    let named = std::env::args_os().next().unwrap_or_default();
    let is_path = Path::new(&named).components().count() > 1;
    match std::env::current_exe() {
        Ok(path) if is_path => quoted(path.as_os_str()),
        _ => "rota".to_owned(),
    }
}

/// A word for a shell.
fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Whether parts of the text are emphasised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Emphasised,
}

impl Style {
    fn of_stdout() -> Self {
        if output::shows_colour() { Self::Emphasised } else { Self::Plain }
    }

    fn bold(self, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Emphasised => format!("\x1b[1m{text}\x1b[0m"),
        }
    }
}

/// What the banner says.
#[derive(Debug)]
struct Banner {
    url: String,
    first: String,
    /// Whether the first task needs a token, which the banner never shows.
    needs_token: bool,
    allowed: Vec<(&'static str, String, &'static str)>,
}

impl Banner {
    fn new(settings: &Settings, url: &str, program: &str) -> Result<Self, Failure> {
        let url = reachable(url);
        let tokens = settings.list("api_tokens");
        let needs_token =
            !tokens.is_empty() && !tokens.iter().any(|token| token == settings.text("token"));
        let programs = match settings.get("allow_command")? {
            true => Programs::of(settings.list_if_set("allowed_programs")),
            false => Programs::None,
        };
        let private: bool = settings.get("http_allow_private")?;
        let mut words = vec![program.to_owned(), "task create --wait".to_owned()];
        if !settings.list("url").contains(&url) {
            words.push(format!("--url {}", quoted(url.as_ref())));
        }
        let secure = url.starts_with("https://");
        if secure && let Some(file) = authority(settings)? {
            words.push(format!("--ca-file {}", quoted(file.as_os_str())));
        }
        if let Some(queue) =
            settings.list_if_set("queues").and_then(|queues| queues.first().cloned())
        {
            words.push(format!("--queue {}", quoted(queue.as_ref())));
        }
        words.push(if programs.has_echo() {
            "--command -- echo hello".to_owned()
        } else if secure {
            // HTTP tasks trust only the authorities of the system.
            "--http https://example.org".to_owned()
        } else {
            format!("--http {url}/healthz")
        });
        if needs_token {
            words.insert(0, "ROTA_TOKEN=…".to_owned());
        }
        let allowed = vec![
            ("Commands", programs.text(), programs.change()),
            (
                "HTTP",
                if private {
                    "Tasks can send requests to every address.".to_owned()
                } else {
                    "Tasks can send requests to public addresses and to this machine.".to_owned()
                },
                if private {
                    ""
                } else {
                    "To allow private networks too, add --http-allow-private."
                },
            ),
            ("Access", access(&url, settings, !tokens.is_empty()), ""),
            (
                "State",
                format!("Tasks are kept in {}.", settings.text("store")),
                "To keep them elsewhere, add --store file:DIRECTORY.",
            ),
        ];
        Ok(Self { url, first: words.join(" "), needs_token, allowed })
    }

    fn text(&self, style: Style) -> String {
        let mut text = format!(
            "\n{} is ready at {}\n\nRun a first task from another terminal:\n\n    {}\n\n",
            style.bold("Rota"),
            style.bold(&line(&self.url)),
            style.bold(&line(&self.first)),
        );
        if self.needs_token {
            text.push_str("Replace … with one of your API tokens.\n\n");
        }
        for (name, state, change) in &self.allowed {
            text.push_str(&format!("{}{}\n", style.bold(&format!("{name:<NAMES$}")), line(state)));
            if !change.is_empty() {
                text.push_str(&format!("{:NAMES$}{change}\n", ""));
            }
        }
        let dashboard =
            format!("{}{}/\n", style.bold(&format!("{:<NAMES$}", "Page")), line(&self.url));
        text.push_str(&dashboard);
        let docs =
            format!("{}{}/docs\n", style.bold(&format!("{:<NAMES$}", "API")), line(&self.url));
        text.push_str(&docs);
        text.push_str("\nPress Ctrl+C to stop. `rota dev --help` lists all settings.\n\n");
        text
    }
}

/// The programs that tasks can run.
#[derive(Debug)]
enum Programs {
    None,
    All,
    Some(Vec<String>),
}

impl Programs {
    fn of(allowed: Option<Vec<String>>) -> Self {
        allowed.map_or(Self::All, Self::Some)
    }

    fn has_echo(&self) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Some(names) => names.iter().any(|name| name == "echo"),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::None => "Tasks cannot run programs on this machine.".to_owned(),
            Self::All => "Tasks can run every program on this machine, as you.".to_owned(),
            Self::Some(names) => format!("Tasks can run these programs: {}.", names.join(", ")),
        }
    }

    fn change(&self) -> &'static str {
        match self {
            Self::None => "To allow it, add --allow-command.",
            Self::All => "To allow only some, add --allowed-programs NAME,NAME.",
            Self::Some(_) => "",
        }
    }
}

/// The file with the authority of the node's certificate, if it is not one of the system.
fn authority(settings: &Settings) -> Result<Option<PathBuf>, Failure> {
    let file = match settings.text("ca_file") {
        _ if settings.get("tls_self_signed")? => Path::new(tls::SELF_SIGNED).join("cert.pem"),
        "" => return Ok(None),
        named => PathBuf::from(named),
    };
    // The other terminal may be in another directory.
    Ok(Some(std::path::absolute(&file).unwrap_or(file)))
}

/// The URL for this machine. Nobody can connect to the unspecified address everywhere.
fn reachable(url: &str) -> String {
    url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
}

fn access(url: &str, settings: &Settings, tokens: bool) -> String {
    let listen = settings.text("listen").parse::<std::net::SocketAddr>();
    let local = listen.map_or(url.contains("//127."), |listen| is_local(listen.ip()));
    match (local, tokens) {
        (true, true) => "Programs on this machine that have an API token can connect.",
        (true, false) => "Every program on this machine can connect, without a token.",
        (false, true) => "Everyone who has an API token can connect.",
        (false, false) => "EVERYONE who reaches the port can connect, without a token.",
    }
    .to_owned()
}

fn is_local(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigFile, Scope, flags};

    fn banner(url: &str, args: &[&str]) -> String {
        let command = clap::Command::new("rota").args(flags(&[
            Scope::Common,
            Scope::Server,
            Scope::Store,
            Scope::Limits,
            Scope::Trust,
            Scope::Worker,
        ]));
        let matches = command.get_matches_from([&["rota"], args].concat());
        let settings = Settings::resolve(&matches, |_| None, None, &ConfigFile::default());
        let settings = settings.expect("no contradiction");
        Banner::new(&settings, url, "rota").expect("valid settings").text(Style::Plain)
    }

    const HERE: &str = "http://127.0.0.1:7420";

    #[test]
    fn the_banner_has_one_line_that_runs_a_first_task() {
        let lines = |text: &str| -> Vec<String> {
            let first = |line: &&str| line.contains("task create");
            text.lines().filter(first).map(|line| line.trim().to_owned()).collect()
        };
        for (url, args, line) in [
            (HERE, &["--allow-command"][..], "rota task create --wait --command -- echo hello"),
            (HERE, &[], "rota task create --wait --http http://127.0.0.1:7420/healthz"),
            (
                HERE,
                &["--allow-command", "--allowed-programs", "date"],
                "rota task create --wait --http http://127.0.0.1:7420/healthz",
            ),
            (
                "http://127.0.0.1:9",
                &["--allow-command"],
                "rota task create --wait --url http://127.0.0.1:9 --command -- echo hello",
            ),
            (
                "http://0.0.0.0:9",
                &["--allow-command", "--queues", "a b,c"],
                "rota task create --wait --url http://127.0.0.1:9 --queue 'a b' --command -- echo hello",
            ),
        ] {
            assert_eq!(lines(&banner(url, args)), [line], "{args:?}");
        }
    }

    #[test]
    fn the_line_trusts_the_certificate_of_the_node() {
        let text = banner("https://127.0.0.1:7420", &["--allow-command", "--tls-self-signed"]);
        let here = std::env::current_dir().expect("a directory");
        let wanted = format!(
            "rota task create --wait --url https://127.0.0.1:7420 --ca-file {}/rota-tls/cert.pem \
             --command -- echo hello",
            here.display()
        );
        assert!(text.contains(&wanted), "{wanted} is missing in {text}");
    }

    #[test]
    fn the_banner_says_what_is_allowed_and_how_to_change_it() {
        let text = banner(HERE, &[]);
        for line in [
            "Rota is ready at http://127.0.0.1:7420",
            "Commands  Tasks cannot run programs on this machine.",
            "          To allow it, add --allow-command.",
            "HTTP      Tasks can send requests to public addresses and to this machine.",
            "Access    Every program on this machine can connect, without a token.",
            "Page      http://127.0.0.1:7420/",
            "API       http://127.0.0.1:7420/docs",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line:?} is missing in:\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(!text.contains('\x1b'), "{text}");
        let text = banner(HERE, &["--listen", "0.0.0.0:7420", "--insecure-no-auth"]);
        assert!(text.contains("Access    EVERYONE"), "{text}");
    }

    #[test]
    fn only_emphasis_brings_control_characters() {
        let banner = Banner {
            url: HERE.to_owned(),
            first: "rota".to_owned(),
            needs_token: true,
            allowed: vec![("Commands", "a\x1b[2J".to_owned(), "")],
        };
        let text = banner.text(Style::Emphasised);
        assert!(text.contains("\x1b[1mCommands  \x1b[0ma\\u{1b}[2J"), "{text:?}");
    }
}

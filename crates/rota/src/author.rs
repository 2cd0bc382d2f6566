//! Who does something to the server that others will ask about, and why.

use clap::{Args, builder::NonEmptyStringValueParser as Text};
use nix::unistd::{User, gethostname, getuid};

/// Longest name of an author that a server takes.
const BY: usize = 128;

/// Who pauses something, and why.
#[derive(Debug, Args)]
pub(crate) struct AuthorArgs {
    /// Reason for people, up to 256 characters.
    #[arg(long, value_name = "TEXT", value_parser = Text::new())]
    note: Option<String>,
    /// Author of the pause. Servers do not verify it. Default: user@host.
    #[arg(long, value_name = "NAME", value_parser = Text::new())]
    by: Option<String>,
}

impl AuthorArgs {
    /// The reason, and the author: by default the user of this process.
    pub(crate) fn note_and_author(self) -> (Option<String>, Option<String>) {
        (self.note, self.by.or_else(author))
    }
}

/// The user of this process at this host.
fn author() -> Option<String> {
    let user = User::from_uid(getuid()).ok().flatten().map(|user| user.name);
    let host = gethostname().ok().and_then(|host| host.into_string().ok());
    let author = [user, host].into_iter().flatten().collect::<Vec<_>>().join("@");
    (!author.is_empty() && author.len() <= BY).then_some(author)
}

//! A request for a page: who asks, and with which parameters.

use std::sync::Arc;

use crate::{api::Api, flash, kept::AskAgain, link, memory::Memory, trouble::Trouble};

/// The colours of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Theme {
    /// As the system has it.
    #[default]
    System,
    Light,
    Dark,
}

impl Theme {
    /// Name of the cookie, which the script sets.
    pub(crate) const COOKIE: &str = "rota_theme";

    pub(crate) fn of_cookie(value: Option<&str>) -> Self {
        match value {
            Some("light") => Self::Light,
            Some("dark") => Self::Dark,
            _ => Self::System,
        }
    }

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}

/// Names and values, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pairs(pub(crate) Vec<(String, String)>);

impl Pairs {
    pub(crate) fn of(query: &str) -> Self {
        Self(link::pairs(query))
    }

    /// The first value of this name that is not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, value)| key == name && !value.is_empty());
        found.map(|(_, value)| value.as_str())
    }

    /// All values of this name.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first value of this name.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn need(&self, name: &str) -> Result<&str, Trouble> {
        self.get(name).ok_or_else(|| Trouble::Parameter {
            name: name.to_owned(),
            message: "is missing".to_owned(),
        })
    }
}

/// A request for a page or for a change.
#[derive(Debug, Clone)]
pub(crate) struct Visit {
    /// Name of the page, such as `tasks`. Empty for the overview.
    pub(crate) page: String,
    /// Parameters of the address, or of the form.
    pub(crate) pairs: Pairs,
    /// The API as the visitor sees it.
    pub(crate) api: Api,
    pub(crate) theme: Theme,
    /// Whether the visitor can sign out.
    pub(crate) signed_in: bool,
    /// What the node remembers.
    pub(crate) memory: Arc<Memory>,
    /// When the page has to ask again.
    pub(crate) again: AskAgain,
}

impl Visit {
    /// The message that the address names.
    pub(crate) fn flash(&self) -> Option<String> {
        self.pairs.get(flash::PARAMETER).and_then(flash::text)
    }

    /// The link to this page, without its message.
    pub(crate) fn here(&self) -> String {
        let pairs = self.pairs.0.iter().filter(|(name, _)| name != flash::PARAMETER);
        link::to(&self.page, pairs.map(|(name, value)| (name, value)))
    }

    /// Whether the visitor has confirmed the change: in the dialog of the script, or on the page that asks.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.pairs.get("confirmed") == Some("yes")
    }
}

//! The output formats, and documents in the formats for programs.

use std::{fs, str::FromStr};

use clap::ValueEnum;

use super::template;
use crate::exit::Failure;

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Aligned columns that fit the terminal.
    Table,
    /// All columns, whole.
    Wide,
    Json,
    /// JSON with one document on each line: the items of a list, or one object.
    Jsonl,
    Yaml,
    /// Text with fields of the JSON.
    Template,
}

impl Format {
    /// Whether a program reads the output, so that only the document is printed.
    pub(crate) fn is_data(self) -> bool {
        !matches!(self, Self::Table | Self::Wide)
    }

    /// Whether notes and errors are JSON on standard error.
    pub(crate) fn notes_are_json(self) -> bool {
        matches!(self, Self::Json | Self::Jsonl | Self::Yaml)
    }
}

/// The value of `--output`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) format: Format,
    template: String,
}

impl Asked {
    /// How values begin.
    pub(crate) const WORDS: [&str; 6] = ["table", "wide", "json", "jsonl", "yaml", "template="];
}

impl FromStr for Asked {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let format = match text {
            "table" => Format::Table,
            "wide" => Format::Wide,
            "json" => Format::Json,
            "jsonl" => Format::Jsonl,
            "yaml" => Format::Yaml,
            "template" => {
                return Err(
                    "the text is missing; use template='{{ id }}' or template=@FILE".to_owned()
                );
            }
            text => {
                let template = text
                    .strip_prefix("template=")
                    .ok_or("must be table, wide, json, jsonl, yaml or template=TEXT")?;
                return Ok(Self { format: Format::Template, template: template.to_owned() });
            }
        };
        Ok(Self { format, template: String::new() })
    }
}

impl Asked {
    /// The text of the template, read from its file if it is in one. It must be sound.
    pub(super) fn template(&self) -> Result<Option<String>, Failure> {
        if self.format != Format::Template {
            return Ok(None);
        }
        let text = match self.template.strip_prefix('@') {
            None => self.template.clone(),
            Some(file) => fs::read_to_string(file)
                .map_err(|error| Failure::usage(format!("--output template=@{file}: {error}")))?,
        };
        template::check(&text)?;
        Ok(Some(text))
    }
}

/// When to colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Colour {
    #[default]
    Auto,
    Always,
    Never,
}

/// How tables show times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Times {
    #[default]
    Relative,
    Utc,
    Local,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_named_or_a_template() {
        assert_eq!("wide".parse::<Asked>().expect("a format").format, Format::Wide);
        let asked: Asked = "template={{ id }}".parse().expect("a template");
        assert_eq!(asked.template().expect("it is sound").as_deref(), Some("{{ id }}"));
        for word in Asked::WORDS {
            assert!(word.parse::<Asked>().is_ok(), "{word}");
        }
        assert!("xml".parse::<Asked>().is_err() && "template".parse::<Asked>().is_err());
        let asked: Asked = "template={{ id".parse().expect("it is read later");
        assert_eq!(asked.template().expect_err("no end").exit, crate::exit::Exit::Usage);
    }
}

//! Crontabs: their lines, and how Debian's cron would run them differently.

use crate::{
    civil::{LocalTime, Timestamp},
    expression::{Expression, ExpressionError, Rule, parse as parse_expression},
    recurrence::{LONG_CHANGE, Recurrence, RecurrenceSpec},
    zone::{Change, Zone},
};

/// The longest crontab, in bytes. Debian's cron reads 10,000 lines.
pub const MAX_CRONTAB: usize = 1 << 20;
/// The most runs that are compared around one change of the clock.
const MAX_RUNS: usize = 4_000;
/// How many changes of the clock are looked at.
const MAX_CHANGES: usize = 8;

/// A line of a crontab that is neither empty nor a comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The number of the line, from 1.
    pub number: usize,
    /// The line as it was written.
    pub text: String,
    /// What it says.
    pub content: Content,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A command with its times.
    Entry(Box<Entry>),
    /// A variable of the environment.
    Assignment {
        /// The variable, such as `MAILTO`.
        name: String,
        /// Its value, without quotes.
        value: String,
        /// What becomes of it, if it does not simply pass to the commands.
        note: Option<&'static str>,
    },
    /// A line that is right in a crontab but has no counterpart, such as `@reboot`.
    NotCarriedOver {
        /// Why not, and what to do instead.
        reason: String,
    },
    /// A line that cannot be read.
    Invalid {
        /// The fault.
        reason: String,
    },
}

/// A command with its times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The expression as it was written.
    pub expression: String,
    /// The zone that `CRON_TZ` above this line sets. Debian's cron ignores it, cronie follows it.
    pub zone: Option<String>,
    /// The user that runs it, in a system crontab.
    pub user: Option<String>,
    /// The command, with `\%` as `%`.
    pub command: String,
    /// What the command reads from its standard input: the text behind the first `%`.
    pub stdin: Option<String>,
    /// The variables set above this line, without `CRON_TZ`.
    pub environment: Vec<(String, String)>,
    /// What Debian's cron does not understand, if anything.
    pub beyond_debian: Option<String>,
}

/// Reads a crontab. `system` says that lines name a user, as in `/etc/crontab` and `/etc/cron.d`.
///
/// Nothing is lost: each line that is neither empty nor a comment has its place in the answer. A text beyond
/// [`MAX_CRONTAB`] bytes gives one invalid line.
#[must_use]
pub fn parse(text: &str, system: bool) -> Vec<Line> {
    if text.len() > MAX_CRONTAB {
        let reason =
            format!("the crontab has {} bytes; at most {MAX_CRONTAB} are allowed", text.len());
        return vec![Line { number: 1, text: String::new(), content: Content::Invalid { reason } }];
    }
    let (mut environment, mut zone) = (Vec::new(), None);
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let content = match assignment(trimmed) {
            Some((name, value)) => {
                let note = note(&name);
                if name == "CRON_TZ" {
                    zone = Some(value.clone()).filter(|value| !value.is_empty());
                } else {
                    environment.retain(|(known, _)| *known != name);
                    environment.push((name.clone(), value.clone()));
                }
                Content::Assignment { name, value, note }
            }
            None => entry(trimmed, system, zone.as_deref(), &environment),
        };
        lines.push(Line { number, text: line.to_owned(), content });
    }
    lines
}

/// `NAME=value` or `NAME = "value"`. An entry has blanks or an `@` before any `=`.
fn assignment(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once('=')?;
    let name = unquoted(name.trim());
    let first = name.chars().next()?;
    let well_formed = (first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    well_formed.then(|| (name.to_owned(), unquoted(value.trim()).to_owned()))
}

fn unquoted(text: &str) -> &str {
    let within = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    within('"').or_else(|| within('\'')).unwrap_or(text)
}

fn note(name: &str) -> Option<&'static str> {
    match name {
        "MAILTO" | "MAILFROM" => {
            Some("Rota sends no mail; `rota task wait` prints the output of a task")
        }
        "CRON_TZ" => Some(
            "sets the time zone of the lines below; Debian's cron ignores it, cronie follows it",
        ),
        "TZ" => Some("sets the time zone of the commands; cron does not read the times in it"),
        "RANDOM_DELAY" => Some("Rota does not read it; H in an expression spreads times"),
        "SHELL" => Some("names the shell that runs the commands"),
        _ => None,
    }
}

fn entry(
    line: &str,
    system: bool,
    zone: Option<&str>,
    environment: &[(String, String)],
) -> Content {
    // FreeBSD and cronie allow a `-` before the minute: no mail, no log.
    let line = line
        .strip_prefix('-')
        .filter(|rest| {
            rest.starts_with(['*', '@']) || rest.starts_with(|c: char| c.is_ascii_digit())
        })
        .unwrap_or(line);
    let fields = if line.starts_with('@') { 1 } else { 5 };
    let Some((expression, rest)) = split_fields(line, fields) else {
        let reason = "fewer than five fields and a command".to_owned();
        return Content::Invalid { reason };
    };
    if expression.eq_ignore_ascii_case("@reboot") {
        let reason = "@reboot is not carried over: a cluster has no reboot; start a task from a \
                      systemd unit of the host"
            .to_owned();
        return Content::NotCarriedOver { reason };
    }
    if let Err(error) = parse_expression(&expression, "") {
        return Content::Invalid { reason: explained(&error) };
    }
    let (user, command) = if system {
        match split_fields(rest, 1) {
            Some((user, command)) => (Some(user), command),
            None => {
                let reason = "a line of a system crontab needs a user and a command".to_owned();
                return Content::Invalid { reason };
            }
        }
    } else {
        (None, rest)
    };
    let (command, stdin) = split_percent(command);
    Content::Entry(Box::new(Entry {
        beyond_debian: beyond_debian(&expression),
        expression,
        zone: zone.map(str::to_owned),
        user,
        command,
        stdin,
        environment: environment.to_vec(),
    }))
}

fn explained(error: &ExpressionError) -> String {
    if error.text.contains('~') {
        return format!("{error}. For a random value as in cronie, use H, such as H(0-59)");
    }
    error.to_string()
}

/// The first fields, joined by single blanks, and the rest, if there is any.
fn split_fields(line: &str, count: usize) -> Option<(String, &str)> {
    let (mut fields, mut rest) = (Vec::new(), line);
    for _ in 0..count {
        let end = rest.find([' ', '\t'])?;
        fields.push(&rest[..end]);
        rest = rest[end..].trim_start_matches([' ', '\t']);
    }
    (!rest.is_empty()).then(|| (fields.join(" "), rest))
}

/// A command and its standard input. The first `%` divides them, the others are ends of lines, and `\%` is a `%`.
fn split_percent(text: &str) -> (String, Option<String>) {
    let (mut command, mut stdin) = (String::new(), None::<String>);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let escaped = letter == '\\' && letters.peek() == Some(&'%');
        if escaped {
            letters.next();
        }
        if letter == '%' && !escaped && stdin.is_none() {
            stdin = Some(String::new());
            continue;
        }
        stdin.as_mut().unwrap_or(&mut command).push(match letter {
            _ if escaped => '%',
            '%' => '\n',
            other => other,
        });
    }
    // Cron ends what it writes with a newline.
    (command, stdin.map(|text| if text.is_empty() { text } else { text + "\n" }))
}

fn beyond_debian(expression: &str) -> Option<String> {
    let upper = expression.to_ascii_uppercase();
    if upper.starts_with("@EVERY") {
        return Some("Debian's cron has no @every".to_owned());
    }
    let names = [
        "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC", "SUN",
        "MON", "TUE", "WED", "THU", "FRI", "SAT",
    ];
    for (index, field) in upper.split(' ').enumerate().filter(|_| !upper.starts_with('@')) {
        for item in field.split(',') {
            let bare = names.iter().fold(item.to_owned(), |text, name| text.replace(name, "0"));
            let strange =
                bare.contains(|c: char| !c.is_ascii_digit() && !matches!(c, '*' | '-' | '/'));
            let open_step = bare.contains('/') && !bare.contains(['*', '-']);
            if strange || open_step {
                return Some(format!(
                    "Debian's cron does not know {item:?} in field {}",
                    index + 1
                ));
            }
        }
    }
    None
}

/// Where Rota and Debian's cron part at a change of the clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The instant of the change.
    pub at: Timestamp,
    /// The sentence for people.
    pub text: String,
}

impl Entry {
    /// What Debian's cron would do differently at the coming changes of the clock: at most eight, within two years.
    ///
    /// Cron runs in the zone of its host, so `zone` is what the caller chose, unless [`Entry::zone`] is set. Rota is
    /// taken with its defaults. Nothing if the zone of the entry is unknown.
    #[must_use]
    pub fn differences(&self, zone: &Zone, from: Timestamp) -> Vec<Difference> {
        let own = self.zone.as_deref().map(Zone::find);
        let zone = match &own {
            None => zone,
            Some(Ok(zone)) => zone,
            Some(Err(_)) => return Vec::new(),
        };
        let spec = RecurrenceSpec {
            expressions: vec![self.expression.clone()],
            time_zone: Some(zone.name().to_owned()),
            ..RecurrenceSpec::default()
        };
        let parsed = parse_expression(&self.expression, "").map(|parsed| parsed.rule);
        let (Ok(recurrence), Ok(Rule::Expression(expression))) =
            (Recurrence::new(&spec, ""), parsed)
        else {
            return Vec::new();
        };
        let fixed = self.fixed_in_debian();
        let (mut found, mut at) = (Vec::new(), from.seconds());
        for _ in 0..MAX_CHANGES {
            let Some(change) = zone.next_change(at) else { break };
            at = change.at;
            if at > from.seconds() + 731 * 86_400 {
                break;
            }
            found.extend(difference(&recurrence, &expression, fixed, change));
        }
        found
    }

    /// Cron knows fixed times by the first letter of minute and hour.
    fn fixed_in_debian(&self) -> bool {
        let mut fields = self.expression.split(' ');
        let starred = |field: Option<&str>| field.is_some_and(|field| field.starts_with('*'));
        let hourly = self.expression.eq_ignore_ascii_case("@hourly");
        !(hourly || starred(fields.next()) || starred(fields.next()))
    }
}

/// Runs of Rota and of cron from just before a change until the clocks agree again.
fn difference(
    recurrence: &Recurrence,
    expression: &Expression,
    fixed: bool,
    change: Change,
) -> Option<Difference> {
    let (left, reached) = change.jump();
    let length = (change.after - change.before).abs();
    let forward = reached > left;
    let (first, last) = (left.min(reached), left.max(reached));
    let in_change = matches(expression, first, last);
    let (begin, end) = if forward {
        (change.at - 1, change.at)
    } else {
        (change.at - length - 1, change.at + length - 1)
    };
    let mut ours = 0;
    let mut after = Timestamp::from_seconds(begin);
    while let Some(next) = recurrence
        .next_fire_after(after, &())
        .filter(|next| next.at.seconds() <= end && ours <= MAX_RUNS)
    {
        ours += 1;
        after = next.at;
    }
    let at_end = usize::from(expression.matches(reached));
    let theirs = match (forward, fixed) {
        // Beyond three hours cron takes the new time at once.
        _ if length > LONG_CHANGE => {
            in_change * usize::from(!forward) * 2 + at_end * usize::from(forward)
        }
        (true, true) => in_change + at_end,
        (true, false) => at_end,
        (false, true) => in_change,
        (false, false) => in_change * 2,
    };
    if ours == theirs || ours > MAX_RUNS {
        return None;
    }
    let (way, clock) = if forward { ("forward", "when") } else { ("back", "while") };
    let text = format!(
        "{}: the clock goes {way} from {} to {}; {clock} it does, Debian's cron runs this {}, Rota {}",
        left.date(),
        hour(left),
        hour(reached),
        times(theirs),
        times(ours)
    );
    Some(Difference { at: Timestamp::from_seconds(change.at), text })
}

/// How many local times of an expression are in `[first, last)`.
fn matches(expression: &Expression, first: LocalTime, last: LocalTime) -> usize {
    let step = if expression.matches(first) { 0 } else { (60 - first.0.rem_euclid(60)) % 60 };
    (first.0 + step..last.0)
        .step_by(60)
        .take(MAX_RUNS)
        .filter(|at| expression.matches(LocalTime(*at)))
        .count()
}

fn hour(local: LocalTime) -> String {
    let (hour, minute, _) = local.clock();
    format!("{hour:02}:{minute:02}")
}

fn times(count: usize) -> String {
    match count {
        0 => "not at all".to_owned(),
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        count => format!("{count} times"),
    }
}

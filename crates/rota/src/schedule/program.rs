//! The name of the program that a line of a crontab is about, for the name of its schedule.

/// Words that only prepare or check something.
const CHECKS: [&str; 20] = [
    "test", "[", "[[", "cd", "command", "true", "false", ":", "sleep", "export", "umask", "exit",
    "fi", "done", "esac", "echo", "which", "type", "ulimit", "source",
];
/// Words before the program.
const WRAPPERS: [&str; 19] = [
    "if", "then", "else", "do", "{", "(", "!", "exec", "nice", "ionice", "chronic", "sudo",
    "flock", "timeout", "env", "setsid", "nohup", "time", "while",
];
/// Programs that run the one that their first argument names.
const RUNNERS: [&str; 6] = ["run-parts", "invoke-rc.d", "service", "systemctl", "sh", "bash"];
/// Words of `systemctl` before the unit.
const ACTIONS: [&str; 4] = ["start", "restart", "reload", "try-restart"];

/// The program, such as `sessionclean` for `[ -x /usr/lib/php/sessionclean ] && /usr/lib/php/sessionclean`. A guess that is
/// good enough for a name.
pub(super) fn program(command: &str) -> Option<String> {
    let parts = command.split(['&', '|', ';']).filter(|part| !part.trim().is_empty());
    parts.filter_map(of_part).map(|name| slug(&name)).find(|name| !name.is_empty())
}

fn of_part(part: &str) -> Option<String> {
    let mut words = part.split_whitespace().skip_while(|word| {
        let is_assignment = word.split_once('=').is_some_and(|(name, _)| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        });
        let is_option = word.starts_with('-') || word.chars().all(|c| c.is_ascii_digit());
        is_assignment || is_option || WRAPPERS.contains(&base(word))
    });
    let word = words.next()?.trim_start_matches(['(', '{']);
    let name = base(word);
    if CHECKS.contains(&name) || (name == "perl" && part.contains("sleep")) {
        return None;
    }
    if RUNNERS.contains(&name) {
        let is_argument =
            |word: &&str| !word.starts_with(['-', '"', '\'', '$']) && !ACTIONS.contains(word);
        if let Some(argument) = words.find(is_argument) {
            return Some(base(argument).to_owned());
        }
    }
    Some(name.to_owned())
}

/// The last part of a path.
fn base(word: &str) -> &str {
    word.trim_end_matches('/').rsplit('/').next().unwrap_or(word)
}

/// A text with only the letters that names of schedules can have, of limited length.
pub(super) fn slug(text: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let slug: String = text.chars().map(letter).take(40).collect();
    slug.trim_matches(['-', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_debian_packages_have_a_program() {
        for (command, expected) in [
            ("cd / && run-parts --report /etc/cron.hourly", "cron.hourly"),
            (
                "test -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.daily; }",
                "cron.daily",
            ),
            (
                "[ -x /etc/init.d/anacron ] && if [ ! -d /run/systemd/system ]; then /usr/sbin/invoke-rc.d anacron start >/dev/null; fi",
                "anacron",
            ),
            (
                "test -x /usr/bin/certbot -a \\! -d /run/systemd/system && perl -e 'sleep int(rand(43200))' && certbot -q renew",
                "certbot",
            ),
            ("command -v debian-sa1 > /dev/null && debian-sa1 1 1", "debian-sa1"),
            (
                "if [ -x /usr/share/mdadm/checkarray ] && [ $(date +%d) -le 7 ]; then /usr/share/mdadm/checkarray --cron --all; fi",
                "checkarray",
            ),
            ("nice -n 19 /usr/local/bin/backup.sh --all", "backup.sh"),
            ("LC_ALL=C ionice -c3 updatedb", "updatedb"),
            ("(date; uptime) >> /var/log/load", "date"),
            ("sh /root/x.sh", "x.sh"),
        ] {
            assert_eq!(program(command).as_deref(), Some(expected), "{command}");
        }
        assert_eq!(program("true && :"), None);
    }
}

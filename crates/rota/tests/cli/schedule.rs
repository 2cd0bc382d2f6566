//! `rota schedule` without a server: previews, crontabs and help texts. The zone of the host must not matter.

use crate::shell::Shell;

const TOKYO: [(&str, &str); 1] = [("TZ", "Asia/Tokyo")];

fn preview(shell: &mut Shell, args: &str) {
    let args: Vec<&str> = ["schedule", "preview"].into_iter().chain(args.split('|')).collect();
    shell.say_with(&args, "", &TOKYO);
}

#[test]
fn previews_show_both_changes_of_the_clock_under_another_zone_of_the_host() {
    let dir = tempfile::tempdir().unwrap();
    let mut shell = Shell::alone(dir.path());
    for args in [
        "30 2 * * *|--time-zone|America/New_York|--from|2026-03-07T00:00|-n|3",
        "30 2 * * *|--time-zone|America/New_York|--from|2026-03-07T00:00|-n|2|--gap|skip",
        "30 1 * * *|--time-zone|America/New_York|--from|2026-10-31T00:00|-n|4|--fold|both",
        "CRON_TZ=Europe/Berlin 30 2 * * *|--from|2026-03-28T00:00|-n|3|--gap|shift",
        "30 2 * * *|--time-zone|Europe/Berlin|--from|2026-10-24T00:00|-n|3|--fold|second",
        "*/30 2 * * *|--time-zone|Europe/Berlin|--from|2026-10-25T00:00|-n|4|-o|json",
    ] {
        preview(&mut shell, args);
    }
    shell.matches_exactly("schedule_clock");
}

#[test]
fn previews_show_intervals_dates_exclusions_and_the_name_of_h() {
    let dir = tempfile::tempdir().unwrap();
    let holidays = "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nSUMMARY:Christmas\r\n\
                    DTSTART;VALUE=DATE:20261225\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n";
    std::fs::write(dir.path().join("holidays.ics"), holidays).unwrap();
    let mut shell = Shell::alone(dir.path());
    for args in [
        "--every|90m/10m|--at|2026-01-01T01:00|--from|2026-01-01T00:00|-n|3",
        "0 9 * * *|--calendar|holidays.ics=after|--exclude|* * * * SAT,SUN|--from|2026-12-24T00:00Z|-n|2",
        "0 9 * * *|--calendar|holidays.ics|--exclude-date|2026-12-24|--from|2026-12-24T00:00|-n|1|-o|json",
        "H H * * *|--from|2026-01-01T00:00|-n|1",
        "H H * * *|--from|2026-01-01T00:00|-n|1|--name|nightly",
        "0 9 1 * FRI|--start|2026-01-01T00:00|--end|2026-01-02T12:00|--from|2026-01-01T00:00",
    ] {
        preview(&mut shell, args);
    }
    shell.matches_exactly("schedule_sources");
}

#[test]
fn recurrences_that_are_refused_name_the_flag_and_the_field() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("empty.ics"), "").unwrap();
    let mut shell = Shell::alone(dir.path());
    shell.say(&["schedule", "preview"]);
    for args in [
        "61 2 * * *",
        "0 0 30 2 *",
        "30|2|*|*|*",
        "0 2 * * *|--time-zone|Europe/Berln",
        "CRON_TZ=Europ/Berlin 0 2 * * *",
        "0 2 * * *|--exclude|* * *",
        "0 2 * * *|--exclude-date|christmas",
        "0 2 * * *|--from|sometime",
        "0 2 * * *|--start|2026-01-02T00:00|--end|2026-01-01T00:00",
        "0 2 * * *|--calendar|empty.ics",
        "0 2 * * *|--calendar|missing.ics=after",
        "0 2 * * *|--calendar|empty.ics=move",
        "--every|1s/2s",
        "--every|fast",
        "--at|2026-01-01",
        "0 2 * * *|-n|1001",
        "61 2 * * *|-o|json",
    ] {
        preview(&mut shell, args);
    }
    shell.say(&["schedule", "read-crontab", "missing"]).matches_exactly("schedule_refused");
}

#[test]
fn a_crontab_is_explained_line_by_line() {
    let dir = tempfile::tempdir().unwrap();
    let crontab = "# Backups\nSHELL=/bin/sh\n0,30 2 * * * root backup --all\n@reboot root start\n\
                   */5 * * * FRI#2 app report\n61 * * * * root never\n";
    std::fs::write(dir.path().join("crontab"), crontab).unwrap();
    let mut shell = Shell::alone(dir.path());
    let args = ["schedule", "read-crontab", "crontab", "--system", "--time-zone", "Europe/Berlin"];
    let from = ["--from", "2026-03-28T12:00"];
    shell.say_with(&[&args[..], &from].concat(), "", &TOKYO);
    let args = ["schedule", "read-crontab", "-", "-o", "json", "--from", "2026-03-28T12:00"];
    shell.say_with(&args, "CRON_TZ=Europe/Berlin\n0 9 * * MON mail %hello\n", &TOKYO);
    shell.matches_exactly("schedule_crontab");
}

#[test]
fn every_verb_has_a_help() {
    let dir = tempfile::tempdir().unwrap();
    let mut shell = Shell::alone(dir.path());
    shell.say(&["schedule", "--help"]);
    for verb in [
        "create",
        "apply",
        "get",
        "list",
        "preview",
        "ticks",
        "why",
        "pause",
        "resume",
        "trigger",
        "skip",
        "backfill",
        "delete",
        "export",
        "import-crontab",
        "read-crontab",
    ] {
        shell.say(&["schedule", verb, "--help"]);
    }
    shell.say(&["calendar", "--help"]);
    for verb in ["list", "get", "put", "import-ics", "delete"] {
        shell.say(&["calendar", verb, "--help"]);
    }
    shell.matches_exactly("schedule_help");
}

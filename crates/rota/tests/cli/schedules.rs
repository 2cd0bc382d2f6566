//! `rota schedule` and `rota calendar` with a server.

use serde_json::Value;

use crate::shell::{Server, Shell};

/// A schedule that runs on a day that no test lives to see, so that its dates are the same in each transcript.
const FAR: [&str; 8] = [
    "schedule",
    "create",
    "far",
    "--at",
    "2099-06-01T12:00",
    "--time-zone",
    "Europe/Berlin",
    "--kind=nobody",
];

fn json(shell: &mut Shell, args: &[&str]) -> Value {
    let text = shell.quietly(&[args, &["-o", "json"]].concat());
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_schedule_is_created_shown_and_steered() {
    let server = Server::start().ready();
    let mut shell = server.shell();
    let more = ["--label", "team=docs", "--payload", r#"{"days": 1}"#, "--overlap", "queue_one"];
    shell
        .say(&["schedule", "list"])
        .say(&[&FAR[..], &more].concat())
        .say(&FAR)
        .say(&[&FAR[..], &more, &["--replace"]].concat())
        .say(&["schedule", "get", "far"])
        .say(&["schedule", "preview", "far"])
        .say(&["schedule", "list", "--label", "team=docs"])
        .say(&["schedule", "list", "--prefix", "near", "--state", "active"])
        .say(&["schedule", "pause", "far", "--note", "migration", "--by", "ada@mars"])
        .say(&["schedule", "why", "far"])
        .say(&["schedule", "resume", "far"])
        .say(&["schedule", "skip", "far", "2099-06-01T13:00"])
        .say(&["schedule", "skip", "far", "2099-06-01T12:00"])
        .say(&["schedule", "why", "far"])
        .say(&["schedule", "skip", "far", "next", "--undo"])
        .say(&["schedule", "pause", "--label", "team=docs"])
        .say(&["schedule", "resume", "--all", "--dry-run"])
        .say(&["schedule", "pause", "--label", "team=docs", "--yes"])
        .say(&["schedule", "resume", "--all", "--dry-run"])
        .say(&["schedule", "pause", "--all", "--dry-run"])
        .say(&["schedule", "resume", "--all", "--yes", "-o", "json"])
        .say(&["schedule", "trigger", "far"])
        .say(&["task", "list", "--schedule", "far"])
        .say(&["task", "get", "far/manual-1"])
        .say(&["schedule", "ticks", "far"])
        .say(&[
            "schedule",
            "backfill",
            "far",
            "--from",
            "2026-01-01",
            "--to",
            "2026-01-31",
            "--dry-run",
        ])
        .say(&["schedule", "backfill", "far", "--cancel"])
        .say(&["schedule", "delete", "far", "--if-version", "7"])
        .say(&["schedule", "delete", "far"])
        .say(&["schedule", "get", "far"])
        .matches("schedule_life");
}

#[test]
fn the_program_of_a_tick_learns_its_times() {
    let server = Server::start().ready();
    let mut shell = server.shell();
    let script = "echo $ROTA_SCHEDULE $ROTA_NOMINAL_TIME {{nominal_time}} {{schedule}}";
    let create = ["schedule", "create", "once", "--every", "1s", "--max-runs", "1", "--command"];
    shell.quietly(&[&create[..], &["--", "sh", "-c", script]].concat());
    while json(&mut shell, &["schedule", "get", "once"])["last_success_time"].is_null() {}
    let ticks = json(&mut shell, &["schedule", "ticks", "once"]);
    let fired = &ticks["ticks"][0];
    let nominal = fired["nominal_time"].as_str().unwrap().replace(".000Z", "Z");
    assert_eq!((&fired["outcome"], &fired["count"]), (&"fired".into(), &1.into()));
    let id = fired["task_id"].as_str().unwrap();
    let task = json(&mut shell, &["task", "get", id]);
    assert_eq!(task["id"], format!("once/{nominal}"));
    let result = shell.quietly(&["task", "result", id]);
    let result: Value = serde_json::from_str(&result).unwrap();
    assert_eq!(result["stdout"], format!("once {nominal} {nominal} once\n"));
    shell
        .say(&["schedule", "ticks", "once"])
        .say(&["schedule", "why", "once"])
        .say(&["schedule", "trigger", "once", "--wait"])
        .matches("schedule_ticks");
    // Two ticks before the first one never had a task.
    let at: jiff::Timestamp = nominal.parse().unwrap();
    let before = |secs: i64| (at - jiff::SignedDuration::from_secs(secs)).to_string();
    let range = ["--from", &before(2), "--to", &before(0), "--all"];
    let backfill = [&["schedule", "backfill", "once"][..], &range].concat();
    let counted = json(&mut shell, &[&backfill[..], &["--dry-run"]].concat());
    let counts =
        ["occurrences", "present", "missing", "to_create"].map(|name| counted[name].as_u64());
    assert_eq!(counts, [Some(3), Some(1), Some(2), Some(3)]);
    // The end of today is in the future, for which nothing can be created.
    let today =
        ["schedule", "backfill", "once", "--from", "yesterday", "--to", "today", "--dry-run"];
    assert!(json(&mut shell, &today)["occurrences"].is_number());
}

#[test]
fn files_are_applied_after_a_diff_and_exported_again() {
    let server = Server::start().ready();
    let mut shell = server.shell();
    let first = "calendars:\n  - name: holidays\n    entries:\n      - days: 2098-12-25\n        note: Christmas\n\
                 schedules:\n  - name: report\n    dates: [2099-06-01T12:00]\n    time_zone: Europe/Berlin\n    \
                 labels: {app: shop}\n    exclude:\n      calendars:\n        - name: holidays\n    template:\n      \
                 kind: report\n      payload: {b: 1, a: \"x\\ny\"}\n---\nname: old\ndates: [2099-07-01T12:00:00Z]\n\
                 labels: {app: shop}\ntemplate: {kind: nobody}\n";
    let second = "name: report\ndates: [2099-06-01T13:00]\ntime_zone: Europe/Berlin\nlabels: {app: shop}\n\
                  exclude: {calendars: [{name: holidays, on_holiday: before}]}\noverlap: skip\n\
                  template: {kind: report, payload: {b: 2, a: \"x\\ny\"}}\n---\nname: new\n\
                  intervals: [{every: 365d}]\ntemplate: {kind: nobody}\n";
    std::fs::write(server.dir().join("first.yaml"), first).unwrap();
    std::fs::write(server.dir().join("second.yaml"), second).unwrap();
    let apply = |file: &'static str| ["schedule", "apply", "-f", file];
    let prune = ["--prune", "--label", "app=shop"];
    shell
        .say(&apply("first.yaml"))
        .say(&[&apply("first.yaml")[..], &["--yes"]].concat())
        .say(&apply("first.yaml"))
        .say(&["schedule", "export", "report"])
        .say(&[&apply("second.yaml")[..], &prune, &["--dry-run"]].concat())
        .say(&[&apply("second.yaml")[..], &prune, &["--yes", "-o", "json"]].concat())
        .say(&["schedule", "list", "--label", "app=shop"]);
    let exported = shell.quietly(&["schedule", "export"]);
    std::fs::write(server.dir().join("again.yaml"), exported).unwrap();
    shell.say(&apply("again.yaml"));
    for (text, name) in [
        ("name: a\ncron: '* * * * *'\n", "unknown.yaml"),
        ("name: a\nexpressions: ['61 * * * *']\ntemplate: {kind: k}\n", "wrong.yaml"),
        ("name: a\n  b: [", "broken.yaml"),
        ("# nothing\n", "empty.yaml"),
    ] {
        std::fs::write(server.dir().join(name), text).unwrap();
        shell.say(&apply(name));
    }
    shell.say(&apply("missing.yaml")).matches("schedule_apply");
}

#[test]
fn calendars_are_kept_while_schedules_use_them() {
    let server = Server::start().ready();
    let ics = "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nSUMMARY:Christmas\r\n\
               DTSTART;VALUE=DATE:20981225\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n";
    std::fs::write(server.dir().join("holidays.ics"), ics).unwrap();
    let put = ["calendar", "put", "closing", "2099-06-01..2099-06-02=Stocktaking", "12-25"];
    server
        .shell()
        .say(&["calendar", "list"])
        .say(&[&put[..], &["--description", "Days without staff"]].concat())
        .say(&["calendar", "import-ics", "holidays", "holidays.ics"])
        .say(&["calendar", "import-ics", "holidays", "holidays.ics"])
        .say(&["calendar", "list"])
        .say(&["calendar", "get", "closing"])
        .say(&["calendar", "get", "closing", "-o", "json"])
        .say(&[&FAR[..], &["--calendar", "closing=after"]].concat())
        .say(&["schedule", "preview", "far"])
        .say(&["calendar", "delete", "closing"])
        .say(&["calendar", "delete", "holidays"])
        .say(&["calendar", "get", "holidays"])
        .say(&["calendar", "put", "closing", "tomorrow"])
        .say(&["schedule", "create", "x", "--cron", "@daily", "--kind", "k", "--calendar", "none"])
        .say(&["schedule", "create", "x", "--kind", "k"])
        .say(&["schedule", "create", "x", "--cron", "0 0 30 2 *", "--kind", "k"])
        .say(&[
            "schedule",
            "create",
            "x",
            "--cron",
            "@daily",
            "--time-zone",
            "Berlin",
            "--kind",
            "k",
        ])
        .matches("calendars");
}

//! Crontabs of Debian's packages, and lines of all kinds.

use rota_cron::{
    Timestamp, Zone,
    crontab::{Content, Entry, Line, parse},
};

const SYSTEM: &[(&str, &str, usize)] = &[
    ("crontab", include_str!("crontabs/crontab"), 4),
    ("anacron", include_str!("crontabs/anacron"), 1),
    ("amavisd-new", include_str!("crontabs/amavisd-new"), 2),
    ("atop", include_str!("crontabs/atop"), 1),
    ("awstats", include_str!("crontabs/awstats"), 2),
    ("certbot", include_str!("crontabs/certbot"), 1),
    ("e2scrub_all", include_str!("crontabs/e2scrub_all"), 2),
    ("logcheck", include_str!("crontabs/logcheck"), 1),
    ("mailman3", include_str!("crontabs/mailman3"), 2),
    ("mdadm", include_str!("crontabs/mdadm"), 1),
    ("munin", include_str!("crontabs/munin"), 4),
    ("munin-node", include_str!("crontabs/munin-node"), 1),
    ("ntpsec", include_str!("crontabs/ntpsec"), 1),
    ("sysstat", include_str!("crontabs/sysstat"), 2),
];

fn entries(lines: &[Line]) -> Vec<&Entry> {
    let entry = |line: &'_ Line| matches!(line.content, Content::Entry(_));
    lines
        .iter()
        .filter(|line| entry(line))
        .filter_map(|line| match &line.content {
            Content::Entry(entry) => Some(entry.as_ref()),
            _ => None,
        })
        .collect()
}

#[test]
fn the_crontabs_of_debian_are_read_whole() {
    for (name, text, count) in SYSTEM {
        let lines = parse(text, true);
        let found = entries(&lines);
        assert_eq!(found.len(), *count, "{name}");
        assert!(
            found.iter().all(|entry| entry.user.is_some() && entry.beyond_debian.is_none()),
            "{name}"
        );
        let invalid = lines.iter().find(|line| matches!(line.content, Content::Invalid { .. }));
        assert_eq!(invalid, None, "{name}");
    }
    let lines = parse(SYSTEM[0].1, true);
    let daily = entries(&lines)[1];
    assert_eq!((daily.expression.as_str(), daily.user.as_deref()), ("25 6 * * *", Some("root")));
    assert!(daily.command.starts_with("test -x /usr/sbin/anacron"), "{}", daily.command);
    assert_eq!(daily.environment[0], ("SHELL".to_owned(), "/bin/sh".to_owned()));
    let mdadm = parse(SYSTEM[9].1, true);
    assert!(entries(&mdadm)[0].command.contains("$(date +%d) -le 7"));
}

#[test]
fn lines_of_all_kinds() {
    let text = "# comment\n\nMAILTO = \"a@example.org\"\n@reboot /bin/start\nCRON_TZ=Europe/Berlin\n\
                0 22 * * 1-5 mail -s \"It's 10pm\" joe%Joe,%%Where are your kids?%\n\
                @daily backup\n61 * * * * never\n0~30 * * * * random\n* * * *\n5/15 * * * * steps\n";
    let lines = parse(text, false);
    let numbers: Vec<usize> = lines.iter().map(|line| line.number).collect();
    assert_eq!(numbers, [3, 4, 5, 6, 7, 8, 9, 10, 11]);
    let is_mail = |line: &Line| matches!(&line.content, Content::Assignment { name, note: Some(_), .. } if name == "MAILTO");
    assert!(is_mail(&lines[0]));
    let reason = |line: &Line| match &line.content {
        Content::NotCarriedOver { reason } | Content::Invalid { reason } => reason.clone(),
        other => panic!("{other:?}"),
    };
    assert!(reason(&lines[1]).starts_with("@reboot is not carried over"));
    let found = entries(&lines);
    assert_eq!(found[0].command, "mail -s \"It's 10pm\" joe");
    assert_eq!(found[0].stdin.as_deref(), Some("Joe,\n\nWhere are your kids?\n\n"));
    assert_eq!(found[1].zone.as_deref(), Some("Europe/Berlin"));
    assert_eq!(found[1].environment, [("MAILTO".to_owned(), "a@example.org".to_owned())]);
    assert!(reason(&lines[5]).contains("minute \"61\": out of range"));
    assert!(reason(&lines[6]).contains("use H, such as H(0-59)"));
    assert!(reason(&lines[7]).contains("fewer than five fields"));
    assert_eq!(
        found[2].beyond_debian.as_deref(),
        Some("Debian's cron does not know \"5/15\" in field 1")
    );
}

#[test]
fn differences_at_changes_of_the_clock_name_the_runs() {
    // 2026-01-01T00:00:00Z, so that there are two changes each way.
    let from = Timestamp::from_seconds(1_767_225_600);
    let zone = Zone::find("America/New_York").expect("a zone");
    let differences = |expression: &str| -> Vec<String> {
        let lines = parse(&format!("{expression} true\n"), false);
        entries(&lines)[0].differences(&zone, from).into_iter().map(|found| found.text).collect()
    };
    for same in
        ["30 2 * * *", "25 6 * * *", "*/15 * * * *", "@hourly", "30 1 * * *", "5-55/10 * * * *"]
    {
        assert_eq!(differences(same), [""; 0], "{same}");
    }
    let jump = "2026-03-08: the clock goes forward from 02:00 to 03:00; when it does, Debian's cron runs this";
    assert_eq!(differences("0,30 2,3 * * *")[0], format!("{jump} 3 times, Rota once"));
    let steps = differences("30 0-23/2 * * *");
    assert_eq!(steps[0], format!("{jump} once, Rota not at all"));
    let back = differences("30 1-23/2 * * *");
    assert_eq!(
        back[0],
        "2026-11-01: the clock goes back from 02:00 to 01:00; while it does, Debian's cron runs this once, Rota twice"
    );
}

proptest::proptest! {
    #[test]
    fn any_text_is_read(text in "([0-9*@=%\\\\ \tA-Z/,-]{0,30}\n){0,6}", system in proptest::bool::ANY) {
        for line in parse(&text, system) {
            if let Content::Entry(entry) = line.content {
                let _ = entry.differences(&Zone::utc(), Timestamp(0));
            }
        }
    }
}

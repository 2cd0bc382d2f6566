//! `rota schedule import-crontab`: crontabs of Debian's packages, and one of a user.

use std::path::Path;

use serde_json::Value;

use crate::shell::{Server, Shell};

const ZONE: [&str; 4] = ["--time-zone", "Europe/Berlin", "--from", "2026-03-01T00:00"];

/// A copy of the crontabs in a directory of the test, so that transcripts have short paths.
fn copy(to: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/crontabs");
    let copy = |name: &str| std::fs::copy(from.join(name), to.join(name)).unwrap();
    std::fs::create_dir_all(to.join("etc/cron.d")).unwrap();
    copy("ada");
    copy("etc/crontab");
    for entry in std::fs::read_dir(from.join("etc/cron.d")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        copy(&format!("etc/cron.d/{name}"));
    }
}

#[test]
fn a_crontab_becomes_a_file_that_says_what_it_cannot_carry_over() {
    let dir = tempfile::tempdir().unwrap();
    copy(dir.path());
    let mut shell = Shell::alone(dir.path());
    let args = ["schedule", "import-crontab", "ada", "--queue", "ada", "--label", "host=mars"];
    shell.say(&[&args[..], &ZONE].concat());
    let args = ["schedule", "import-crontab", "-"];
    shell.say_with(&[&args[..], &ZONE].concat(), "5 4 * * * root reboot\n@reboot x\n", &[]);
    let args = ["schedule", "import-crontab", "-", "--prefix", "mars/", "--system", "-o", "json"];
    shell.say_with(&[&args[..], &ZONE].concat(), "5 4 * * * root reboot\n", &[]);
    shell.say(&["schedule", "import-crontab", "missing"]);
    shell.say(&["schedule", "import-crontab", "ada", "--time-zone", "Europe/Berln"]);
    shell.matches_exactly("crontab_import");
}

#[test]
fn each_line_of_debians_packages_becomes_a_schedule_or_says_why_not() {
    let dir = tempfile::tempdir().unwrap();
    copy(dir.path());
    let shell = Shell::alone(dir.path());
    let args = ["schedule", "import-crontab", "etc/crontab", "etc/cron.d", "-o", "json"];
    let (code, stdout, stderr) = shell.run(&[&args[..], &ZONE].concat(), "", &[]);
    assert_eq!(code, 0, "{stderr}");
    let lines: Vec<Value> = serde_json::from_str(&stdout).unwrap();
    let mut listed = String::new();
    for line in lines.iter().filter(|line| line["kind"] != "variable") {
        let schedule = &line["schedule"];
        let place = format!("{}:{}", line["file"].as_str().unwrap(), line["line"]);
        let text = match schedule["name"].as_str() {
            None => line["reason"].to_string(),
            Some(name) => {
                let payload = &schedule["template"]["payload"];
                format!("{name} {} {}", schedule["expressions"][0], payload["argv"][0])
            }
        };
        listed.push_str(&format!("{place} {text}\n"));
    }
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!("crontab_debian", format!("{listed}\n{stderr}"));
    });
}

#[test]
fn imported_schedules_run_as_the_crontab_says() {
    let server = Server::start().ready();
    copy(server.dir());
    let mut shell = server.shell();
    let import = ["schedule", "import-crontab", "etc/crontab", "etc/cron.d"];
    let yaml = shell.quietly(&[&import[..], &ZONE].concat());
    std::fs::write(server.dir().join("schedules.yaml"), yaml).unwrap();
    shell.quietly(&["schedule", "apply", "-f", "schedules.yaml", "--yes"]);
    let again = shell.quietly(&["schedule", "apply", "-f", "schedules.yaml", "--dry-run"]);
    assert!(again.starts_with("0 to create, 0 to change, 0 to delete, "), "{again}");
    let again = shell.quietly(&[&import[..], &ZONE, &["--apply"]].concat());
    assert!(again.starts_with("0 to create, 0 to change, 0 to delete, "), "{again}");

    // The program of a line runs in its shell, with its variables and its standard input.
    let line = "GREETING=hello\n@yearly read text; echo \"$GREETING $text 5\\%\"%world%\n";
    let import = ["schedule", "import-crontab", "-", "--apply", "--yes"];
    let (code, _, stderr) = shell.run(&[&import[..], &ZONE].concat(), line, &[]);
    assert_eq!(code, 0, "{stderr}");
    let id = shell.quietly(&["schedule", "trigger", "crontab/read"]);
    shell.quietly(&["task", "wait", id.trim()]);
    let result = shell.quietly(&["task", "result", id.trim()]);
    let result: Value = serde_json::from_str(&result).unwrap();
    assert_eq!(result["stdout"], "hello world 5%\n");
}

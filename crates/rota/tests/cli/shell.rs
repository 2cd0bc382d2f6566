//! A server of our own, and a shell that writes down what is said to it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

/// What differs from run to run, and the word for it. Applied in order.
const FILTERS: [(&str, &str); 20] = [
    (r"\bt_[0-9a-z]{13}\b", "[task]"),
    (r"\bs_[0-9a-z]+\b", "[session]"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "[date]"),
    (r"http://127\.0\.0\.1:[1-9]\d{4}", "[server]"),
    (r"\bpid \d+", "pid [pid]"),
    (r"within \d+ ms", "within [while]"),
    (r"\d+ [KMG]?i?B of \d+ [KMGT]iB", "[size]"),
    (r"\b(\d+(\.\d+)?(ms|[smhd])( )?)+ ago", "[while] ago"),
    (r"\bin \d[0-9dmsh. ]*[dmsh]\b", "in [while]"),
    (r"[\w-]+@[\w.-]+ \[while\] ago", "[author] [while] ago"),
    (r#""lease_token": \d+"#, r#""lease_token": [token]"#),
    (r#""(heartbeat_age|oldest_pending_age)": "[^"]+""#, r#""$1": "[while]""#),
    (r"file:/[^ ]*/", "file:[directory]/"),
    (r#""head": \d+"#, r#""head": [batch]"#),
    (r"\b[0-9a-f]{32}\b", "[checksum]"),
    (r#""fingerprint": "[0-9a-f]{16}""#, r#""fingerprint": "[fingerprint]""#),
    (r"fingerprint: [0-9a-f]{16}", "fingerprint: [fingerprint]"),
    // Columns are as wide as what was replaced in them.
    (r" {4,}", "   "),
    (r"   \d+m?s   ", "   [while]   "),
    // It is raised within seconds.
    (r"Feature level   \d.*", "Feature level   [level]"),
];

/// A program that is told nothing by the environment of these tests.
pub(crate) fn rota(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rota"));
    command.env_clear().current_dir(dir).env("HOME", dir);
    for name in ["PATH", "LLVM_PROFILE_FILE"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// A `rota dev` on a port and in a directory of its own; killed when dropped.
pub(crate) struct Server {
    child: Child,
    url: String,
    dir: TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// One with these variables.
    pub(crate) fn start_with(variables: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (child, url) = serve(dir.path(), "127.0.0.1:0", variables);
        Self { child, url, dir }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Ends at once, as by a loss of power.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts again at the same address, with what it kept.
    pub(crate) fn start_again(&mut self) {
        let listen = self.url.trim_start_matches("http://").to_owned();
        (self.child, self.url) = serve(self.dir.path(), &listen, &[]);
    }

    pub(crate) fn shell(&self) -> Shell {
        Shell { url: Some(self.url.clone()), dir: self.dir.path().into(), text: String::new() }
    }

    /// Waits until the worker has connected.
    pub(crate) fn ready(self) -> Self {
        let mut shell = self.shell();
        while !shell.quietly(&["workers", "list", "-o", "json"]).contains("\"name\": \"dev\"") {}
        self
    }
}

/// The process and its URL.
fn serve(dir: &Path, listen: &str, variables: &[(&str, &str)]) -> (Child, String) {
    let mut child = rota(dir)
        .args(["dev", "--listen", listen, "--log-format", "json"])
        .args(["--name", "dev", "--slots", "4", "--allow-command"])
        .envs(variables.iter().copied())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let url = loop {
        let mut line = String::new();
        assert!(log.read_line(&mut line).unwrap() > 0, "the server ended");
        let said: serde_json::Value = serde_json::from_str(&line).expect("a log in JSON");
        if said["message"] == "serving" {
            break said["url"].as_str().expect("a URL").to_owned();
        }
    };
    // Somebody must read it, or the server would wait.
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    (child, url)
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs commands and keeps the transcript.
pub(crate) struct Shell {
    url: Option<String>,
    dir: Box<Path>,
    text: String,
}

impl Shell {
    /// One without a server.
    pub(crate) fn alone(dir: &Path) -> Self {
        Self { url: None, dir: dir.into(), text: String::new() }
    }

    pub(crate) fn run(
        &self,
        args: &[&str],
        input: &str,
        variables: &[(&str, &str)],
    ) -> (i32, String, String) {
        let mut command = rota(&self.dir);
        if let Some(url) = &self.url {
            command.env("ROTA_URL", url);
        }
        command.envs(variables.iter().copied()).args(args);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).unwrap();
            text
        });
        let output = child.wait_with_output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        (output.status.code().expect("it was not killed"), stdout, errors.join().unwrap())
    }

    /// Runs a command that is not of interest itself; its output.
    pub(crate) fn quietly(&mut self, args: &[&str]) -> String {
        let (code, stdout, stderr) = self.run(args, "", &[]);
        assert_eq!(code, 0, "{args:?}: {stdout}{stderr}");
        stdout
    }

    /// Runs a command and writes down what came of it.
    pub(crate) fn say(&mut self, args: &[&str]) -> &mut Self {
        self.say_with(args, "", &[])
    }

    /// The same with input and variables.
    pub(crate) fn say_with(
        &mut self,
        args: &[&str],
        input: &str,
        variables: &[(&str, &str)],
    ) -> &mut Self {
        let (code, stdout, stderr) = self.run(args, input, variables);
        let mut line = String::new();
        for (name, value) in variables {
            line.push_str(&format!("{name}={value} "));
        }
        line.push_str("rota");
        for arg in args {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,".contains(c);
            let quoted = !arg.chars().all(plain) || arg.is_empty();
            line.push_str(&if quoted { format!(" '{arg}'") } else { format!(" {arg}") });
        }
        self.text.push_str(&format!("$ {line}\n{stdout}"));
        if !stdout.is_empty() && !stdout.ends_with('\n') {
            self.text.push('\n');
        }
        for line in stderr.lines() {
            self.text.push_str(&format!("stderr: {line}\n"));
        }
        if code != 0 {
            self.text.push_str(&format!("exit code: {code}\n"));
        }
        self.text.push('\n');
        self
    }

    /// Leaves lines out of what was written down so far.
    pub(crate) fn without(&mut self, left_out: impl Fn(&str) -> bool) -> &mut Self {
        let kept: Vec<&str> = self.text.lines().filter(|line| !left_out(line)).collect();
        self.text = kept.join("\n") + "\n\n";
        self
    }

    /// Compares the transcript with the one that is kept.
    pub(crate) fn matches(&self, name: &str) {
        self.compare(name, &FILTERS);
    }

    /// Compares the transcript with the one that is kept, dates and durations included.
    pub(crate) fn matches_exactly(&self, name: &str) {
        self.compare(name, &[]);
    }

    fn compare(&self, name: &str, filters: &[(&str, &str)]) {
        let mut settings = insta::Settings::clone_current();
        settings.set_prepend_module_to_snapshot(false);
        settings.set_snapshot_path("snapshots");
        settings.set_omit_expression(true);
        for (pattern, word) in filters {
            settings.add_filter(pattern, *word);
        }
        settings.add_filter(&self.dir.display().to_string(), "[dir]");
        settings.bind(|| insta::assert_snapshot!(name, self.text));
    }
}

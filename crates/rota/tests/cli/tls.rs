//! TLS on the command line: a first try with a self-signed certificate, and what somebody is told who does not agree
//! with the server on TLS.

use std::path::Path;

use crate::shell::{Server, Shell, rota};

const SELF_SIGNED: [(&str, &str); 1] = [("ROTA_TLS_SELF_SIGNED", "true")];

/// What a command says that must end with this code.
fn ends(shell: &Shell, code: i32, args: &[&str], variables: &[(&str, &str)]) -> String {
    let (ended, out, errors) = shell.run(args, "", variables);
    assert_eq!(ended, code, "{args:?}: {out}{errors}");
    out + &errors
}

#[test]
fn a_first_try_by_tls_needs_one_flag_on_each_side() {
    let server = Server::start_with(&SELF_SIGNED);
    assert!(server.url().starts_with("https://127.0.0.1:"), "{}", server.url());
    let shell = Shell::alone(server.dir());
    // The worker of `rota dev` works by TLS as well.
    let run = ["task", "create", "--command", "--wait", "--url", server.url()];
    let run = [&run[..], &["--ca-file", "rota-tls/cert.pem", "--", "echo", "by TLS"]].concat();
    assert!(ends(&shell, 0, &run, &[]).contains("completed"));
    let trusted = [("ROTA_URL", server.url()), ("ROTA_CA_FILE", "rota-tls/cert.pem")];
    ends(&shell, 0, &["info"], &trusted);
    let config = ends(&shell, 0, &["config"], &trusted);
    assert!(config.contains("variable ROTA_CA_FILE"), "{config}");
}

#[test]
fn who_does_not_agree_on_tls_is_told_what_to_do() {
    let (server, plain) = (Server::start_with(&SELF_SIGNED), Server::start());
    let shell = Shell::alone(server.dir());
    let told = ends(&shell, 5, &["info", "--url", server.url()], &[]);
    assert!(told.contains("no authority that this client trusts"), "{told}");
    assert!(told.contains("--ca-file") && told.contains("ROTA_CA_FILE"), "{told}");
    let http = server.url().replace("https://", "http://");
    let told = ends(&shell, 5, &["info", "--url", &http], &[]);
    assert!(told.contains("use https:// instead of http://"), "{told}");
    assert!(!told.contains("is a server running"), "{told}");
    let https = plain.url().replace("http://", "https://");
    let trusted = [("ROTA_CA_FILE", "rota-tls/cert.pem")];
    let told = ends(&shell, 5, &["info", "--url", &https], &trusted);
    assert!(told.contains("use http:// instead of https://"), "{told}");
}

#[test]
fn files_that_cannot_be_used_are_wrong_usage() {
    let dir = tempfile::tempdir().unwrap();
    let shell = Shell::alone(dir.path());
    let told = ends(&shell, 2, &["info", "--url", "https://localhost:1", "--ca-file", "none"], &[]);
    assert!(told.contains("none: No such file"), "{told}");
    let told = ends(&shell, 2, &["info", "--url", "https://localhost:1", "--cert-file", "a"], &[]);
    assert!(told.contains("cert_file is set, and key_file is not"), "{told}");
    let told = ends(&shell, 2, &["server", "--tls-cert-file", "a"], &[]);
    assert!(told.contains("tls_cert_file is set, and tls_key_file is not"), "{told}");
    let told = ends(&shell, 2, &["server", "--listen", "0.0.0.0:0", "--tls-self-signed"], &[]);
    assert!(told.contains("tls_client_ca_file"), "TLS alone protects nothing: {told}");
}

#[test]
fn a_key_is_in_no_log_at_the_loudest_level() {
    let dir = tempfile::tempdir().unwrap();
    let path: &Path = dir.path();
    // It makes the files, and ends because the port of nobody is asked for.
    let args = ["server", "--tls-self-signed", "--listen", "192.0.2.1:1", "--log", "trace"];
    let output = rota(path).args(args).env("ROTA_API_TOKENS", "0123456789abcdef").output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("self-signed certificate"), "{said}");
    let key = std::fs::read_to_string(path.join("rota-tls/key.pem")).unwrap();
    for line in key.lines().filter(|line| !line.starts_with("--")) {
        assert!(!said.contains(line), "{said}");
    }
}

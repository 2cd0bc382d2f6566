//! Handshakes between the two ends, over a stream in memory: who is let in, and what the others are told.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{fs, path::PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use rota_tls::{
    AcceptError, ClientFiles, Connector, Fault, ServerFiles, ServerTls, is_refusal, self_signed,
    self_signed_files,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

/// A directory with authorities and certificates.
struct Files {
    dir: TempDir,
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn for_names(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    CertificateParams::new(names).unwrap()
}

impl Files {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn trust(&self, name: &str, authority: &Authority) -> PathBuf {
        fs::write(self.path(name), authority.pem()).unwrap();
        self.path(name)
    }

    /// Writes a certificate and its key.
    fn sign(&self, name: &str, params: &CertificateParams, by: &Authority) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let cert = params.clone().signed_by(&key, by).unwrap();
        let (cert_file, key_file) =
            (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")));
        fs::write(&cert_file, cert.pem()).unwrap();
        fs::write(&key_file, key.serialize_pem()).unwrap();
        (cert_file, key_file)
    }
}

fn server((cert, key): (PathBuf, PathBuf), client_ca: Option<PathBuf>) -> ServerTls {
    ServerTls::open(ServerFiles { cert, key, client_ca }).unwrap()
}

fn trusting(ca: PathBuf) -> ClientFiles {
    ClientFiles { ca: Some(ca), ..ClientFiles::default() }
}

/// Sends a word in both directions. The error is the client's.
async fn talk(server: &ServerTls, client: &Connector, name: &str) -> std::io::Result<()> {
    let (ours, theirs) = duplex(16 << 10);
    let serve = async {
        let Ok(mut stream) = server.accept(theirs).await else { return };
        let mut word = [0; 4];
        if stream.read_exact(&mut word).await.is_ok() {
            stream.write_all(&word).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    };
    let ask = async {
        let mut stream = client.connect(name, ours).await?;
        stream.write_all(b"word").await?;
        stream.flush().await?;
        let mut word = [0; 4];
        stream.read_exact(&mut word).await?;
        assert_eq!(&word, b"word");
        Ok(())
    };
    tokio::join!(serve, ask).1
}

async fn refused(server: &ServerTls, client: &Connector, name: &str) -> String {
    let error = talk(server, client, name).await.expect_err("a refusal");
    Fault::of(&error).unwrap_or_else(|| panic!("no words for {error:?}")).to_string()
}

#[tokio::test]
async fn both_ends_talk_to_names_and_addresses() {
    let (files, ca) = (Files::new(), authority("ca"));
    let own = files.sign("server", &for_names(&["rota.example", "127.0.0.1", "::1"]), &ca);
    let server = server(own, None);
    let client = Connector::open(trusting(files.trust("ca.pem", &ca))).unwrap();
    for name in ["rota.example", "127.0.0.1", "::1", "[::1]"] {
        talk(&server, &client, name).await.unwrap();
    }
}

#[tokio::test]
async fn a_certificate_that_does_not_fit_is_refused_in_words() {
    let (files, ca) = (Files::new(), authority("ca"));
    let trusted = files.trust("ca.pem", &ca);
    let client = Connector::open(trusting(trusted)).unwrap();
    let good = || for_names(&["rota.example"]);
    let mut expired = good();
    expired.not_before = date_time_ymd(2020, 1, 1);
    expired.not_after = date_time_ymd(2021, 1, 1);
    let mut early = good();
    early.not_before = date_time_ymd(2200, 1, 1);
    early.not_after = date_time_ymd(2201, 1, 1);
    let mut for_clients = good();
    for_clients.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let mut of_an_authority = good();
    of_an_authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let other = authority("other");
    for (params, by, words) in [
        (good(), &other, "no authority that this client trusts has signed"),
        (
            for_names(&["other.example", "10.0.0.1"]),
            &ca,
            "not for the name rota.example, but for other.example, 10.0.0.1",
        ),
        (expired, &ca, "has expired"),
        (early, &ca, "not valid yet"),
        (for_clients, &ca, "lacks serverAuth"),
        (of_an_authority, &ca, "CA:TRUE"),
    ] {
        let server = server(files.sign("server", &params, by), None);
        let told = refused(&server, &client, "rota.example").await;
        assert!(told.contains(words), "{words}: {told}");
    }
}

#[tokio::test]
async fn a_demanded_certificate_is_presented_or_its_lack_is_told() {
    let (files, ca, clients, others) =
        (Files::new(), authority("ca"), authority("clients"), authority("others"));
    let own = files.sign("server", &for_names(&["localhost"]), &ca);
    let server = server(own, Some(files.trust("clients.pem", &clients)));
    assert!(server.demands_certificate());
    let trusted = files.trust("ca.pem", &ca);
    let with = |(cert, key): (PathBuf, PathBuf)| {
        let files = ClientFiles { ca: Some(trusted.clone()), cert: Some(cert), key: Some(key) };
        Connector::open(files).unwrap()
    };
    let good = with(files.sign("good", &for_names(&["worker-1"]), &clients));
    talk(&server, &good, "localhost").await.unwrap();

    let none = Connector::open(trusting(trusted.clone())).unwrap();
    let told = refused(&server, &none, "localhost").await;
    assert!(told.contains("demands a client certificate") && is_refusal(&told), "{told}");

    let stranger = with(files.sign("stranger", &for_names(&["worker-1"]), &others));
    let told = refused(&server, &stranger, "localhost").await;
    assert!(told.contains("refused the client certificate") && is_refusal(&told), "{told}");

    let mut expired = for_names(&["worker-1"]);
    expired.not_after = date_time_ymd(2021, 1, 1);
    expired.not_before = date_time_ymd(2020, 1, 1);
    let late = with(files.sign("late", &expired, &clients));
    let told = refused(&server, &late, "localhost").await;
    assert!(told.contains("(expired)") && is_refusal(&told), "{told}");
}

#[tokio::test]
async fn who_does_not_speak_tls_is_known_by_the_first_bytes() {
    let (files, ca) = (Files::new(), authority("ca"));
    let server = server(files.sign("server", &for_names(&["localhost"]), &ca), None);
    for (bytes, is_http2) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], false),
        (b"PUT / HTTP/1.1\r\n\r\n", false),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", true),
        (b"x", false),
    ] {
        let (mut ours, theirs) = duplex(1024);
        ours.write_all(bytes).await.unwrap();
        ours.shutdown().await.unwrap();
        let accepted = server.accept(theirs).await;
        let Err(AcceptError::Plain { http2, .. }) = accepted else { panic!("{accepted:?}") };
        assert_eq!(http2, is_http2);
    }
    let (ours, theirs) = duplex(1024);
    drop(ours);
    assert!(matches!(server.accept(theirs).await, Err(AcceptError::Handshake(_))));
}

#[tokio::test]
async fn a_server_without_tls_is_told_from_others() {
    let (files, ca) = (Files::new(), authority("ca"));
    let client = Connector::open(trusting(files.trust("ca.pem", &ca))).unwrap();
    for (answer, words) in [
        (&b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"[..], "use http:// instead"),
        (b"", "closed the connection during the TLS handshake"),
    ] {
        let (ours, mut theirs) = duplex(1024);
        let serve = async {
            assert!(theirs.read(&mut [0; 1024]).await.unwrap() > 0);
            theirs.write_all(answer).await.unwrap();
            theirs.shutdown().await.unwrap();
        };
        let error = tokio::join!(serve, client.connect("localhost", ours)).1.unwrap_err();
        let told = Fault::of(&error).map(ToString::to_string).unwrap_or_default();
        assert!(told.contains(words), "{error:?}");
    }
}

#[tokio::test]
async fn changed_files_are_used_and_broken_ones_are_not() {
    let (files, ca, later) = (Files::new(), authority("ca"), authority("later"));
    let own = files.sign("server", &for_names(&["localhost"]), &ca);
    let server = server(own.clone(), None);
    let client = Connector::open(trusting(files.trust("ca.pem", &ca))).unwrap();
    assert!(!server.reload().unwrap(), "nothing has changed");
    talk(&server, &client, "localhost").await.unwrap();

    let before = server.expires();
    let mut longer = for_names(&["localhost"]);
    longer.not_after = date_time_ymd(2055, 1, 1);
    files.sign("server", &longer, &later);
    assert!(server.reload().unwrap());
    assert!(server.expires() != before);
    let told = refused(&server, &client, "localhost").await;
    assert!(told.contains("no authority"), "{told}");
    // The client looks at its files, too.
    files.trust("ca.pem", &later);
    talk(&server, &client, "localhost").await.unwrap();

    // A half of a pair, as when one file is written before the other.
    let half = fs::read(&own.0).unwrap();
    files.sign("server", &longer, &later);
    fs::write(&own.0, half).unwrap();
    let error = server.reload().unwrap_err().to_string();
    assert!(error.contains("server.key") && error.contains("not the key"), "{error}");
    fs::write(&own.0, "no certificate").unwrap();
    let error = server.reload().unwrap_err().to_string();
    assert!(error.contains("server.pem: no certificate in PEM format"), "{error}");
    fs::write(files.path("ca.pem"), "").unwrap();
    talk(&server, &client, "localhost").await.expect("both keep what worked");
}

#[tokio::test]
async fn what_a_key_file_holds_is_never_shown() {
    let (files, ca) = (Files::new(), authority("ca"));
    let (cert, key) = files.sign("server", &for_names(&["localhost"]), &ca);
    let secret = fs::read_to_string(&key).unwrap();
    let line = secret.lines().nth(1).unwrap();
    let mut shown = vec![format!("{:?}", server((cert.clone(), key.clone()), None))];
    let connector = Connector::open(ClientFiles {
        ca: Some(files.trust("ca.pem", &ca)),
        cert: Some(cert.clone()),
        key: Some(key.clone()),
    });
    shown.push(format!("{connector:?}"));
    for broken in [
        secret.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"),
        secret.replace("-----END", "----END"),
        secret.replace(line, &line.replacen(&line[..4], "****", 1)),
    ] {
        fs::write(&key, broken).unwrap();
        let opened =
            ServerTls::open(ServerFiles { cert: cert.clone(), key: key.clone(), client_ca: None });
        let error = opened.unwrap_err();
        shown.push(format!("{error} {error:?}"));
    }
    assert!(shown[2].contains("encrypted"), "{shown:?}");
    for text in shown {
        assert!(!text.contains(&line[8..]), "{text}");
    }
}

#[tokio::test]
async fn a_self_signed_certificate_is_trusted_by_its_file_and_kept() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("tls");
    let names = || vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    self_signed(&dir, names()).unwrap();
    let (cert, key) = self_signed_files(&dir);
    let mode = fs::metadata(&key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let first = fs::read(&cert).unwrap();
    self_signed(&dir, names()).unwrap();
    assert_eq!(fs::read(&cert).unwrap(), first, "a restart does not change what clients trust");
    let server = server((cert.clone(), key), None);
    let client = Connector::open(trusting(cert.clone())).unwrap();
    for name in ["localhost", "127.0.0.1", "::1"] {
        talk(&server, &client, name).await.unwrap();
    }
    let told = refused(&server, &client, "elsewhere.example").await;
    assert!(told.contains("but for"), "{told}");
    // One that is about to expire is replaced.
    let mut old = for_names(&["localhost"]);
    old.not_after = date_time_ymd(2021, 1, 1);
    fs::write(&cert, old.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()).unwrap();
    self_signed(&dir, names()).unwrap();
    assert!(server.reload().unwrap());
    talk(&server, &Connector::open(trusting(cert)).unwrap(), "localhost").await.unwrap();
}

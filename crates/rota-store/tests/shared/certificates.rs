//! Certificates for tests of TLS.

use std::{path::Path, process::Command};

/// An authority, a certificate of a server and one of a node signed by it, and another authority.
pub(crate) fn certificates(dir: &Path) {
    let openssl = |arguments: &str| {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(dir)
            .output()
            .expect("openssl is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    for authority in ["ca", "other"] {
        openssl(&format!(
            "req -x509 {key} -keyout {authority}.key -out {authority}.pem -days 2 -subj /CN={authority}"
        ));
    }
    std::fs::write(dir.join("extensions"), "subjectAltName=IP:127.0.0.1").unwrap();
    for (name, authority) in [("server", "ca"), ("node", "ca"), ("stranger", "other")] {
        openssl(&format!("req {key} -keyout {name}.key -out {name}.csr -subj /CN={name}"));
        openssl(&format!(
            "x509 -req -in {name}.csr -CA {authority}.pem -CAkey {authority}.key -CAcreateserial \
             -out {name}.pem -days 2 -extfile extensions"
        ));
    }
}

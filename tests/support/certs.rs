//! Certificates, made by the openssl program once in each test process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::process::run;
use super::scratch::Folder;

/// A certificate and its key.
#[derive(Debug, Clone)]
pub struct Pair {
    /// PEM of the certificate.
    pub cert: PathBuf,
    /// PEM of the key (PKCS#8), readable by the servers' user only.
    pub key: PathBuf,
}

/// What the tests use.
#[derive(Debug)]
pub struct Certs {
    /// PEM of the authority that signed all but `stranger`: what a client is told to trust.
    pub ca: PathBuf,
    /// For `localhost`, `db.test`, `redis.test`, `api.test` and 127.0.0.1; good for 90 days.
    pub good: Pair,
    /// For the same names; ends in ten days.
    pub ending: Pair,
    /// For the same names, and good for ninety days; by an authority in between that ends in ten, whose certificate
    /// is in the same file.
    pub below_ending: Pair,
    /// The same, where the one in between ended on 2020-02-01.
    pub below_ended: Pair,
    /// For the same names; ends never, in the way of RFC 5280.
    pub endless: Pair,
    /// For the same names; ended on 2020-02-01.
    pub expired: Pair,
    /// For the same names; begins on 2090-01-01.
    pub future: Pair,
    /// For `elsewhere.test` only.
    pub other_name: Pair,
    /// For the same names as `good`, by an authority that nobody trusts.
    pub stranger: Pair,
}

const NAMES: &str = "DNS:localhost,DNS:db.test,DNS:redis.test,DNS:api.test,IP:127.0.0.1";

/// The certificates of this test process.
pub fn certs() -> &'static Certs {
    static CERTS: OnceLock<Certs> = OnceLock::new();
    CERTS.get_or_init(|| {
        let (authority, strange) = (Authority::new("ca"), Authority::new("strange-ca"));
        let fresh = ["-days", "90"];
        let soon = ["-days", "10"];
        let past = ["-startdate", "20200101000000Z", "-enddate", "20200201000000Z"];
        let later = ["-startdate", "20900101000000Z", "-enddate", "20910101000000Z"];
        let never = ["-startdate", "20200101000000Z", "-enddate", "99991231235959Z"];
        let below = |name: &str, validity: &[&str]| {
            let between = authority.delegate(&format!("{name}-between"), validity);
            let pair = between.sign(name, NAMES, &fresh);
            let chain = [&pair.cert, &between.pair.cert].map(|file| fs::read_to_string(file).expect("read"));
            fs::write(&pair.cert, chain.concat()).expect("write");
            pair
        };
        Certs {
            ending: authority.sign("ending", NAMES, &soon),
            below_ending: below("below-ending", &soon),
            below_ended: below("below-ended", &past),
            endless: authority.sign("endless", NAMES, &never),
            good: authority.sign("good", NAMES, &fresh),
            expired: authority.sign("expired", NAMES, &past),
            future: authority.sign("future", NAMES, &later),
            other_name: authority.sign("other-name", "DNS:elsewhere.test", &fresh),
            stranger: strange.sign("stranger", NAMES, &fresh),
            ca: authority.pair.cert,
        }
    })
}

struct Authority {
    dir: PathBuf,
    pair: Pair,
}

impl Authority {
    fn new(name: &str) -> Self {
        let folder = Folder::new(name);
        let dir = folder.path().to_owned();
        // It lives as long as the process; the reaper removes it.
        std::mem::forget(folder);
        let pair = Pair { cert: dir.join("ca.pem"), key: dir.join("ca.key") };
        let mut request = Command::new("openssl");
        request.args(["req", "-x509", "-days", "90", "-subj"]).arg(format!("/CN=sickbay tests {name}"));
        new_key(&mut request, &pair.key).arg("-out").arg(&pair.cert);
        request.args(["-addext", "keyUsage=critical,keyCertSign,cRLSign"]);
        run(request);
        Self { dir, pair }
    }

    /// A certificate for a server.
    fn sign(&self, name: &str, names: &str, validity: &[&str]) -> Pair {
        let usage = "extendedKeyUsage = serverAuth\nbasicConstraints = CA:FALSE";
        self.certify(name, &format!("subjectAltName = {names}\n{usage}"), validity)
    }

    /// Another authority, below this one.
    fn delegate(&self, name: &str, validity: &[&str]) -> Self {
        let usage = "basicConstraints = critical,CA:TRUE\nkeyUsage = critical,keyCertSign,cRLSign";
        Self { dir: self.dir.clone(), pair: self.certify(name, usage, validity) }
    }

    /// Signs with `openssl ca`: of the openssl programs in use it alone can set an end in the past.
    fn certify(&self, name: &str, extensions: &str, validity: &[&str]) -> Pair {
        let file = |suffix: &str| self.dir.join(format!("{name}.{suffix}"));
        let pair = Pair { cert: file("pem"), key: file("key") };
        let (request, config, database) = (file("csr"), file("cnf"), file("txt"));
        let mut make = Command::new("openssl");
        make.args(["req", "-new", "-subj"]).arg(format!("/CN=sickbay test {name}"));
        make.arg("-out").arg(&request);
        new_key(&mut make, &pair.key);
        run(make);

        let settings = format!(
            "[ca]\ndefault_ca = it\n[it]\ndatabase = {}\nnew_certs_dir = {}\ndefault_md = sha256\n\
             policy = any\nrand_serial = yes\nunique_subject = no\n[any]\ncommonName = supplied\n\
             [it_has]\n{extensions}\n",
            database.display(),
            self.dir.display(),
        );
        for (path, content) in [(&config, settings.as_str()), (&database, "")] {
            fs::write(path, content).expect("write");
            super::user::give(path);
        }
        let mut sign = Command::new("openssl");
        sign.args(["ca", "-batch", "-notext", "-extensions", "it_has"]).args(validity);
        sign.arg("-config")
            .arg(&config)
            .arg("-cert")
            .arg(&self.pair.cert)
            .arg("-keyfile")
            .arg(&self.pair.key);
        sign.arg("-in").arg(&request).arg("-out").arg(&pair.cert);
        run(sign);
        pair
    }
}

/// Has the command make an elliptic key: quick, and good for TLS 1.2 and 1.3.
fn new_key<'a>(command: &'a mut Command, path: &Path) -> &'a mut Command {
    command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout"]).arg(path)
}

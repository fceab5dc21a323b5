//! The programs under test, each alone on its core: the agent, and HAProxy beside it.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::machine::Cores;
use super::support::scratch::{self, Folder};
use super::support::wait::eventually;
use super::support::{client, ports};

/// A running program. Dropped, it is gone.
#[derive(Debug)]
pub struct Tested {
    /// Where it answers.
    pub address: SocketAddr,
    child: Child,
    _folder: Folder,
}

impl Tested {
    /// The agent with this configuration, answering.
    pub async fn sickbay(cores: &Cores, config: &Value) -> Self {
        let agent = Self::sickbay_unseen(cores, config);
        agent.until_it_answers("/health/live").await;
        agent
    }

    /// The agent, just started.
    pub fn sickbay_unseen(cores: &Cores, config: &Value) -> Self {
        let folder = Folder::new("sickbay");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::spare()));
        let mut command = sickbay(cores);
        // Logging as a task has it, into a file that takes every line.
        command.env("SICKBAY_LISTEN", address.to_string()).env("SICKBAY_LOG_FORMAT", "json").arg("run");
        for file in config_files(&folder, config) {
            command.arg("--config").arg(file);
        }
        Self::start(command, address, folder)
    }

    /// HAProxy with one thread and this behind its usual settings, answering `monitor-uri`.
    pub async fn haproxy(cores: &Cores, more: &str) -> Self {
        let folder = Folder::new("haproxy");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::spare()));
        let settings = format!(
            "global\n  nbthread 1\n  maxconn 4000\n\
             defaults\n  mode http\n  timeout client 30s\n  timeout server 30s\n  timeout connect 3s\n\
             frontend health\n  bind {address}\n  monitor-uri /health/ready\n{more}"
        );
        let file = folder.write("haproxy.cfg", settings.as_bytes());
        let mut command = cores.on_tested("haproxy");
        command.env("PATH", super::path()).arg("-db").arg("-f").arg(file);
        let haproxy = Self::start(command, address, folder);
        haproxy.until_it_answers("/health/ready").await;
        haproxy
    }

    fn start(mut command: Command, address: SocketAddr, folder: Folder) -> Self {
        let log = File::create(folder.path().join("log")).expect("a log file");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("dup")).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        scratch::register(child.id());
        Self { address, child, _folder: folder }
    }

    /// Its number: `taskset` has become the program by the time it answers.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self._folder.path().join("log")).unwrap_or_default()
    }

    /// Waits until it gives any answer on this path.
    pub async fn until_it_answers(&self, path: &str) {
        let what = format!("an answer on {path}");
        eventually(&what, || async {
            client::get(self.address, path)
                .await
                .map_err(|error| format!("{error}; it printed:\n{}", self.log()))
        })
        .await;
    }

    /// Waits until it answers 200.
    pub async fn until_well(&self, path: &str) {
        eventually(&format!("200 on {path}"), || async {
            match client::get(self.address, path).await {
                Ok(answer) if answer.status == 200 => Ok(()),
                Ok(answer) => Err(format!("{answer}; it printed:\n{}", self.log())),
                Err(error) => Err(error),
            }
        })
        .await;
    }

    /// Waits until all of the agent's enabled dependencies have this status.
    pub async fn until_each_is(&self, status: &str) {
        eventually(&format!("every dependency to be {status}"), || async {
            let answer = client::get(self.address, "/health/detailed").await?.json();
            let dependencies = answer["dependencies"].as_object().cloned().unwrap_or_default();
            let other = dependencies.iter().find(|(_, it)| it["enabled"] == true && it["status"] != status);
            other.map_or(Ok(()), |(name, it)| Err(format!("{name}: {it}")))
        })
        .await;
    }
}

impl Drop for Tested {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        scratch::unregister(self.child.id());
    }
}

/// The program: the release build, which lies a folder above this one.
pub fn binary() -> PathBuf {
    let given = std::env::var_os("BENCH_BINARY").map(PathBuf::from);
    let own = std::env::current_exe().expect("this program's path");
    let beside = own.parent().and_then(Path::parent).map(|release| release.join("sickbay"));
    let binary = given.or(beside).and_then(|path| path.canonicalize().ok());
    binary.expect("the release build of sickbay: `make bench` makes it")
}

/// The built program, with nothing of the caller's environment.
pub fn sickbay(cores: &Cores) -> Command {
    let mut command = cores.on_tested(binary().to_str().expect("UTF-8"));
    command.env_clear().env("PATH", super::path()).current_dir(scratch::root());
    command
}

/// A file holds so many dependencies at most, by its limits of size and of values.
const IN_ONE_FILE: usize = 4000;

/// Writes the configuration, over several files where it is long.
pub fn config_files(folder: &Folder, config: &Value) -> Vec<PathBuf> {
    let dependencies = config["dependencies"].as_array().expect("a list");
    let parts = dependencies.chunks(IN_ONE_FILE).enumerate().map(|(number, part)| {
        let mut config = config.clone();
        config["dependencies"] = part.into();
        folder.write(&format!("{number}.yaml"), config.to_string().as_bytes())
    });
    parts.collect()
}

/// Runs a program to its end and gives what it printed.
pub fn output(mut command: Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{printed}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    printed
}

/// Where a file of the authorities that the system trusts is, where it is.
pub fn system_authorities() -> Option<&'static Path> {
    let places =
        ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
    places.into_iter().map(Path::new).find(|path| path.is_file())
}

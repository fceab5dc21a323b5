//! The built binary: as the agent, and as a one-shot command.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::Method;
use rustix::process::{Pid, kill_process};
use serde_json::Value;

pub use rustix::process::Signal;

use super::client::{self, Response};
use super::wait::{PATIENCE, eventually, eventually_within};
use super::{ports, scratch};

/// How often the agent is given another port when its own was taken before it got to it.
const TRIES: usize = 5;
/// Its exit code where it cannot bind.
const CANNOT_BIND: i32 = 3;

/// A running agent. Dropped, it is gone.
#[derive(Debug)]
pub struct Agent {
    address: SocketAddr,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Agent {
    /// Starts `sickbay run` on the compiled-in configuration with these variables and no others (but `PATH`),
    /// and waits until it answers. `SICKBAY_LISTEN`, log format and level are set unless given.
    pub async fn start(env: &Env) -> Self {
        Self::start_with(&[], env).await
    }

    /// The same with arguments after `run`.
    pub async fn start_with(args: &[&str], env: &Env) -> Self {
        Self::start_as(&|| sickbay(env), args, env).await
    }

    /// The same in a shell that has run this before, such as `ulimit -n 64`.
    pub async fn start_within(before: &str, args: &[&str]) -> Self {
        let env = Env::new();
        Self::start_as(&|| in_shell(&format!("{before}; exec \"$0\" \"$@\""), &env), args, &env).await
    }

    async fn start_as(command: &dyn Fn() -> Command, args: &[&str], env: &Env) -> Self {
        let mut last = String::new();
        for _ in 0..TRIES {
            let mut agent = Self::spawn(command(), args, env, (Ipv4Addr::LOCALHOST, ports::spare()).into());
            match agent.until_it_answers().await {
                Ok(()) => return agent,
                Err(ended) if ended.code() == Some(CANNOT_BIND) => last = agent.output(),
                Err(ended) => panic!("the agent ended ({ended}):\n{}", agent.output()),
            }
        }
        panic!("the agent finds no port:\n{last}");
    }

    fn spawn(mut command: Command, args: &[&str], env: &Env, address: SocketAddr) -> Self {
        let defaults = [
            ("SICKBAY_LISTEN", address.to_string()),
            ("SICKBAY_LOG_FORMAT", "json".to_owned()),
            ("SICKBAY_LOG", "sickbay=debug,info".to_owned()),
        ];
        for (name, value) in defaults {
            if env.into_iter().all(|(given, _)| given != name) {
                command.env(name, value);
            }
        }
        command.arg("run").args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C is for the test runner.
        command.process_group(0);
        let mut child = command.spawn().expect("the binary starts");
        scratch::register(child.id());
        let lines = Arc::default();
        collect(child.stdout.take().expect("a pipe"), &lines);
        collect(child.stderr.take().expect("a pipe"), &lines);
        // A test that gives a listener of its own knows where it is.
        let given = env.into_iter().filter(|(name, _)| *name == "SICKBAY_LISTEN").last();
        let address = given.map_or(address, |(_, listen)| listen.parse().expect("an address"));
        Self { address, child, lines }
    }

    async fn until_it_answers(&mut self) -> Result<(), ExitStatus> {
        let address = self.address;
        eventually(&format!("the agent to answer on {address}"), || {
            let ended = self.child.try_wait().expect("wait");
            let output = self.output();
            async move {
                match ended {
                    Some(status) => Ok(Err(status)),
                    None => match client::get(address, "/health/live").await {
                        Ok(_) => Ok(Ok(())),
                        Err(error) => Err(format!("{error}; it has printed:\n{output}")),
                    },
                }
            }
        })
        .await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks it.
    pub async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path, &[], "").await
    }

    /// Asks it in some other way.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response {
        client::request(self.address, method, path, headers, body)
            .await
            .unwrap_or_else(|error| panic!("{path}: {error}; the agent has printed:\n{}", self.output()))
    }

    /// Asks until the answer is as wanted, and gives that answer.
    pub async fn until(&self, path: &str, wanted: impl Fn(&Response) -> bool, what: &str) -> Response {
        self.until_within(PATIENCE, path, wanted, what).await
    }

    /// [`Agent::until`] with a deadline of its own, for what is slow by configuration.
    pub async fn until_within(
        &self,
        patience: Duration,
        path: &str,
        wanted: impl Fn(&Response) -> bool,
        what: &str,
    ) -> Response {
        eventually_within(patience, &format!("{path} to show {what}"), || async {
            let answer = client::get(self.address, path).await?;
            if wanted(&answer) { Ok(answer) } else { Err(answer.to_string()) }
        })
        .await
    }

    /// One dependency of `/health/detailed`.
    pub async fn dependency(&self, name: &str) -> Value {
        let answer = self.get(&format!("/health/dependencies/{name}")).await;
        assert_eq!(answer.status, 200, "{name}: {answer}");
        answer.json()
    }

    /// Asks for one dependency until it is as wanted.
    pub async fn until_dependency(&self, name: &str, wanted: impl Fn(&Value) -> bool, what: &str) -> Value {
        let path = format!("/health/dependencies/{name}");
        let wanted = |answer: &Response| answer.status == 200 && wanted(&answer.json());
        self.until(&path, wanted, what).await.json()
    }

    /// All it has printed, on both streams, line by line.
    pub fn output(&self) -> String {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    /// The log so far: the printed lines that are JSON objects.
    pub fn logs(&self) -> Vec<Value> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let values = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        values.filter(Value::is_object).collect()
    }

    /// Waits for a log line.
    pub async fn until_logged(&self, wanted: impl Fn(&Value) -> bool, what: &str) -> Value {
        eventually(&format!("a log line with {what}"), || {
            let found = self.logs().into_iter().find(|line| wanted(line));
            std::future::ready(found.ok_or_else(|| self.output()))
        })
        .await
    }

    /// What it holds in memory, in KiB: `VmRSS` of the kernel.
    pub fn resident_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("it runs");
        let line =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a running process has it");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        send(&self.child, signal);
    }

    /// Waits for its end.
    pub async fn wait_exit(&mut self) -> ExitStatus {
        let output = Arc::clone(&self.lines);
        eventually("the agent's end", || {
            let printed = || output.lock().unwrap_or_else(PoisonError::into_inner).join("\n");
            let ended = self.child.try_wait().expect("wait");
            std::future::ready(ended.ok_or_else(|| format!("it runs, and has printed:\n{}", printed())))
        })
        .await
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        scratch::unregister(self.child.id());
    }
}

/// What a one-shot command did.
#[derive(Debug, Clone)]
pub struct Output {
    /// The exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// All of stdout.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
}

impl Output {
    /// Stdout as one JSON document.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }
}

/// Runs `sickbay ARGS` to its end, with these variables and no others (but `PATH`).
pub async fn run_cli(args: &[&str], env: &Env) -> Output {
    run_cli_with(args, env, |_| {}).await
}

/// The same with something about the process changed: its folder, a variable that is no text.
pub async fn run_cli_with(args: &[&str], env: &Env, change: impl FnOnce(&mut Command)) -> Output {
    let mut command = sickbay(env);
    change(&mut command);
    to_its_end(command, args).await
}

/// Runs `sickbay ARGS` to its end through another command, such as `nsenter --net=… --`.
pub async fn run_cli_through(command: &[&str], args: &[&str], env: &Env) -> Output {
    let (program, arguments) = command.split_first().expect("a command");
    let mut through = Command::new(program);
    through.args(arguments).arg(env!("CARGO_BIN_EXE_sickbay"));
    to_its_end(prepared(through, env), args).await
}

/// Runs `sickbay ARGS` with this as its standard output.
pub async fn run_cli_into(stdout: impl Into<Stdio>, args: &[&str], env: &Env) -> Output {
    to_its_end_into(stdout.into(), sickbay(env), args).await
}

/// Runs a script to its end, in which `"$0" "$@"` is `sickbay ARGS`.
pub async fn run_in_shell(script: &str, args: &[&str], env: &Env) -> Output {
    to_its_end(in_shell(script, env), args).await
}

/// A one-shot command that runs. Dropped, it is gone.
#[derive(Debug)]
pub struct Running {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Running {
    /// Starts `sickbay ARGS`.
    pub fn start(args: &[&str], env: &Env) -> Self {
        let mut command = sickbay(env);
        command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C is for the test runner.
        command.process_group(0);
        let mut child = command.spawn().expect("the binary starts");
        scratch::register(child.id());
        let lines = Arc::default();
        collect(child.stdout.take().expect("a pipe"), &lines);
        collect(child.stderr.take().expect("a pipe"), &lines);
        Self { child, lines }
    }

    /// Waits until it has printed this.
    pub async fn until_printed(&self, wanted: &str) {
        eventually(&format!("\"{wanted}\""), || {
            let printed = self.lines.lock().unwrap_or_else(PoisonError::into_inner).join("\n");
            std::future::ready(if printed.contains(wanted) { Ok(()) } else { Err(printed) })
        })
        .await;
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        send(&self.child, signal);
    }

    /// Waits for its end: how it ended, and all that it has printed on both streams.
    pub async fn ended(mut self) -> (ExitStatus, String) {
        let status = eventually("its end", || {
            std::future::ready(self.child.try_wait().expect("wait").ok_or("it runs"))
        })
        .await;
        // Its pipes are read to their ends a moment later.
        let lines = Arc::clone(&self.lines);
        drop(self);
        eventually("the end of its output", || {
            let readers = Arc::strong_count(&lines) - 1;
            std::future::ready(if readers == 0 { Ok(()) } else { Err(format!("{readers} are read")) })
        })
        .await;
        let printed = lines.lock().unwrap_or_else(PoisonError::into_inner).join("\n");
        (status, printed)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        scratch::unregister(self.child.id());
    }
}

async fn to_its_end(command: Command, args: &[&str]) -> Output {
    to_its_end_into(Stdio::piped(), command, args).await
}

async fn to_its_end_into(stdout: Stdio, command: Command, args: &[&str]) -> Output {
    let mut command = tokio::process::Command::from(command);
    command.args(args).stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped()).kill_on_drop(true);
    let output = command.spawn().expect("the binary starts").wait_with_output();
    let output = tokio::time::timeout(PATIENCE, output)
        .await
        .unwrap_or_else(|_| panic!("sickbay {args:?} does not end within {PATIENCE:?}"))
        .expect("it is waited for");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Output { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Variables, put together from what servers say of themselves and what a test sets; the last of a name wins.
#[derive(Debug, Clone, Default)]
pub struct Env(Vec<(String, String)>);

impl Env {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// With those of a server: `Env::new().of(postgres.env())`.
    #[must_use]
    pub fn of(mut self, server: Vec<(String, String)>) -> Self {
        self.0.extend(server);
        self
    }

    /// With one more.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.0.push((name.to_owned(), value.to_string()));
        self
    }
}

impl<'a> IntoIterator for &'a Env {
    type Item = (&'a str, &'a str);
    type IntoIter = Box<dyn Iterator<Item = Self::Item> + 'a>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.0.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }
}

fn sickbay(env: &Env) -> Command {
    prepared(Command::new(env!("CARGO_BIN_EXE_sickbay")), env)
}

fn in_shell(script: &str, env: &Env) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_sickbay")]);
    prepared(command, env)
}

fn prepared(mut command: Command, env: &Env) -> Command {
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    // Coverage of the binary is counted like that of the library.
    if let Some(profile) = std::env::var_os("LLVM_PROFILE_FILE") {
        command.env("LLVM_PROFILE_FILE", profile);
    }
    command.envs(env).stdin(Stdio::null());
    // No file of the caller's folder has a say.
    command.current_dir(scratch::root());
    command
}

fn send(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process number");
    let _ = kill_process(pid, signal);
}

/// Keeps reading, so that the pipe never fills and stalls the agent.
fn collect(stream: impl Read + Send + 'static, lines: &Arc<Mutex<Vec<String>>>) {
    let lines = Arc::clone(lines);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    });
}

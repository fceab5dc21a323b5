//! A case: what is broken, what `sickbay diagnose` says of it, and the row of it in `docs/diagnosis.md`.
//!
//! `SICKBAY_WRITE=1` writes the rows instead of comparing them. Read what it wrote.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use crate::support::agent::{Env, Output, run_cli};
use crate::support::config::Config;
use crate::support::http::{Answer, HttpServer};
use crate::support::lab::{Host, Lab};
use crate::support::scratch;

/// The modules beside this one, in the order of the table.
const MODULES: [&str; 6] = ["network", "names", "tls", "postgres", "redis", "ports"];
/// With fewer, a fault that people meet would be missing.
const AT_LEAST: usize = 35;
const BEGIN: &str = "<!-- cases -->\n";
const END: &str = "<!-- /cases -->\n";
/// The head of the table. A row begins with the name of its test.
const HEAD: &str = "| case | what is broken | hop | failure_kind | cause | confidence | it says | first advice |\n\
                    | --- | --- | --- | --- | --- | --- | --- | --- |\n";

/// Where ECS tells a task where it runs.
const METADATA: &str = "169.254.170.2";

/// What is diagnosed.
pub struct Subject {
    target: String,
    config: Option<Config>,
    /// What differs from run to run.
    ports: Vec<String>,
    passwords: Vec<String>,
    in_a_task: bool,
}

/// What a diagnosis said.
pub struct Seen {
    output: Output,
    report: Value,
    ports: Vec<String>,
}

/// A target that stands in no configuration.
pub fn target(target: impl Into<String>) -> Subject {
    let target = target.into();
    Subject { ports: spare_ports(&target), target, config: None, passwords: Vec::new(), in_a_task: false }
}

/// The only dependency of a configuration.
pub fn dependency(it: Value) -> Subject {
    first_of([it])
}

/// The first dependency of a configuration.
pub fn first_of(dependencies: impl IntoIterator<Item = Value>) -> Subject {
    // The product's own timings: what is printed is what users see.
    let dependencies: Vec<Value> = dependencies.into_iter().collect();
    let text = |field: &'static str| dependencies.iter().filter_map(move |it| it[field].as_str());
    let target = text("name").next().expect("a dependency").to_owned();
    let passwords = text("password").map(str::to_owned).collect();
    let content = json!({ "dependencies": dependencies });
    Subject {
        target,
        ports: spare_ports(&content.to_string()),
        config: Some(Config::of(&content)),
        passwords,
        in_a_task: false,
    }
}

/// Numbers of five digits: the ports of servers that were started for the test.
fn spare_ports(text: &str) -> Vec<String> {
    let numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|digits| digits.len() == 5);
    numbers.map(str::to_owned).collect()
}

/// What ECS tells a task whose network is this one.
fn metadata(lab: &Lab) -> HttpServer {
    lab.ip(Host::Client, &format!("address add {METADATA}/32 dev lo"));
    let sample = include_str!("../../data/ecs-task-v4.json");
    let here =
        [("10.0.2.106", "10.77.1.10"), ("10.0.2.0/24", "10.77.1.0/24"), ("10.0.2.1/24", "10.77.1.1/24")];
    let task = here.into_iter().fold(sample.to_owned(), |text, (there, here)| text.replace(there, here));
    HttpServer::on(lab.tcp_of(Host::Client, &format!("{METADATA}:80")), Answer::status(200).body(task))
}

impl Subject {
    /// Diagnoses it from here.
    pub async fn here(self) -> Seen {
        let output = run_cli(&self.arguments(), &Env::new()).await;
        self.seen(output)
    }

    /// The client is a task of ECS, as its metadata tell.
    #[must_use]
    pub fn in_a_task(self) -> Self {
        Self { in_a_task: true, ..self }
    }

    /// Diagnoses it from the client of this network.
    pub async fn within(self, lab: &Lab) -> Seen {
        let metadata = self.in_a_task.then(|| metadata(lab));
        let env = match metadata {
            Some(_) => Env::new().set("ECS_CONTAINER_METADATA_URI_V4", format!("http://{METADATA}/v4/x")),
            None => Env::new(),
        };
        let output = lab.sickbay(&self.arguments(), &env).await;
        self.seen(output)
    }

    fn arguments(&self) -> Vec<&str> {
        let config = self.config.iter().flat_map(|config| ["--config", config.path()]);
        ["diagnose", &self.target, "--format", "json"].into_iter().chain(config).collect()
    }

    /// What holds of every report, whatever it says.
    fn seen(self, output: Output) -> Seen {
        let report = output.json();
        let ok = report["ok"].as_bool().unwrap_or_else(|| panic!("{report:#}"));
        assert_eq!(output.code, Some(if ok { 0 } else { 1 }), "{report:#}");
        assert_eq!(report["failure_kind"].is_null(), ok, "{report:#}");
        let hops = report["hops"].as_array().expect("a list");
        let after_the_failed: Vec<&Value> =
            hops.iter().skip_while(|hop| hop["ok"] != false).filter(|hop| hop["ok"] == true).collect();
        assert!(after_the_failed.is_empty(), "taken after one that failed: {report:#}");
        assert_eq!(hops.iter().any(|hop| hop["ok"] == false), !ok, "{report:#}");
        for field in ["summary", "because", "advice"] {
            let told = &report["verdict"][field];
            let empty =
                told.as_str().is_some_and(str::is_empty) || told.as_array().is_some_and(Vec::is_empty);
            assert!(!empty || report["verdict"]["cause"] == "works", "{field}: {report:#}");
        }
        for password in &self.passwords {
            assert!(!format!("{output:?}").contains(password), "a secret is shown: {report:#}");
        }
        Seen { output, report, ports: self.ports }
    }
}

impl Seen {
    /// Holds it to be this: the hop that fails, the failure kind, the cause and the confidence; and a line of the advice to
    /// have this in it. `-` stands for none. `test` is the test's name, and `broken` says what is, for people.
    pub fn is(self, test: &str, broken: &str, expected: [&str; 4], advice: &str) {
        let verdict = &self.report["verdict"];
        let hops = self.report["hops"].as_array().expect("a list");
        let failed = hops.iter().find(|hop| hop["ok"] == false);
        let told = [
            failed.map_or("-", |hop| text(&hop["hop"])),
            text(&self.report["failure_kind"]),
            text(&verdict["cause"]),
            text(&verdict["confidence"]),
        ];
        assert_eq!(told, expected, "{broken}: {:#}\n{}", self.report, self.output.stderr);
        let lines: Vec<&str> = verdict["advice"].as_array().expect("a list").iter().map(text).collect();
        assert!(
            lines.iter().any(|line| line.contains(advice)) || (advice == "-" && lines.is_empty()),
            "no advice has {advice:?}: {:#}",
            self.report
        );
        let first = lines.first().map_or_else(|| "-".to_owned(), |line| in_short(line));
        let cells = [broken, told[0], told[1], told[2], told[3], text(&verdict["summary"]), &first];
        let cells = cells.map(|cell| self.the_same_in_each_run(cell).replace('|', "\\|")).join(" | ");
        hold_row(test, &format!("| `{test}` | {cells} |\n"));
    }

    /// Holds the summary or the evidence for it to have this in it.
    #[must_use]
    pub fn saying(self, what: &str) -> Self {
        let verdict = &self.report["verdict"];
        let because = verdict["because"].as_array().into_iter().flatten().map(text);
        let told = std::iter::once(text(&verdict["summary"])).chain(because);
        assert!(told.into_iter().any(|line| line.contains(what)), "nothing says {what:?}: {:#}", self.report);
        self
    }

    /// Without ports, paths and times.
    fn the_same_in_each_run(&self, text: &str) -> String {
        let text = self.ports.iter().fold(text.to_owned(), |text, port| text.replace(port, "PORT"));
        let words: Vec<String> = text.split(' ').map(without_path).collect();
        let timed = words.iter().enumerate().map(|(at, word)| {
            let next = words.get(at + 1).map(|next| next.trim_end_matches([',', ';', '.', ':', ')']));
            let unit = matches!(next, Some("ms" | "s" | "day" | "days"));
            without_time(word, unit)
        });
        timed.collect::<Vec<_>>().join(" ")
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

/// With no more of a long command than what it begins with: a table has no room for it.
fn in_short(advice: &str) -> String {
    const LONG: usize = 80;
    let shortened = advice.split('`').enumerate().map(|(at, part)| {
        let is_command = at % 2 == 1;
        if !is_command || part.len() <= LONG {
            return part.to_owned();
        }
        format!("{} …", part.split(' ').take(3).collect::<Vec<_>>().join(" "))
    });
    shortened.collect::<Vec<_>>().join("`")
}

/// A path of this test process becomes `FILE`.
fn without_path(word: &str) -> String {
    let root = scratch::root().to_str().expect("UTF-8");
    let Some(begin) = word.find(root) else { return word.to_owned() };
    let rest = &word[begin..];
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "/._-".contains(c))).unwrap_or(rest.len());
    format!("{}FILE{}", &word[..begin], &rest[end..])
}

/// A number with a unit, which is in this word or the next one, becomes `…`; and so does a date of this century's later
/// years.
fn without_time(word: &str, a_unit_follows: bool) -> String {
    let core = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let number = core.strip_suffix("ms").or(core.strip_suffix("µs")).or(core.strip_suffix('s'));
    let is_number = |text: &str| text.parse::<f64>().is_ok();
    let is_date = core.len() >= 10 && core.is_char_boundary(10) && {
        let digits = core[..10].bytes().enumerate();
        digits
            .into_iter()
            .all(|(at, byte)| if at == 4 || at == 7 { byte == b'-' } else { byte.is_ascii_digit() })
    };
    match number {
        Some(number) if is_number(number) => word.replace(number, "…"),
        None if a_unit_follows && is_number(core) => word.replace(core, "…"),
        _ if is_date && !core.starts_with("2020") => word.replace(core, "…"),
        _ => word.to_owned(),
    }
}

/// Whether this run writes the table.
fn writing() -> bool {
    std::env::var_os("SICKBAY_WRITE").is_some()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page() -> PathBuf {
    root().join("docs/diagnosis.md")
}

/// The page up to its table, the rows, and the rest.
fn table(page: &str) -> (&str, Vec<&str>, &str) {
    let (before, rest) = page.split_once(BEGIN).expect("the place of the table");
    let (table, after) = rest.split_once(END).expect("the end of the table");
    let rows = table.split_inclusive('\n').filter(|line| line.starts_with("| `"));
    (before, rows.collect(), after)
}

/// The test that a row is of.
fn name(row: &str) -> &str {
    row.trim_start_matches("| `").split('`').next().unwrap_or_default()
}

/// The tests of the cases, in the order of the source.
fn tests() -> Vec<String> {
    let modules = MODULES.map(|module| {
        let file = root().join(format!("tests/integration/diagnosis/{module}.rs"));
        fs::read_to_string(file).expect("the source of the cases")
    });
    let tests =
        modules.iter().flat_map(|source| source.split("#[tokio::test(flavor = \"multi_thread\")]\n").skip(1));
    let names = tests.map(|test| test.trim_start_matches("async fn ").split('(').next().unwrap_or_default());
    names.map(str::to_owned).collect()
}

/// Writes the row, or holds the table to have it.
fn hold_row(test: &str, row: &str) {
    static WRITING: Mutex<()> = Mutex::new(());
    let tests = tests();
    assert!(tests.iter().any(|known| known == test), "{test} is no test of a case");
    if writing() {
        let _alone = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        let page_now = fs::read_to_string(page()).expect("the page");
        let (before, mut rows, after) = table(&page_now);
        rows.retain(|kept| name(kept) != test);
        rows.push(row);
        // In the order of the tests, and without what is a test no more.
        let rows = tests.iter().filter_map(|test| rows.iter().find(|row| name(row) == test)).copied();
        let rows: String = rows.collect();
        fs::write(page(), format!("{before}{BEGIN}\n{HEAD}{rows}\n{END}{after}")).expect("written");
    }
    let page_now = fs::read_to_string(page()).expect("the page");
    let kept = table(&page_now).1.into_iter().find(|kept| name(kept) == test).unwrap_or("nothing\n");
    assert!(
        kept == row,
        "docs/diagnosis.md has\n{kept}and it says\n{row}If that is meant, run: \
         SICKBAY_WRITE=1 cargo test --test integration diagnosis\nand read what it writes."
    );
}

#[test]
fn the_table_has_each_case_once_and_nothing_else() {
    let tests = tests();
    assert!(tests.len() >= AT_LEAST, "{} cases", tests.len());
    let page = fs::read_to_string(page()).expect("the page");
    let rows: Vec<&str> = table(&page).1.into_iter().map(name).collect();
    // While they are written, some are yet to come.
    assert!(writing() || rows == tests, "rows: {rows:#?}\ntests: {tests:#?}");
}

#[test]
fn what_differs_from_run_to_run_is_not_kept() {
    let output = Output { code: Some(0), stdout: String::new(), stderr: String::new() };
    let seen = Seen { output, report: Value::Null, ports: vec!["23456".into()] };
    let file = scratch::root().join("config3/ca.pem");
    for (told, kept) in [
        ("127.0.0.1:23456 answered in 0.4 ms, twice", "127.0.0.1:PORT answered in … ms, twice"),
        ("no answer (3.0 s), four tries", "no answer (… s), four tries"),
        ("within 2.5s: nothing", "within …s: nothing"),
        ("ended on 2020-02-01, ends 2031-05-06T00:00:00Z", "ended on 2020-02-01, ends …"),
        ("PostgreSQL 15 says 53300", "PostgreSQL 15 says 53300"),
        ("in 90 days", "in … days"),
    ] {
        assert_eq!(seen.the_same_in_each_run(told), kept);
    }
    let long = format!("look: `aws ec2 describe-security-groups {}`, or `ss -ltn`", "x".repeat(80));
    assert_eq!(in_short(&long), "look: `aws ec2 describe-security-groups …`, or `ss -ltn`");
    let told = format!("authorities in {}: none", file.display());
    assert_eq!(seen.the_same_in_each_run(&told), "authorities in FILE: none");
}

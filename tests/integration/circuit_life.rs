//! The whole life of a circuit, driven over HTTP against a PostgreSQL that is stopped and started, and each number that is
//! told of it explained.

use hyper::Method;
use serde_json::{Value, json};

use crate::support::agent::{Agent, Env};
use crate::support::client::Response;
use crate::support::config::{Config, on_postgres, quick};
use crate::support::postgres::{Postgres, PostgresOptions};

const TOKEN: &str = "a-token-of-the-tests";

async fn post(agent: &Agent, path: &str, body: Value) -> Response {
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    agent.request(Method::POST, path, &headers, &body.to_string()).await
}

/// Posts, and gives the circuit that is answered.
async fn done(agent: &Agent, path: &str, body: Value) -> Value {
    let answer = post(agent, path, body).await;
    assert_eq!(answer.status, 200, "{path}: {answer}");
    answer.json()
}

async fn until_circuit(agent: &Agent, wanted: impl Fn(&Value) -> bool, what: &str) -> Value {
    agent.until("/circuits/database", |answer| wanted(&answer.json()), what).await.json()
}

async fn code(agent: &Agent, path: &str) -> u16 {
    agent.get(path).await.status
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("a number is wanted: {value}"))
}

/// From, to and reason of each transition.
fn transitions(circuit: &Value) -> Vec<[&str; 3]> {
    let all = circuit["transitions"].as_array().expect("a list");
    all.iter().map(|it| ["from", "to", "reason"].map(|field| it[field].as_str().expect("a text"))).collect()
}

/// What a circuit tells has to agree with itself and with the agent's clock.
async fn adds_up(agent: &Agent) {
    let all = agent.get("/health/detailed").await.json();
    let circuit = &all["dependencies"]["database"]["circuit"];
    let spent = circuit["time_in_state_seconds"].as_object().expect("a map");
    let spent: f64 = spent.values().map(|span| span.as_f64().expect("seconds")).sum();
    let uptime = all["uptime_seconds"].as_f64().expect("seconds");
    // Each is cut to the millisecond.
    assert!(
        (spent - uptime).abs() < 0.01,
        "{spent} s in all states, {uptime} s since the start: {circuit:#}"
    );
    let kinds = circuit["failures_by_kind"].as_object().expect("a map");
    let (successes, failures) = (number(&circuit["successes"]), number(&circuit["failures"]));
    assert_eq!(kinds.values().map(number).sum::<u64>(), failures, "{circuit:#}");
    let rate = successes as f64 / (successes + failures) as f64;
    let near = |told: &Value, rate: f64| told.as_f64().is_some_and(|told| (told - rate).abs() < 0.001);
    assert!(
        near(&circuit["success_rate"], rate) && near(&circuit["failure_rate"], 1.0 - rate),
        "{circuit:#}"
    );
    // All of it happened within the last quarter of an hour.
    let lately = &circuit["rates"]["15m"];
    assert_eq!(number(&lately["checks"]), successes + failures, "{circuit:#}");
    assert_eq!(lately["success_rate"], circuit["success_rate"]);
    let measured = |[from, to, reason]: &[&str; 3]| {
        *to == "open" && (*from == "half_open" || *from == "closed") && !reason.starts_with("forced")
    };
    let opened = transitions(circuit).iter().filter(|it| measured(it)).count() as u64;
    assert_eq!(number(&circuit["opens"]), opened, "{circuit:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_life_of_a_circuit() {
    let mut database = Postgres::start(PostgresOptions::default()).await;
    let mut content = quick([on_postgres("database", &database, json!({}))]);
    content["server"]["admin_token"] = TOKEN.into();
    let config = Config::of(&content);
    let agent = Agent::start_with(&["--config", config.path()], &Env::new()).await;

    // Closed.
    let circuit = until_circuit(&agent, |it| it["successes"].as_u64() >= Some(3), "successes").await;
    assert_eq!(
        (&circuit["state"], &circuit["override"], &circuit["opens"]),
        (&json!("closed"), &Value::Null, &json!(0))
    );
    assert_eq!(circuit["transitions"], json!([]));
    adds_up(&agent).await;

    // Open, by as many failures as are allowed; then half open and open again, as often as the trials find nobody.
    database.stop().await;
    let circuit = until_circuit(&agent, |it| it["opens"].as_u64() >= Some(2), "a second opening").await;
    let life = transitions(&circuit);
    assert_eq!(life[0][..2], ["closed", "open"]);
    assert!(life[0][2].starts_with("3 failed checks in a row, the last by "), "{life:?}");
    assert_eq!(life[1], ["open", "half_open", "the recovery timeout has passed"]);
    assert_eq!(life[2][..2], ["half_open", "open"]);
    assert!(life[2][2].starts_with("a trial failed by "), "{life:?}");
    assert!(
        number(&circuit["consecutive_failures"]) >= 4 && circuit["consecutive_successes"] == 0,
        "{circuit:#}"
    );
    assert_eq!((code(&agent, "/health/ready").await, code(&agent, "/health/alb").await), (503, 200));
    adds_up(&agent).await;

    // Closed again, after as many trials in a row as are wanted.
    database.restart().await;
    let circuit = until_circuit(&agent, |it| it["state"] == "closed", "recovery").await;
    assert_eq!(transitions(&circuit).last(), Some(&["half_open", "closed", "3 checks in a row succeeded"]));
    assert_eq!((&circuit["consecutive_failures"], &circuit["next_trial_at"]), (&json!(0), &Value::Null));
    assert_eq!(code(&agent, "/health/ready").await, 200);
    adds_up(&agent).await;

    // Forced open, and of no account.
    let order = json!({"reason": "upgrade to 16", "for": "30m", "readiness": "ignore"});
    let circuit = done(&agent, "/circuits/database/open", order).await;
    let held = &circuit["override"];
    let [mode, reason, actor, readiness] =
        ["mode", "reason", "actor", "readiness"].map(|it| held[it].as_str());
    assert_eq!(
        [mode, reason, actor, readiness],
        [Some("forced_open"), Some("upgrade to 16"), Some("admin"), Some("ignore")]
    );
    assert_eq!((&circuit["dependency"], &circuit["state"]), (&json!("database"), &json!("open")));
    assert_eq!(circuit["next_trial_at"], held["expires_at"]);
    assert_eq!(agent.dependency("database").await["status"], "down");
    assert_eq!((code(&agent, "/health/ready").await, code(&agent, "/health/alb").await), (200, 200));
    let refused = post(&agent, "/checks/database", json!({})).await;
    assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (409, Some("held_open")));
    // The same, and it counts.
    done(&agent, "/circuits/database/open", json!({"reason": "still upgrading"})).await;
    assert_eq!((code(&agent, "/health/ready").await, code(&agent, "/health/alb").await), (503, 200));
    adds_up(&agent).await;

    // Forced closed: what fails meanwhile is counted, and opens nothing.
    database.stop().await;
    let opens = circuit["opens"].clone();
    done(&agent, "/circuits/database/close", json!({"reason": "I know better", "for": "1h"})).await;
    let circuit = until_circuit(
        &agent,
        |it| it["consecutive_failures"].as_u64() >= Some(5),
        "more failures than open it",
    )
    .await;
    assert_eq!((&circuit["state"], &circuit["opens"]), (&json!("closed"), &opens));
    assert_eq!(agent.dependency("database").await["status"], "degraded");
    assert_eq!(code(&agent, "/health/ready").await, 200);
    adds_up(&agent).await;

    // Expired: a trial decides.
    done(&agent, "/circuits/database/close", json!({"reason": "a little longer", "for": "500ms"})).await;
    let circuit =
        until_circuit(&agent, |it| it["opens"].as_u64() > opens.as_u64(), "the trial after it").await;
    let life = transitions(&circuit);
    let expired =
        life.iter().rposition(|it| *it == ["closed", "half_open", "the time of forced_closed is over"]);
    let expired = expired.unwrap_or_else(|| panic!("{life:?}"));
    assert_eq!(life[expired + 1][..2], ["half_open", "open"], "{life:?}");
    assert_eq!(circuit["override"], Value::Null);
    adds_up(&agent).await;

    // Reset: the past is forgotten, and a trial decides.
    database.restart().await;
    let circuit = done(&agent, "/circuits/database/reset", json!({})).await;
    assert_eq!(circuit["consecutive_failures"], 0, "{circuit:#}");
    let circuit = until_circuit(&agent, |it| it["state"] == "closed", "recovery").await;
    assert!(transitions(&circuit).iter().any(|it| it[1] == "half_open"), "{circuit:#}");
    adds_up(&agent).await;

    // A check now, beside the schedule.
    let checked = post(&agent, "/checks/database", json!({})).await;
    assert_eq!((checked.status, &checked.json()["last_check"]["ok"]), (200, &json!(true)), "{checked}");

    // The log has each transition, and who did what; the last of it comes a moment after the answer.
    let last = |line: &Value| line["target"] == "audit" && line["action"] == "check" && line["code"] == 200;
    agent.until_logged(last, "the check that was ordered").await;
    let circuit = agent.get("/circuits/database").await.json();
    let logs = agent.logs();
    for [from, to, reason] in transitions(&circuit) {
        let told = logs.iter().any(|line| {
            line["circuit_from"] == from
                && line["circuit_to"] == to
                && line["message"].as_str().is_some_and(|message| message.ends_with(reason))
        });
        assert!(told, "{from} → {to} ({reason}) is not in the log");
    }
    let audited: Vec<&Value> = logs.iter().filter(|line| line["target"] == "audit").collect();
    assert_eq!(audited.len(), 7, "{audited:?}");
    assert!(!agent.output().contains(TOKEN));
}

//! What is told of a server that is well, compared with what it says of itself.

use serde_json::{Value, json};

use super::plain;
use crate::support::config::{check, on_postgres};
use crate::support::postgres::DATABASE;

#[tokio::test(flavor = "multi_thread")]
async fn the_details_are_the_servers_own() {
    let server = plain().await;
    let seen = check([on_postgres("database", &server, json!({}))]).await;
    let details = &seen["database"]["details"];
    let asked =
        server.sql("SELECT current_setting('server_version'), current_database(), current_user").await;
    let own = [&asked[0][0], &asked[0][1], &asked[0][2]].map(|text| json!(text));
    assert_eq!(
        [&details["server_version"], &details["database"], &details["user"]],
        [&own[0], &own[1], &own[2]]
    );
    assert_eq!([&details["role"], &details["read_only"]], [&json!("primary"), &json!(false)]);
    assert_eq!(seen["database"]["address"], format!("127.0.0.1:{}", server.port()));
    assert_eq!(seen["database"]["target"], format!("127.0.0.1:{}/{DATABASE}", server.port()));
    let check = &seen["database"]["last_check"];
    let sum: f64 = check["phases_ms"].as_object().expect("phases").values().filter_map(Value::as_f64).sum();
    let whole = check["duration_ms"].as_f64().expect("a number");
    assert!(sum > 0.0 && sum <= whole, "the phases are parts of the whole: {check}");
}

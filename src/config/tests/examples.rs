//! The example files in `config/` are read as they stand.

use super::*;
use crate::config::plan::SslMode;

fn example(name: &str, env: &[(&str, &str)]) -> Plan {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config").join(name);
    load(&Sources { files: vec![file], ..Files::new(&[]).sources(env) })
        .unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn production() {
    let files = Files::new(&[]);
    let bundle = files.add("bundle.pem", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n");
    let plan = example(
        "production.yaml",
        &[
            ("DATABASE_HOST", "db.internal"),
            ("DATABASE_PASSWORD", "hunter2"),
            ("DATABASE_SSLROOTCERT", &bundle),
            ("REDIS_HOST", "cache.internal"),
            ("REDIS_PASSWORD", "hunter2"),
        ],
    );
    let database = postgres(&plan, "database");
    assert_eq!((*database.sslmode(), database.password().is_some()), (SslMode::VerifyFull, true));
    assert!(redis(&plan, "redis").tls().is_some());
    assert_eq!(disabled(&plan, "replica").as_deref(), Some("disabled by configuration"));
    assert_eq!(plan.warnings(), [] as [&str; 0]);
    assert!(!plan.effective().to_string().contains("hunter2"));
}

#[test]
fn production_tells_what_it_lacks() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config/production.yaml");
    let errors = load(&Sources { files: vec![file], ..Sources::default() }).unwrap_err().to_string();
    for variable in ["DATABASE_HOST", "DATABASE_PASSWORD", "REDIS_HOST"] {
        assert!(errors.contains(&format!("the variable {variable} is not set")), "{errors}");
    }
}

#[test]
fn local() {
    let plan = example("local.yaml", &[]);
    assert_eq!(postgres(&plan, "database").host(), "127.0.0.1");
    assert_eq!(dependency(&plan, "api").policy().target, "127.0.0.1:8000");
    assert_eq!(plan.warnings(), [] as [&str; 0]);
}

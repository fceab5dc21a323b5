//! Where a setting stands. Steps name the variable of the environment that sets a field, and so do the hints of checks; but
//! these variables are those of the dependencies that are compiled in. For any other one the place of the field is named
//! instead, and for a URL of the command line its part.

use crate::config::env::{Sets, VARIABLES};
use crate::diagnose::evidence::Subject;

/// The step with the settings of this subject.
pub(in crate::diagnose) fn placed(step: String, subject: &Subject) -> String {
    VARIABLES.iter().fold(step, |step, variable| {
        let (name, field) = match variable.sets {
            Sets::Dependency { name, field, .. } => (name, field),
            Sets::Several(name) => (name, "url"),
            Sets::Field(_) | Sets::File | Sets::NotYet { .. } => return step,
        };
        if is_own(subject, name) || !step.contains(variable.name) {
            return step;
        }
        let place = match &subject.dependency {
            Some(dependency) => format!("`dependencies.{dependency}.{field}`"),
            None => in_url(field),
        };
        without_what_it_was_beside(step.replace(&format!(" (for PostgreSQL also {})", variable.name), ""))
            .replace(&format!("{}=", variable.name), &format!("{place} to "))
            .replace(variable.name, &place)
    })
}

/// Whether the variables of this compiled-in dependency are the subject's.
fn is_own(subject: &Subject, name: &str) -> bool {
    subject.dependency.as_deref() == Some(name)
}

/// A part of a URL.
fn in_url(field: &str) -> String {
    match field {
        "root_cert" => "`sslrootcert` in the URL".to_owned(),
        "sslmode" => "`sslmode` in the URL".to_owned(),
        "username" => "the user in the URL".to_owned(),
        "tls.enabled" => "TLS in the URL".to_owned(),
        "url" => "the URL".to_owned(),
        field => format!("the {field} in the URL"),
    }
}

/// Without the field that stood beside the variable: its place says as much.
fn without_what_it_was_beside(step: String) -> String {
    let mut step = step.replace(" (`root_cert`)", "");
    for (begin, end) in [(", or `", "` in the configuration"), (" (`", "` in the configuration)")] {
        let Some(from) = step.find(begin) else { continue };
        let inside = from + begin.len();
        if let Some(length) = step[inside..].find('`')
            && step[inside + length..].starts_with(end)
        {
            step.replace_range(from..inside + length + end.len(), "");
        }
    }
    step
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::test_support;
    use crate::health::Kind;

    #[test]
    fn a_variable_is_named_for_the_dependency_that_it_sets_and_no_other() {
        let mut subject = test_support::subject(Kind::Postgres, "db.internal", 5432);
        let step = "did you mean \"shop\"? set DATABASE_NAME=shop, or `database: shop` in the configuration";
        let mut told = |step: &str, dependency: Option<&str>| {
            subject.dependency = dependency.map(str::to_owned);
            placed(step.to_owned(), &subject)
        };
        assert_eq!(told(step, Some("database")), step);
        assert_eq!(
            told(step, Some("orders")),
            "did you mean \"shop\"? set `dependencies.orders.database` to shop"
        );
        assert_eq!(told(step, None), "did you mean \"shop\"? set the database in the URL to shop");
        for (step, of_cache, of_url) in [
            (
                "set DATABASE_PASSWORD, or `password` in the configuration",
                "set `dependencies.cache.password`",
                "set the password in the URL",
            ),
            (
                "set DATABASE_SSLMODE to verify-full (`sslmode` in the configuration)",
                "set `dependencies.cache.sslmode` to verify-full",
                "set `sslmode` in the URL to verify-full",
            ),
            ("unset REDIS_USERNAME", "unset `dependencies.cache.username`", "unset the user in the URL"),
            (
                "set `root_cert` (for PostgreSQL also DATABASE_SSLROOTCERT) to the file",
                "set `root_cert` to the file",
                "set `root_cert` to the file",
            ),
            (
                "set `role` (`tls` in the configuration)",
                "set `role` (`tls` in the configuration)",
                "set `role` (`tls` in the configuration)",
            ),
        ] {
            assert_eq!([told(step, Some("cache")), told(step, None)], [of_cache, of_url]);
        }
    }
}

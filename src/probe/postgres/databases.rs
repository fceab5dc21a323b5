//! The databases of a server, where the configured one is not among them.

use crate::clock::Deadline;
use crate::health::Failure;
use crate::probe::pooled::Seated;

use super::session::Connection;

/// Databases that every server has.
pub(super) const COMMON: [&str; 2] = ["postgres", "template1"];

/// Databases named in a message; a server can have thousands.
const TOLD: usize = 10;

/// Asks for all that the role could connect to, and ends the session. One that has not answered by the deadline is
/// dropped in the middle of the question, and so given up properly.
pub(super) async fn list(mut session: Seated<Connection>, deadline: Deadline) -> Option<Vec<String>> {
    let asking = session.session().databases(deadline);
    let listed = tokio::time::timeout_at(deadline.instant(), asking).await.ok()?;
    session.leave();
    listed.ok()
}

/// Tells a wrong name together with the right ones, where they are known.
pub(super) fn told(missing: Failure, wanted: &str, there: Option<&[String]>) -> Failure {
    let Some(there) = there else { return missing };
    let nearest = there
        .iter()
        .map(|name| (strsim::jaro_winkler(name, wanted), name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name);
    let mut told = there.iter().take(TOLD).cloned().collect::<Vec<_>>().join(", ");
    if there.len() > TOLD {
        told.push_str(&format!(" and {} more", there.len() - TOLD));
    }
    let hint = match nearest {
        Some(name) => format!(
            "did you mean \"{name}\"? set DATABASE_NAME={name}, or `database: {name}` in the configuration"
        ),
        None => {
            "set DATABASE_NAME, or `database` in the configuration, to one of these; or create it".to_owned()
        }
    };
    Failure { message: format!("{}; this server has: {told}", missing.message), hint, ..missing }
}

//! Keeps secrets out of what is told of a check.
//!
//! Peers repeat what they were sent: the headers of a request, the bytes of an echo. Whatever a probe tells of
//! them passes here once, so that no file has to remember it by itself; and what a diagnosis tells does.
//!
//! What peers say is also made short and printable here: it is kept with fifty checks, goes to logs where a line
//! is a record, and to terminals, and a peer that says a megabyte of anything must not decide over those.
//!
//! A password of PostgreSQL or Redis that could be an ordinary word, as `postgres` is in many a test, is not looked for:
//! it would be given away by the gap that it leaves in our own sentences. Their servers do not repeat passwords;
//! where Redis could, in refusing an `AUTH` that it does not know, its words are not told. An HTTP service may well
//! repeat what it was sent: such a word is looked for in what it says, which stands in quotation marks, and there only.

use std::collections::VecDeque;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use futures_util::future::BoxFuture;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::Probe;
use super::password::Password;
use crate::clock::Deadline;
use crate::config::Secret;
use crate::config::plan::{DependencyPlan, ProbePlan};
use crate::config::secret::REDACTED;
use crate::health::observation::{Connections, QueryValue, RedisReplication};
use crate::health::{Details, Failure, Outcome};
use crate::net::Trace;

/// Words shorter than this are not looked for: a password of one letter would take the letter out of every
/// message, and so tell itself.
const WORD_MIN: usize = 4;

/// Parts of a URL's path and query that are shorter are looked for only in the whole of it: `json` and `true` are no
/// tokens, and their gaps would only confuse.
const VALUE_MIN: usize = 8;

/// A password of letters alone that is longer is no word of ours, and is looked for like any other.
const ORDINARY_MAX: usize = 12;

/// So many passwords that a file held while we run are looked for, the newest ones: tokens that last a quarter of an hour
/// come to thousands in a month, and what is over is refused by the server.
const ROTATED_MAX: usize = 4;

/// No text that is told is longer, in characters; servers' own messages are a tenth of that.
const TEXT_MAX: usize = 1000;

/// No list that is told has more entries.
const LIST_MAX: usize = 50;

/// A probe whose words are looked through.
pub(super) struct Discreet {
    inner: Box<dyn Probe>,
    discretion: Discretion,
    /// It may be another one after an attempt than before.
    password: Option<Password>,
}

/// Knows what must not be told of one dependency.
pub struct Discretion {
    secrets: Secrets,
    /// Settings that were read from secret files: not to be shown even where they are no passwords.
    from_files: Vec<Secret>,
    /// The passwords that it had later, newest last, and how each could turn up.
    rotated: VecDeque<(Secret, Secrets)>,
}

impl Discreet {
    pub(super) fn new(
        inner: Box<dyn Probe>,
        probe: &ProbePlan,
        from_files: &[Secret],
        password: Option<Password>,
    ) -> Self {
        Self { inner, discretion: Discretion::new(probe, from_files), password }
    }
}

/// A setting as it may be shown.
pub(super) fn setting<'a, 's>(value: &'a str, from_files: impl IntoIterator<Item = &'s Secret>) -> &'a str {
    if from_files.into_iter().any(|secret| secret.expose() == value) { REDACTED } else { value }
}

impl Discretion {
    /// Of this dependency; `None` for one whose target is not known.
    pub fn of(plan: &DependencyPlan) -> Option<Self> {
        plan.probe().as_ref().map(|probe| Self::new(probe, plan.from_secret_files()))
    }

    fn new(probe: &ProbePlan, from_files: &[Secret]) -> Self {
        let secrets = Secrets::of(probe, from_files);
        Self { secrets, from_files: from_files.to_vec(), rotated: VecDeque::new() }
    }

    /// A text that may repeat what a peer said, as it can be told: short, printable, on one line, without secrets.
    pub fn told(&self, text: &str) -> String {
        let rotated = self.rotated.iter().map(|(_, secrets)| secrets);
        std::iter::once(&self.secrets).chain(rotated).fold(plain(text), |text, secrets| secrets.hide(&text))
    }

    /// A setting, such as the name of a host, as it may be shown.
    pub fn setting(&self, value: &str) -> String {
        setting(value, self.known()).to_owned()
    }

    /// Hides a password, too, that was read from its file while we run.
    fn notice_rotation(&mut self, current: Secret) {
        if self.known().any(|known| *known == current) {
            return;
        }
        if self.rotated.len() == ROTATED_MAX {
            self.rotated.pop_front();
        }
        let looked_for = (!ordinary(current.expose())).then_some(current.expose());
        let secrets = Secrets::from(looked_for, []);
        self.rotated.push_back((current, secrets));
    }

    /// What was read from secret files, at the start and since.
    fn known(&self) -> impl Iterator<Item = &Secret> {
        self.from_files.iter().chain(self.rotated.iter().map(|(secret, _)| secret))
    }

    /// What is seen repeats settings of ours, too: the session's user and database, the name that was asked for.
    fn look_through(&self, details: &mut Details) {
        match details {
            Details::Postgres(seen) => {
                seen.server_version = plain(&seen.server_version);
                for said in [&mut seen.user, &mut seen.database] {
                    *said = setting(&plain(said), self.known()).to_owned();
                }
                // Names of applications are what their clients chose.
                let Connections { by_state, by_application, this_task_by_state, .. } = &mut seen.connections;
                let counts = [by_state, by_application, this_task_by_state];
                let counted = counts.into_iter().flatten().flatten();
                counted.for_each(|(name, _)| *name = self.told(name));
                seen.hidden = seen.hidden.as_deref().map(|why| self.told(why));
                for query in &mut seen.queries {
                    query.problem = query.problem.as_deref().map(|problem| self.told(problem));
                    if let Some(QueryValue::Text(text)) = &mut query.value {
                        *text = self.told(text);
                    }
                }
            }
            Details::Redis(seen) => {
                let said =
                    [&mut seen.server_version, &mut seen.mode, &mut seen.maxmemory_policy, &mut seen.hidden];
                said.into_iter().flatten().for_each(|said| *said = self.told(said));
                seen.replication
                    .iter_mut()
                    .for_each(|replication| self.look_through_replication(replication));
            }
            Details::Dns(seen) => {
                seen.addresses.truncate(LIST_MAX);
                shorten(&mut seen.records);
                shorten(&mut seen.aliases);
                for answer in &mut seen.by_nameserver {
                    match &mut answer.records {
                        Ok(records) => shorten(records),
                        Err(error) => *error = self.told(error),
                    }
                }
            }
            Details::None | Details::Tcp(_) | Details::Http(_) => {}
        }
    }

    fn look_through_replication(&self, replication: &mut RedisReplication) {
        match replication {
            RedisReplication::Primary { replicas, .. } => {
                replicas.truncate(LIST_MAX);
                for replica in replicas {
                    replica.address = self.told(&replica.address);
                    replica.state = replica.state.as_deref().map(plain);
                }
            }
            RedisReplication::Replica { primary, .. } => {
                *primary = primary.as_deref().map(|primary| self.told(primary));
            }
        }
    }
}

/// A text of a peer as it can be told: on one line, without control characters, and not endless. What turns the direction
/// of writing around or cannot be seen at all is told by its number: a terminal would show another text than was said.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    for c in text.chars().take(TEXT_MAX) {
        match c {
            _ if c.is_control() => plain.push(' '),
            _ if is_unseen(c) => plain.extend(c.escape_unicode()),
            _ => plain.push(c),
        }
    }
    if text.chars().nth(TEXT_MAX).is_some() {
        plain.push('…');
    }
    plain
}

/// Characters of Unicode that have no shape: joiners, marks and overrides of the direction, other line ends, the mark of
/// byte order, tags.
fn is_unseen(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

fn shorten(list: &mut Vec<String>) {
    let left = list.len().saturating_sub(LIST_MAX);
    list.truncate(LIST_MAX);
    list.iter_mut().for_each(|entry| *entry = plain(entry));
    if left > 0 {
        list.push(format!("and {left} more"));
    }
}

impl Probe for Discreet {
    fn attempt<'a>(&'a mut self, deadline: Deadline, trace: &'a mut Trace) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let outcome = self.inner.attempt(deadline, trace).await;
            let current = self.password.as_ref().map(Password::current);
            if let Some(password) = current.filter(|password| password.file().is_some()) {
                self.discretion.notice_rotation(password);
            }
            let discretion = &self.discretion;
            discretion.look_through(&mut trace.seen);
            match outcome {
                Ok(mut seen) => {
                    seen.warnings.iter_mut().for_each(|warning| *warning = discretion.told(warning));
                    discretion.look_through(&mut seen.details);
                    Ok(seen)
                }
                // The hint is our own text and repeats nothing. Looked through, it would tell a password that is
                // one of its words: by the word that is missing.
                Err(failure) => Err(Failure {
                    message: discretion.told(&failure.message),
                    code: failure.code.map(|code| plain(&code)),
                    hint: plain(&failure.hint),
                    ..failure
                }),
            }
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        self.inner.close()
    }

    fn gone(&self) -> BoxFuture<'static, ()> {
        self.inner.gone()
    }
}

/// What must not be told, in every form in which it could turn up.
struct Secrets {
    everywhere: Vec<Secret>,
    /// The same with those that could be words of our own sentences, where there are any.
    in_quotes: Vec<Secret>,
}

impl Secrets {
    fn of(plan: &ProbePlan, from_files: &[Secret]) -> Self {
        let password = match plan {
            ProbePlan::Postgres(plan) => plan.password().as_ref(),
            ProbePlan::Redis(plan) => plan.password().as_ref(),
            ProbePlan::Dns(_) | ProbePlan::Tcp(_) | ProbePlan::Http(_) => None,
        };
        let password_of_letters = password.filter(|password| ordinary(password.expose()));
        let mut secrets: Vec<&str> = from_files
            .iter()
            .filter(|secret| Some(*secret) != password_of_letters)
            .map(Secret::expose)
            .collect();
        secrets.extend(password.filter(|password| !ordinary(password.expose())).map(Secret::expose));
        let mut sent = Vec::new();
        match plan {
            ProbePlan::Tcp(plan) => secrets.extend(plan.send().as_ref().map(Secret::expose)),
            ProbePlan::Http(plan) => {
                // A URL that is from a file, whole or in part, turns up in its parts, and spelled as a URL is.
                if secrets.iter().any(|secret| secret.contains("://")) {
                    let url = plan.url();
                    secrets.extend(url.host_str());
                    secrets.push(url.path().trim_start_matches('/'));
                    let segments = url.path_segments().into_iter().flatten();
                    secrets.extend(segments.filter(|segment| segment.len() >= VALUE_MIN));
                }
                // Many services take a token in the query, so no part of it is shown.
                let query = plan.url().query().unwrap_or_default();
                secrets.push(query);
                let values = query.split('&').filter_map(|pair| Some(pair.split_once('=')?.1));
                secrets.extend(values.filter(|value| value.len() >= VALUE_MIN));
                sent.extend(plan.headers().iter().flat_map(|(_, value)| parts_of_header(value.expose())));
            }
            ProbePlan::Postgres(_) | ProbePlan::Redis(_) | ProbePlan::Dns(_) => {}
        }
        Self::from(secrets, sent.iter().map(String::as_str))
    }

    /// Of `secrets` that are hidden wherever they stand, and of those that an HTTP service was sent.
    fn from<'a>(secrets: impl IntoIterator<Item = &'a str>, sent: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut in_quotes, unmistakable): (Vec<_>, Vec<_>) =
            forms(sent).into_iter().partition(|form| ordinary(form));
        let mut everywhere = forms(secrets);
        everywhere.extend(unmistakable);
        if !in_quotes.is_empty() {
            in_quotes.extend(everywhere.iter().cloned());
        }
        Self { everywhere: hidden_in_order(everywhere), in_quotes: hidden_in_order(in_quotes) }
    }

    fn hide(&self, text: &str) -> String {
        if self.in_quotes.is_empty() {
            return hide_all(&self.everywhere, text);
        }
        let piece = |(n, piece): (usize, &str)| match n % 2 {
            1 => hide_all(&self.in_quotes, piece),
            _ => piece.to_owned(),
        };
        let text: String = at_quotation_marks(text).into_iter().enumerate().map(piece).collect();
        hide_all(&self.everywhere, &text)
    }
}

/// A text in pieces: what stands before a quotation mark, behind it, behind the next one, and so on; each mark is at the
/// end of its piece. Within a quotation, one that is escaped is a part of it.
fn at_quotation_marks(text: &str) -> Vec<&str> {
    let (mut within, mut escaped) = (false, false);
    text.split_inclusive(|c| {
        let mark = c == '"' && !escaped;
        within ^= mark;
        escaped = within && c == '\\' && !escaped;
        mark
    })
    .collect()
}

/// What a header's value can turn up as: whole, in its parts, and decoded.
fn parts_of_header(value: &str) -> Vec<String> {
    let mut parts = vec![value.to_owned()];
    // `session=abc; theme=dark`
    let values = value.split(|c: char| c.is_whitespace() || "=;,\"".contains(c));
    parts.extend(values.filter(|part| part.len() >= VALUE_MIN).map(str::to_owned));
    if let Some(pair) = credentials(value) {
        let (user, password) = pair.split_once(':').unwrap_or_default();
        parts.extend([user, password].map(str::to_owned));
        parts.push(pair);
    }
    parts
}

/// User and password of `Basic dXNlcjpwYXNzd29yZA==`, as RFC 7617 has them; what is no UTF-8 is escaped, as it is shown.
fn credentials(value: &str) -> Option<String> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new()
            .with_decode_padding_mode(DecodePaddingMode::Indifferent)
            .with_decode_allow_trailing_bits(true),
    );
    let (scheme, encoded) = value.trim().split_once(char::is_whitespace)?;
    let pair = LENIENT.decode(encoded.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    Some(String::from_utf8(pair).unwrap_or_else(|error| error.as_bytes().escape_ascii().to_string()))
}

/// How these could turn up.
fn forms<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    /// What RFC 3986 leaves as it is.
    const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    let words = secrets
        .into_iter()
        // `Bearer abc` and `AUTH abc\r\n` hold a secret among other words.
        .flat_map(|secret| std::iter::once(secret).chain(secret.split_whitespace()));
    words
        // Bytes are shown escaped; and a service may lead elsewhere, to a URL that repeats them.
        .flat_map(|word| {
            let encoded = utf8_percent_encode(word, UNRESERVED).to_string();
            [word.to_owned(), word.as_bytes().escape_ascii().to_string(), encoded]
        })
        .filter(|form| form.len() >= WORD_MIN)
        .collect()
}

/// The longest first: what is part of another must not leave the rest of it behind.
fn hidden_in_order(mut forms: Vec<String>) -> Vec<Secret> {
    forms.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    forms.dedup();
    forms.into_iter().map(Secret::new).collect()
}

fn hide_all(secrets: &[Secret], text: &str) -> String {
    secrets.iter().fold(text.to_owned(), |text, secret| {
        let whole = text.replace(secret.expose(), REDACTED);
        hide_beginning(whole, secret.expose())
    })
}

/// Whether a secret could be a word of our own sentences.
fn ordinary(password: &str) -> bool {
    password.chars().count() <= ORDINARY_MAX && password.chars().all(char::is_alphabetic)
}

/// A text that was cut short with `…` may end within the secret.
fn hide_beginning(text: String, secret: &str) -> String {
    if !text.contains('…') {
        return text;
    }
    let cuts = secret.char_indices().map(|(at, _)| at).filter(|at| *at >= WORD_MIN).rev();
    cuts.fold(text, |text, at| text.replace(&format!("{}…", &secret[..at]), &format!("{REDACTED}…")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(secrets: &[&str], text: &str) -> String {
        Secrets::from(secrets.iter().copied(), []).hide(text)
    }

    #[test]
    fn what_a_terminal_would_not_show_as_it_is_is_told_by_its_number() {
        let told = plain("db\u{202e}gnp.exe\u{200b} \u{1b}[2Jü\n\u{feff}x");
        assert_eq!(told, "db\\u{202e}gnp.exe\\u{200b}  [2Jü \\u{feff}x");
    }

    #[test]
    fn a_secret_is_hidden_whole_in_part_escaped_and_cut_short() {
        assert_eq!(hidden(&["hunter2"], "unknown 'AUTH', args: 'hunter2'"), "unknown 'AUTH', args: '***'");
        assert_eq!(hidden(&["AUTH hunter2\r\n"], r"received -ERR hunter2\r\n"), r"received -ERR ***\r\n");
        assert_eq!(hidden(&["pa\"ss\u{e4}wort"], r#"got "pa\"ss\xc3\xa4wort""#), r#"got "***""#);
        assert_eq!(hidden(&["Bearer abcdefgh"], "auth: abcde… more"), "auth: ***… more");
        assert_eq!(hidden(&["long secret", "long"], "a long secret"), "a ***");
    }

    #[test]
    fn a_setting_from_a_secret_file_is_hidden_where_the_server_repeats_it() {
        let files = [Secret::new("app_user")];
        assert_eq!(setting("app_user", &files), "***");
        assert_eq!(setting("postgres", &files), "postgres");
    }

    #[test]
    fn what_a_peer_says_is_one_short_printable_line() {
        assert_eq!(
            plain("FATAL: x\n2026 INFO up: FORGED\u{1b}[31m\0"),
            "FATAL: x 2026 INFO up: FORGED [31m "
        );
        let long = plain(&"ä".repeat(1_000_000));
        assert_eq!((long.chars().count(), long.ends_with('…')), (TEXT_MAX + 1, true));
        let mut list: Vec<String> = (0..6000).map(|n| n.to_string()).collect();
        shorten(&mut list);
        assert_eq!((list.len(), list.last().unwrap().as_str()), (LIST_MAX + 1, "and 5950 more"));
    }

    fn plan_of(yaml: &str) -> crate::config::Plan {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), yaml).unwrap();
        let sources = crate::config::Sources { files: vec![file.path().into()], ..Default::default() };
        crate::config::load(&sources).unwrap()
    }

    /// The only dependency of this configuration, its secrets, and what is left of a text.
    fn hidden_for(yaml: &str, text: &str) -> String {
        let plan = plan_of(yaml);
        let asked = plan.dependencies().iter().find(|asked| asked.policy().name.as_str() == "x").unwrap();
        Secrets::of(asked.probe().as_ref().unwrap(), asked.from_secret_files()).hide(text)
    }

    #[test]
    fn a_password_is_hidden_unless_it_is_an_ordinary_word() {
        let with = |password: &str| {
            format!("dependencies: [{{name: x, kind: redis, impact: none, host: h, password: {password}}}]")
        };
        assert_eq!(hidden_for(&with("'hunter2'"), "-ERR AUTH hunter2"), "-ERR AUTH ***");
        assert_eq!(hidden_for(&with("postgres"), "user postgres"), "user postgres");
        let letters = "QwErTzUiOpAsDfGhJk";
        assert_eq!(hidden_for(&with(letters), &format!("-ERR AUTH {letters}")), "-ERR AUTH ***");
    }

    #[test]
    fn the_query_of_a_url_is_hidden_and_a_file_in_a_url_as_the_url_spells_it() {
        let yaml =
            "dependencies: [{name: x, kind: http, impact: none, url: 'http://h/?a=json&key=0123456789'}]";
        assert_eq!(hidden_for(yaml, "GET /?a=json&key=0123456789"), "GET /?***");
        assert_eq!(hidden_for(yaml, "no such key: 0123456789, try json"), "no such key: ***, try json");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "a\"long secret").unwrap();
        let yaml = format!(
            "dependencies: [{{name: x, kind: http, impact: none, url: 'http://h/${{file:{}}}'}}]",
            file.path().display()
        );
        assert_eq!(hidden_for(&yaml, "GET /a%22long%20secret HTTP/1.1"), "GET /*** HTTP/1.1");
    }

    #[test]
    fn what_an_http_service_repeats_of_the_credentials_is_hidden() {
        let to = |url: &str, headers: &str| {
            format!(
                "dependencies: [{{name: x, kind: http, impact: none, url: '{url}', headers: {{{headers}}}}}]"
            )
        };
        let said = |words: &str| format!("status 401, expected 200-299: \"{words}\"");
        let in_url = to("http://bobby:hunter%3A22x@h/", "");
        for (words, told) in [
            ("login failed for bobby:hunter:22x", "login failed for ***"),
            ("bobby is not hunter:22x", "*** is not ***"),
            (r#"\"bobby\", \"hunter:22x\""#, r#"\"***\", \"***\""#),
            ("see /bobby/hunter%3A22x", "see /***/***"),
            ("user=bobby&password=hunter:2…", "user=***&password=***…"),
        ] {
            assert_eq!(hidden_for(&in_url, &said(words)), said(told));
        }
        // `bobby:hunter22x`, `bobby:caf\u{e9}-hunter` in Latin-1 and without padding, and what holds a secret in other ways.
        for (header, words, told) in [
            ("Authorization: 'Basic Ym9iYnk6aHVudGVyMjJ4'", "no bobby, no hunter22x", "no ***, no ***"),
            ("authorization: 'basic Ym9iYnk6Y2Fm6S1odW50ZXI'", r"no caf\xe9-hunter", "no ***"),
            ("Authorization: 'Bearer hunter22x'", "no hunter22x", "no ***"),
            ("Cookie: 'a=b; session=hunter22x; c=d'", "no hunter22x", "no ***"),
        ] {
            assert_eq!(hidden_for(&to("http://h/", header), &said(words)), said(told), "{header}");
        }
    }

    /// It would be given away by the gap in a sentence of ours, and by what it says if it were let through.
    #[test]
    fn an_ordinary_word_that_an_http_service_was_sent_is_hidden_in_its_words_only() {
        let yaml = "dependencies: [{name: x, kind: http, impact: none, url: 'http://expected:status@h/'}]";
        for (text, told) in [
            (
                r#"status 401, expected 200-299: "no \"status\" expected" as status"#,
                r#"status 401, expected 200-299: "no \"***\" ***" as status"#,
            ),
            (r#"expected "a" in the body, received "status"#, r#"expected "a" in the body, received "***"#),
            (r#"status: "expected:status", "b\\", status"#, r#"status: "***", "b\\", status"#),
        ] {
            assert_eq!(hidden_for(yaml, text), told);
        }
    }

    /// Says what its password's file holds, each time after reading it again.
    struct Repeating(Password);

    impl Probe for Repeating {
        fn attempt<'a>(&'a mut self, _: Deadline, _: &'a mut Trace) -> BoxFuture<'a, Outcome> {
            Box::pin(async {
                self.0.reread().await;
                let said = format!("no: {}", self.0.current().expose());
                Err(Failure::new(crate::health::Phase::Auth, crate::health::FailureKind::AuthFailed, said))
            })
        }
    }

    #[tokio::test]
    async fn a_password_that_was_read_again_is_hidden_as_the_first_one() {
        let dir = tempfile::tempdir().unwrap();
        let password = dir.path().join("password");
        std::fs::write(&password, "first-1").unwrap();
        let yaml = format!(
            "dependencies: [{{name: x, kind: redis, impact: none, host: h, password: '${{file:{}}}'}}]",
            password.display()
        );
        let plan = plan_of(&yaml);
        let asked = plan.dependencies().iter().find(|asked| asked.policy().name.as_str() == "x").unwrap();
        let probe = asked.probe().as_ref().unwrap();
        let shared = Password::of(probe).unwrap();
        let repeating = Box::new(Repeating(shared.clone()));
        let mut discreet = Discreet::new(repeating, probe, asked.from_secret_files(), Some(shared));
        let rotations: Vec<String> = (0..100).map(|n| format!("rotation-{n}")).collect();
        for now in ["first-1"].into_iter().chain(rotations.iter().map(String::as_str)) {
            std::fs::write(&password, now).unwrap();
            let deadline = Deadline::after(std::time::Duration::from_secs(60));
            let said = discreet.attempt(deadline, &mut Trace::default()).await.unwrap_err();
            assert_eq!(said.message, "no: ***", "{now}");
        }
        let discretion = discreet.discretion;
        assert_eq!(discretion.told("first-1 rotation-98 rotation-99"), "*** *** ***");
        assert_eq!(discretion.known().count(), 1 + ROTATED_MAX, "what is long over is let go");
    }

    #[test]
    fn what_is_no_secret_stays() {
        assert_eq!(hidden(&["abc"], "abcdef"), "abcdef", "too short to look for");
        assert_eq!(hidden(&[], "a… b"), "a… b");
    }
}

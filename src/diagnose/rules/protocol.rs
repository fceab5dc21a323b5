//! What listens there: another protocol, TLS or none, nobody who speaks, somebody who hangs up.

use super::finding::{Finding, said};
use crate::diagnose::advice::Advice;
use crate::diagnose::evidence::{Evidence, Heard, Speaks, TlsWanted, Words};
use crate::diagnose::hops;
use crate::health::{Confidence, Failure, FailureKind, HopKind, Kind};

/// The lines of what was heard.
fn heard(words: Option<&Words>) -> Vec<String> {
    words.map(hops::first_words).into_iter().collect()
}

/// Another protocol was recognised, or what answers is none of its own.
pub(super) fn wrong_protocol(evidence: &Evidence) -> Option<Finding> {
    let wanted = evidence.speaks()?;
    let failure = evidence.failure()?;
    if !evidence.ends_within(HopKind::Tls..=HopKind::Query) {
        return None;
    }
    // TLS where none was spoken, and the own protocol without it, have rules of their own.
    let other = evidence.is().filter(|is| *is != wanted && *is != Speaks::Tls);
    let foreign = failure.kind == FailureKind::Protocol && failure.code.is_none();
    let spoken = evidence.is_spoken();
    if spoken || !(other.is_some() || foreign && evidence.is() != Some(Speaks::Tls)) {
        return None;
    }
    let place = evidence.place();
    let (confidence, summary) = match other {
        Some(other) => (Confidence::Certain, format!("{place} speaks {other} and not {wanted}")),
        None => (Confidence::Likely, format!("what listens at {place} does not speak {wanted}")),
    };
    let finding = Finding::new(confidence, summary)
        .because(evidence.words.iter().flat_map(decisive))
        .because(other.map(|other| format!("what listens there speaks {other}")))
        .because(heard(evidence.words.as_ref()))
        .since(said(failure));
    let finding = match confidence {
        Confidence::Certain => finding,
        _ => finding.or_else(format!("a proxy in front of {wanted} that answers in its own way")),
    };
    let (port, usual) = (evidence.subject.port, usual_port(wanted));
    let elsewhere = match port == usual {
        true => String::new(),
        false => format!("; the usual port of {wanted} is {usual}"),
    };
    let step = match other {
        Some(other) => format!(
            "correct the host or the port: {wanted} is expected at port {port}, and {other} is what listens there{elsewhere}"
        ),
        None => failure.hint.clone(),
    };
    Some(finding.step(step).advise(Advice::on(evidence).who_listens(wanted, usual)))
}

/// The answers that other questions had.
fn decisive(words: &Words) -> Vec<String> {
    let answered = words.others.iter().filter(|(_, heard)| matches!(heard, Heard::Said(_)));
    answered.map(|(asked, heard)| hops::one_answer(Some(*asked), heard)).collect()
}

fn usual_port(speaks: Speaks) -> u16 {
    match speaks {
        Speaks::Postgres => 5432,
        Speaks::Redis => 6379,
        Speaks::Http => 80,
        Speaks::Tls => 443,
        Speaks::Ssh => 22,
        Speaks::Mysql => 3306,
        Speaks::Smtp => 25,
    }
}

/// The server wants TLS, by its own words or by speaking nothing else.
pub(super) fn tls_required(evidence: &Evidence) -> Option<Finding> {
    let failure = evidence.failure()?;
    let place = evidence.place();
    let only_tls = evidence.is() == Some(Speaks::Tls)
        && !evidence.wants_tls()
        && evidence.speaks().is_some_and(|speaks| speaks != Speaks::Tls)
        && evidence.ends_within(HopKind::Protocol..=HopKind::Query);
    if failure.kind != FailureKind::TlsRequired && !only_tls {
        return None;
    }
    // Asked for TLS, a PostgreSQL without answers "N".
    let offers_none = evidence.subject.kind == Kind::Postgres
        && evidence.words.as_ref().is_some_and(|words| words.heard == Heard::Said("N".to_owned()));
    if failure.kind == FailureKind::TlsRequired && failure.message.contains("the password in clear text") {
        return Some(wants_clear_text(evidence, failure, offers_none));
    }
    let summary = match offers_none {
        true => format!("{place} lets this user in with TLS alone, and offers none"),
        false => format!("{place} takes only TLS, and this connection is made without"),
    };
    let finding = match failure.code.as_deref() {
        // The same words stand for a server that has no line for this user with TLS either.
        Some("28000") => Finding::likely(summary)
            .since(said(failure))
            .because(heard(evidence.words.as_ref()))
            .or_else("a pg_hba.conf that has no line for this user with TLS either, as where the user's name is wrong"),
        _ => Finding::certain(summary).because(heard(evidence.words.as_ref())).since(said(failure)),
    };
    let names = (failure.code.as_deref() == Some("28000")).then(|| {
        let user = evidence.subject.user.as_deref().unwrap_or("that is configured");
        format!("check the names, too: pg_hba.conf may have lines for other users or databases only, and none for the user {user}")
    });
    if offers_none {
        return Some(
            finding
                .step("turn `ssl` on at the server: its `hostssl` lines let nobody in without; or, on a network that you trust, give this user a `host` line in pg_hba.conf")
                .advise(names),
        );
    }
    let step = match failure.kind {
        FailureKind::TlsRequired if failure.hint != FailureKind::TlsRequired.hint() => failure.hint.clone(),
        _ => turn_tls_on(evidence).to_owned(),
    };
    Some(finding.step(step).advise(names).advise(bundle(evidence)))
}

/// Its method of log-in shows the password to whoever listens, so it was not sent.
fn wants_clear_text(evidence: &Evidence, failure: &Failure, offers_none: bool) -> Finding {
    let place = evidence.place();
    let summary = match offers_none {
        true => format!("{place} wants the password in clear text, and offers no TLS"),
        false => format!("{place} wants the password in clear text, and this connection is made without TLS"),
    };
    let finding = Finding::certain(summary).because(heard(evidence.words.as_ref())).since(said(failure));
    match offers_none {
        true => finding
            .step("turn `ssl` on at the server, or have it ask by scram-sha-256: pg_hba.conf says `password` (or `ldap`, `pam`, …) for this user"),
        false => finding.step(failure.hint.clone()),
    }
}

fn turn_tls_on(evidence: &Evidence) -> &'static str {
    let subject = &evidence.subject;
    // A target of the command line has no settings but its own words.
    if subject.dependency.is_none() {
        return match evidence.speaks() {
            Some(Speaks::Redis) => {
                "diagnose it by its URL, with rediss:// for TLS; ElastiCache wants it where encryption in transit is on"
            }
            Some(Speaks::Postgres) => "diagnose it by its URL, with `?sslmode=verify-full`",
            Some(Speaks::Http) => "use the https URL",
            _ => "let its client speak TLS",
        };
    }
    match subject.kind {
        Kind::Postgres => "set DATABASE_SSLMODE to verify-full (`sslmode` in the configuration)",
        Kind::Redis => {
            "set REDIS_TLS=true (`tls` in the configuration), or use a rediss:// URL; ElastiCache wants it where encryption in transit is on"
        }
        Kind::Http => "use the https URL",
        Kind::Tcp | Kind::Dns => "turn TLS on for this dependency (`tls: {verify: full}`)",
    }
}

/// Where the authorities of AWS' databases are.
fn bundle(evidence: &Evidence) -> Option<String> {
    let rds = Advice::on(evidence).endpoint().is_some_and(|endpoint| endpoint.is.is_rds());
    rds.then(|| {
        "have RDS' certificate verified by its bundle, global-bundle.pem from truststore.pki.rds.amazonaws.com: DATABASE_SSLROOTCERT is the file's path".to_owned()
    })
}

/// The server does not have what is wanted of it.
pub(super) fn tls_not_spoken(evidence: &Evidence) -> Option<Finding> {
    let failure = evidence.fails_at(HopKind::Tls).or_else(|| evidence.fails_at(HopKind::Protocol))?;
    if !matches!(evidence.subject.tls, TlsWanted::Yes { .. }) {
        return None;
    }
    // What a server says of something else, such as that it is full, is for another rule.
    let of_tls = matches!(failure.kind, FailureKind::TlsHandshake | FailureKind::Protocol);
    let answered = evidence.tls.as_ref().and_then(|seen| seen.not_spoken.as_deref()).filter(|_| of_tls);
    let told = of_tls
        && (failure.message.contains("does not speak TLS") || failure.message.contains("does not offer TLS"));
    // A hello without an answer, and the same port answers in clear text.
    let plain = evidence.words.as_ref().filter(|words| words.asked == Some(Speaks::Tls)).and(evidence.is());
    let no_word = of_tls || matches!(failure.kind, FailureKind::Timeout | FailureKind::ConnectReset);
    let plain = plain.filter(|is| no_word && *is != Speaks::Tls && Some(*is) == evidence.speaks());
    if answered.is_none() && plain.is_none() && !told {
        return None;
    }
    let summary = format!("{} speaks no TLS, and TLS is wanted", evidence.place());
    let in_clear_text = plain == Some(Speaks::Http) || answered.is_some_and(|said| said.starts_with("HTTP/"));
    let by_url = (evidence.subject.kind == Kind::Http && in_clear_text)
        .then(|| "write http:// in the URL, or the port at which the service speaks TLS".to_owned());
    let finding = Finding::certain(summary)
        .because(answered.map(|said| format!("asked for TLS, it answered {}", hops::quoted(said))))
        .because(plain.map(|is| format!("in clear text it speaks {is}")))
        .because(heard(evidence.words.as_ref()))
        .advise(by_url)
        .told_by(failure)
        .step("compare the port: where a server has TLS on a port of its own, this is the other one");
    Some(finding)
}

/// Both speak TLS and have no version in common.
pub(super) fn tls_version(evidence: &Evidence) -> Option<Finding> {
    let failure = evidence.fails_at(HopKind::Tls)?;
    let seen = evidence.tls.as_ref();
    let old = seen.and_then(|seen| seen.only_speaks.as_deref());
    let version = ["protocol version", "unsupported protocol", "no protocols available", "no shared cipher"];
    let told = version.iter().any(|text| failure.message.contains(text));
    let agreed = seen.is_some_and(|seen| matches!(seen.version, Some(Ok(_))));
    if agreed || (old.is_none() && !told) {
        return None;
    }
    let place = evidence.place();
    let finding = match old {
        Some(old) => {
            Finding::certain(format!("{place} speaks {old} and nothing newer, which is not allowed here"))
        }
        None => {
            Finding::likely(format!("{place} and this program have no version or cipher of TLS in common"))
                .or_else("a proxy in between that does not let the handshake through")
        }
    };
    let finding = finding.since(said(failure)).step(
        "have the server speak TLS 1.2 or 1.3 (PostgreSQL `ssl_min_protocol_version`, Redis `tls-protocols`): older ones are broken",
    );
    Some(finding.step(Advice::on(evidence).show_certificate()))
}

/// A handshake that fails, and not by a certificate: the words are all there is.
pub(super) fn tls_fails(evidence: &Evidence) -> Option<Finding> {
    let failure = evidence.fails_at(HopKind::Tls).filter(|_| !evidence.is_missed())?;
    let place = evidence.place();
    let seen = evidence.tls.as_ref();
    let by_now = seen.and_then(|seen| seen.version.as_ref()).and_then(|version| version.as_ref().ok());
    let refused = failure.kind == FailureKind::TlsCertificate;
    let summary = match (by_now, refused) {
        (_, true) => format!("the certificate of {place} is not accepted"),
        (Some(version), false) => format!(
            "the TLS handshake with {place} failed at the check; one that verifies nothing comes to {version}"
        ),
        (None, false) => format!("the TLS handshake with {place} fails"),
    };
    let why = seen.and_then(|seen| seen.version.as_ref()).and_then(|version| version.as_ref().err());
    let problems = seen.into_iter().flat_map(|seen| {
        seen.problems.iter().map(|one| hops::problem(one, seen, evidence.at)).collect::<Vec<_>>()
    });
    let finding = match refused {
        true => Finding::likely(summary),
        false => Finding::unclear(summary),
    };
    let finding = finding
        .told_by(failure)
        .because(problems)
        .because(why.map(|why| format!("a second handshake, which verifies nothing: {why}")))
        .because(heard(evidence.words.as_ref()))
        .step(Advice::on(evidence).show_certificate());
    Some(finding)
}

const FORWARDER: &str = "a forwarder (a load balancer, docker-proxy, a service mesh) that takes connections for a server that is not there";

/// Connections are taken, and nobody says a word: not to us, not in any other protocol.
pub(super) fn mute(evidence: &Evidence) -> Option<Finding> {
    let failure = evidence.fails_by(FailureKind::Timeout)?;
    if !evidence.ends_within(HopKind::Tls..=HopKind::Query) {
        return None;
    }
    let words = evidence.words.as_ref();
    let silent = |words: &Words| {
        let silent = |heard: &Heard| matches!(heard, Heard::Nothing | Heard::NotAsked(_));
        words.heard == Heard::Nothing && words.others.iter().all(|(_, heard)| silent(heard))
    };
    // Our own time was over before the check was: that it said nothing to that tells nothing.
    if evidence.is_missed() && !words.is_some_and(silent) {
        return None;
    }
    let place = evidence.place();
    let advice = Advice::on(evidence);
    let finding = match words {
        Some(words) if silent(words) => {
            Finding::likely(format!("{place} takes connections and then says nothing"))
                .because(heard(Some(words)))
        }
        Some(_) => Finding::unclear(format!("{place} said nothing at the check")).because(heard(words)),
        None => Finding::unclear(format!("{place} takes connections, and said nothing at the check")),
    };
    // A kernel takes connections for its process, until the process has not taken so many.
    let finding = finding
        .on_silence()
        .since(said(failure))
        .or_else(match evidence.before {
            // Its own words are known from before.
            Some(_) => FORWARDER.to_owned(),
            None => format!("{FORWARDER}; or a server of another protocol that waits for more"),
        })
        .step("see whether the process hangs: the kernel takes connections in its name. Its CPU, its log, its locks tell")
        .advise(advice.accept_queue())
        .advise(advice.state());
    Some(finding)
}

/// Connections are taken and then ended, without a word of why.
pub(super) fn cut(evidence: &Evidence) -> Option<Finding> {
    if let Some(finding) = cuts_each(evidence) {
        return Some(finding);
    }
    let failure = evidence.fails_by(FailureKind::ConnectReset)?;
    let words = evidence.words.as_ref();
    let again = words.is_some_and(|words| matches!(words.heard, Heard::Cut | Heard::Closed));
    let place = evidence.place();
    let answers_now = evidence.is_spoken();
    let finding = match (again, answers_now) {
        (true, _) => Finding::likely(format!("{place} takes connections and cuts them")),
        (false, true) => Finding::unclear(format!(
            "the connection to {place} was cut at the check, and by now it answers: it was restarted, or ended this one connection"
        )),
        (false, false) => Finding::unclear(format!("the connection to {place} was cut")),
    };
    let finding = finding
        .because(heard(words))
        .told_by(failure)
        .or_else("a load balancer without a healthy target, a limit of connections, an idle limit on the way, or a server that takes only TLS")
        .advise(Advice::on(evidence).state());
    Some(finding)
}

/// A port of which nothing is asked but a connection, and that ends each one, whatever is said.
fn cuts_each(evidence: &Evidence) -> Option<Finding> {
    let words = evidence.words.as_ref().filter(|_| evidence.works() && evidence.subject.kind == Kind::Tcp)?;
    let ended = |heard: &Heard| matches!(heard, Heard::Cut | Heard::Closed);
    let all =
        ended(&words.heard) && !words.others.is_empty() && words.others.iter().all(|(_, heard)| ended(heard));
    all.then(|| {
        Finding::likely(format!("{} takes connections and cuts every one of them", evidence.place()))
            .because(heard(Some(words)))
            .because(words.others.iter().map(|(asked, heard)| hops::one_answer(Some(*asked), heard)))
            .or_else("a server that takes only clients it knows, or speaks a protocol of its own")
            .step("read the log of what listens there; a load balancer or a forwarder without a target behind it does this, too")
            .advise(Advice::on(evidence).listening())
            .advise(Advice::on(evidence).state())
    })
}

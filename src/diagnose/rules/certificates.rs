//! Certificates: theirs, which we do not accept, and ours, which we do not have.

use super::finding::{Finding, said};
use crate::config::plan::Verify;
use crate::diagnose::advice::Advice;
use crate::diagnose::evidence::{CertificateProblem, Evidence, TlsSeen, TlsWanted};
use crate::diagnose::{hops, text};
use crate::health::{Confidence, Failure, FailureKind, HopKind, Kind};

/// What can be wrong with a certificate, one rule each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Expired,
    NotYetValid,
    OtherName,
    UnknownAuthority,
}

impl Fault {
    fn of(problem: &CertificateProblem) -> Option<Self> {
        match problem {
            CertificateProblem::Expired(_) => Some(Self::Expired),
            CertificateProblem::NotYetValid(_) => Some(Self::NotYetValid),
            CertificateProblem::OtherName => Some(Self::OtherName),
            CertificateProblem::SelfSigned | CertificateProblem::UnknownAuthority => {
                Some(Self::UnknownAuthority)
            }
            CertificateProblem::AuthoritiesUnusable(_) | CertificateProblem::Other(_) => None,
        }
    }

    /// By the words of a check, which ends at the first that it finds.
    fn told_by(failure: &Failure) -> Option<Self> {
        const WORDS: [(&str, Fault); 7] = [
            ("expired", Fault::Expired),
            ("not yet valid", Fault::NotYetValid),
            ("hostname mismatch", Fault::OtherName),
            ("IP address mismatch", Fault::OtherName),
            ("issuer", Fault::UnknownAuthority),
            ("self-signed", Fault::UnknownAuthority),
            ("self signed", Fault::UnknownAuthority),
        ];
        let refused = failure.kind == FailureKind::TlsCertificate;
        let word = WORDS.iter().find(|(word, _)| refused && failure.message.contains(word));
        word.map(|(_, fault)| *fault)
    }
}

/// All that is wrong with the certificates that were seen. Where nobody verifies them, that one has ended is a flaw
/// still.
fn problems(evidence: &Evidence) -> Vec<CertificateProblem> {
    let Some(seen) = &evidence.tls else { return Vec::new() };
    let end = seen.chain.first().and_then(|own| own.ends_at);
    let ended = end.zip(evidence.at).is_some_and(|(end, now)| end < now);
    match seen.problems.is_empty() && evidence.works() && ended {
        true => vec![CertificateProblem::Expired(0)],
        false => seen.problems.clone(),
    }
}

/// The problem that a rule is for, where the inspection found it; or else only the check's own words.
struct Found<'a> {
    fault: Fault,
    seen: Option<(&'a TlsSeen, CertificateProblem)>,
}

impl<'a> Found<'a> {
    /// A certificate keeps a path from working, or is the flaw of one that works without verified TLS. Of several
    /// problems the one is told that the check ended at.
    fn by(evidence: &'a Evidence, fault: Fault) -> Option<Self> {
        let refused =
            evidence.fails_by(FailureKind::TlsCertificate).or_else(|| evidence.fails_at(HopKind::Tls));
        if refused.is_none() && !evidence.works() {
            return None;
        }
        let problems = problems(evidence);
        let told = refused.and_then(Fault::told_by);
        let told_is_seen = told.is_some_and(|told| problems.iter().any(|one| Fault::of(one) == Some(told)));
        if told_is_seen && told != Some(fault) {
            return None;
        }
        let inspected = !problems.is_empty();
        let problem = problems.into_iter().find(|one| Fault::of(one) == Some(fault));
        let seen = evidence.tls.as_ref().zip(problem);
        (seen.is_some() || (told == Some(fault) && !inspected)).then_some(Self { fault, seen })
    }

    /// What the inspection found is certain: the certificate itself was seen. Of what the check said, the words are.
    fn finding(&self, evidence: &Evidence, summary: String) -> Finding {
        let others = problems(evidence);
        // The summary has the one that the rule is for.
        let others = others.iter().filter(|one| self.seen.as_ref().is_none_or(|(_, own)| own != *one));
        let seen = evidence.tls.as_ref();
        let problems = others.filter_map(|one| Some(hops::problem(one, seen?, evidence.at)));
        let own = seen.and_then(|seen| seen.chain.first());
        let confidence = if self.seen.is_some() { Confidence::Certain } else { Confidence::Likely };
        let anyway = evidence.works().then(|| {
            "the path works for all that: with these settings a session without verified TLS is taken"
                .to_owned()
        });
        Finding::new(confidence, summary)
            .because(problems)
            .because(
                own.map(|own| format!("the server's certificate: {}", hops::certificate(own, evidence.at))),
            )
            .because(evidence.failure().map(said))
            .because(anyway)
    }

    /// The cure of this problem, and of the others that would be met after it.
    fn cured(&self, evidence: &Evidence, finding: Finding) -> Finding {
        let problem = self.seen.as_ref().map(|(_, problem)| problem);
        let all = problems(evidence);
        let others = all.iter().filter(|one| Fault::of(one).is_some_and(|fault| fault != self.fault));
        let finding = finding.advise(cures(evidence, self.fault, problem));
        let finding = others.fold(finding, |finding, one| match Fault::of(one) {
            Some(fault) => finding.advise(cures(evidence, fault, Some(one))),
            None => finding,
        });
        finding.step(Advice::on(evidence).show_certificate())
    }

    /// The problem in a sentence, or what there is without it.
    fn told(&self, evidence: &Evidence, without: &str) -> String {
        match &self.seen {
            Some((seen, problem)) => hops::problem(problem, seen, evidence.at),
            None => without.to_owned(),
        }
    }
}

fn is_on_rds(evidence: &Evidence) -> bool {
    Advice::on(evidence).endpoint().is_some_and(|endpoint| endpoint.is.is_rds())
}

/// What to do about one problem.
fn cures(evidence: &Evidence, fault: Fault, problem: Option<&CertificateProblem>) -> Vec<String> {
    let host = host(evidence);
    match fault {
        Fault::Expired => {
            let step = match problem {
                Some(CertificateProblem::Expired(0)) | None => {
                    "renew the server's certificate, and have the server load it"
                }
                Some(_) => {
                    "have the server send the chain of today: its own certificate is not the one that ended"
                }
            };
            let rds = is_on_rds(evidence).then_some("on RDS, rotate it: choose another certificate authority for the instance (`aws rds modify-db-instance --ca-certificate-identifier`), and have clients trust global-bundle.pem first");
            [Some(step), rds].into_iter().flatten().map(str::to_owned).collect()
        }
        Fault::NotYetValid => vec![
            "compare the clocks: `date -u` here and where the certificate was made".to_owned(),
            "where both are right, have the server use the certificate that is valid today".to_owned(),
        ],
        Fault::OtherName => {
            let names = evidence.tls.iter().flat_map(|seen| seen.chain.first()).flat_map(|own| &own.names);
            let usable: Vec<String> = names.filter(|name| !name.starts_with('*')).cloned().collect();
            let step = match usable.first() {
                Some(_) => format!(
                    "configure the host by a name that the certificate is for ({}), if that is the same server",
                    text::first(&usable, 3)
                ),
                None => "configure the host by a name that the certificate is for".to_owned(),
            };
            vec![step, format!("or give the server a certificate that is for {host}")]
        }
        Fault::UnknownAuthority => {
            let told = evidence.failure().filter(|it| Fault::told_by(it) == Some(fault));
            let step = match (is_on_rds(evidence), told) {
                (true, _) => "set DATABASE_SSLROOTCERT (`root_cert`) to the bundle of RDS, global-bundle.pem from truststore.pki.rds.amazonaws.com: system stores do not have its authorities".to_owned(),
                (false, Some(failure)) => failure.hint.clone(),
                (false, None) => "set `root_cert` to the file of the authority that signed the certificate".to_owned(),
            };
            vec![step]
        }
    }
}

fn host(evidence: &Evidence) -> &str {
    text::name(&evidence.subject.host)
}

/// The server ends the session for want of a certificate of ours. Many ask for one and go on without: that it asked is
/// not enough.
pub(super) fn client_certificate_required(evidence: &Evidence) -> Option<Finding> {
    let failure = evidence.failure()?;
    let words = ["certificate required", "client certificate", "peer did not return a certificate"];
    let told = words.iter().any(|word| failure.message.contains(word));
    let asked = evidence.tls.as_ref().is_some_and(|seen| seen.wants_client_certificate);
    // PostgreSQL says so in words; and who has been spoken to since does not want one.
    let cut = failure.kind == FailureKind::ConnectReset
        && evidence.subject.kind != Kind::Postgres
        && !evidence.is_spoken();
    let ended = failure.kind == FailureKind::TlsHandshake || cut;
    let broken = evidence.ends_within(HopKind::Tls..=HopKind::Query);
    let confidence = match (told, asked && ended) {
        (true, _) => Confidence::Certain,
        (false, true) => Confidence::Likely,
        (false, false) => return None,
    };
    if !broken {
        return None;
    }
    let place = evidence.place();
    let finding = Finding::new(confidence, format!("{place} wants a certificate of ours, and there is none"))
        .because(asked.then(|| "in the handshake the server asked for a certificate of ours".to_owned()))
        .since(said(failure));
    let finding = match confidence {
        Confidence::Certain => finding,
        _ => finding
            .or_else("a session that was ended for another reason: many servers ask, and go on without one"),
    };
    Some(finding.step(failure.hint.clone()).step(
        "let this client in without one: at PostgreSQL a line in pg_hba.conf without `clientcert` (and scram-sha-256), at Redis `tls-auth-clients no`",
    ))
}

/// Our own file: nothing is wrong with the server.
pub(super) fn authorities_unusable(evidence: &Evidence) -> Option<Finding> {
    let unusable = |one: &CertificateProblem| matches!(one, CertificateProblem::AuthoritiesUnusable(_));
    let seen = evidence.tls.as_ref()?;
    let problem = seen.problems.iter().find(|one| unusable(one))?;
    let failure = evidence.failure().filter(|_| evidence.ends_within(HopKind::Tls..=HopKind::Tls))?;
    let file = root_cert(evidence).unwrap_or_else(|| "the system's authorities".to_owned());
    let finding = Finding::certain(format!("{file} cannot be used, so no certificate can be verified"))
        .since(hops::problem(problem, seen, evidence.at))
        .told_by(failure)
        .step(
            "it has to be a readable PEM file with at least one certificate (`-----BEGIN CERTIFICATE-----`)",
        );
    Some(finding)
}

fn root_cert(evidence: &Evidence) -> Option<String> {
    match &evidence.subject.tls {
        TlsWanted::Yes { root_cert: Some(path), .. } => Some(path.display().to_string()),
        _ => None,
    }
}

/// The server's own, or one above it.
pub(super) fn expired(evidence: &Evidence) -> Option<Finding> {
    let found = Found::by(evidence, Fault::Expired)?;
    let told = found.told(evidence, "a certificate of the chain has ended");
    let finding = found.finding(evidence, format!("{}: {told}", host(evidence)));
    Some(found.cured(evidence, finding))
}

/// Most often it is not the certificate that is wrong, but a clock.
pub(super) fn not_yet_valid(evidence: &Evidence) -> Option<Finding> {
    let found = Found::by(evidence, Fault::NotYetValid)?;
    let told = found.told(evidence, "a certificate of the chain is not yet valid");
    let clock = evidence.at.map(|now| format!("this host's clock says {}", text::day(now)));
    let finding = found.finding(evidence, format!("{}: {told}", host(evidence))).because(clock);
    Some(found.cured(evidence, finding))
}

/// The connection leads to a server with another name, or by a name that its certificate has not.
pub(super) fn other_name(evidence: &Evidence) -> Option<Finding> {
    let found = Found::by(evidence, Fault::OtherName)?;
    let told = found.told(evidence, "the certificate is for another name");
    let host = host(evidence);
    let address = host
        .parse::<std::net::IpAddr>()
        .is_ok()
        .then(|| "the host is configured as an address, and certificates are for names".to_owned());
    let finding =
        found.finding(evidence, format!("the certificate at {} is not for {host}: {told}", evidence.place()));
    Some(found.cured(evidence, finding.because(address)))
}

/// Nobody who is trusted here signed it.
pub(super) fn unknown_authority(evidence: &Evidence) -> Option<Finding> {
    let found = Found::by(evidence, Fault::UnknownAuthority)?;
    let told = found.told(evidence, "nobody who is trusted here signed the certificate");
    let trusted = match root_cert(evidence) {
        Some(path) => format!("trusted are the authorities in {path}"),
        None => "trusted are the system's authorities".to_owned(),
    };
    let verify = matches!(evidence.subject.tls, TlsWanted::Yes { verify: Verify::Full | Verify::Ca, .. });
    let finding =
        found.finding(evidence, format!("the certificate of {} is not trusted here: {told}", host(evidence)));
    let not_off = verify.then(|| {
        "do not turn verification off to get through: whoever is in between could then answer in the server's name".to_owned()
    });
    Some(found.cured(evidence, finding.since(trusted)).advise(not_off))
}

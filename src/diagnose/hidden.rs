//! Keeps secrets out of a diagnosis: whatever a peer said, and every setting that came from a secret file, passes here
//! once, before a rule or a line of a report sees it.
//!
//! Everything that can hold such a text is named, so that a field which comes later cannot be forgotten.

use super::Evidence;
use super::evidence::{
    Attempt, CertificateProblem, CertificateSeen, Heard, NameAnswer, Names, ResolverSeen, ServerAnswer,
    SmallSegments, Subject, TlsSeen, Words,
};
use crate::config::secret::REDACTED;
use crate::health::Failure;
use crate::probe::Discretion;

/// No list that is told has more entries.
const LIST_MAX: usize = 50;

/// The evidence as it can be told.
pub(super) fn look_through(mut evidence: Evidence, discretion: &Discretion) -> Evidence {
    // Paths, the task and the details of what worked before hold addresses and numbers, names of our own, and what a probe
    // has looked through already.
    let Evidence {
        subject,
        names,
        paths: _,
        tls,
        words,
        small_segments,
        attempt,
        before: _,
        task: _,
        cut_short: _,
        at: _,
    } = &mut evidence;
    let of = Eye(discretion);
    of.subject(subject);
    names.iter_mut().for_each(|names| of.names(names, subject));
    tls.iter_mut().for_each(|tls| of.tls(tls));
    words.iter_mut().for_each(|words| of.words(words));
    if let Some(SmallSegments { what, .. }) = small_segments {
        of.text(what);
    }
    if let Some(Attempt { result, phases: _, address: _, details: _, warnings, cut_short: _ }) = attempt {
        if let Err(failure) = result {
            of.failure(failure);
        }
        of.list(warnings);
    }
    evidence
}

struct Eye<'a>(&'a Discretion);

impl Eye<'_> {
    fn text(&self, text: &mut String) {
        *text = self.0.told(text);
    }

    fn list(&self, list: &mut Vec<String>) {
        list.truncate(LIST_MAX);
        list.iter_mut().for_each(|text| self.text(text));
    }

    fn setting(&self, setting: &mut String) {
        *setting = self.0.told(&self.0.setting(setting));
    }

    /// The hint is our own text: see [`redact`](crate::probe).
    fn failure(&self, Failure { message, code, phase: _, kind: _, hint: _, may_pass: _ }: &mut Failure) {
        self.text(message);
        code.iter_mut().for_each(|code| self.text(code));
    }

    fn subject(&self, subject: &mut Subject) {
        let settings = [Some(&mut subject.host), subject.user.as_mut(), subject.database.as_mut()];
        settings.into_iter().flatten().for_each(|setting| self.setting(setting));
        // A URL whose user info seems to end too early: what is taken for its host may be a part of a password.
        if subject.target == REDACTED {
            REDACTED.clone_into(&mut subject.host);
        }
    }

    fn names(&self, names: &mut Names, subject: &Subject) {
        let Names {
            name,
            resolver,
            answer,
            took: _,
            by_server,
            nearest_ancestor,
            near,
            refused_too,
            later,
            takes_turns: _,
        } = names;
        let written = name.clone();
        self.setting(name);
        if *name != written || subject.host == REDACTED {
            // What is spelt nearly so, or stands above it, gives it away.
            *nearest_ancestor = None;
            near.clear();
        }
        refused_too.iter_mut().for_each(|(name, _)| self.text(name));
        let ResolverSeen { servers: _, search, ndots: _, from } = resolver;
        self.list(search);
        self.text(from);
        self.answer(answer);
        by_server.truncate(LIST_MAX);
        for ServerAnswer { server: _, took: _, answer } in by_server {
            self.answer(answer);
        }
        nearest_ancestor.iter_mut().for_each(|name| self.text(name));
        self.list(near);
        later.iter_mut().for_each(|answer| self.answer(answer));
    }

    fn answer(&self, answer: &mut Result<NameAnswer, Failure>) {
        match answer {
            Ok(NameAnswer { addresses, records, aliases, ttl_seconds: _, found_as, from_hosts_file: _ }) => {
                addresses.truncate(LIST_MAX);
                self.list(records);
                self.list(aliases);
                self.text(found_as);
            }
            Err(failure) => self.failure(failure),
        }
    }

    fn tls(&self, tls: &mut TlsSeen) {
        let TlsSeen {
            version,
            took: _,
            not_asked,
            not_spoken,
            unanswered: _,
            only_speaks,
            wants_client_certificate: _,
            chain,
            problems,
        } = tls;
        for text in [not_asked, not_spoken, only_speaks].into_iter().flatten() {
            self.text(text);
        }
        if let Some(Ok(text) | Err(text)) = version {
            self.text(text);
        }
        for CertificateSeen { subject, issuer, names, begins_at: _, ends_at: _ } in chain {
            self.text(subject);
            self.text(issuer);
            self.list(names);
        }
        for problem in problems {
            match problem {
                CertificateProblem::AuthoritiesUnusable(why) | CertificateProblem::Other(why) => {
                    self.text(why)
                }
                CertificateProblem::Expired(_)
                | CertificateProblem::NotYetValid(_)
                | CertificateProblem::OtherName
                | CertificateProblem::SelfSigned
                | CertificateProblem::UnknownAuthority => {}
            }
        }
    }

    fn words(&self, words: &mut Words) {
        let Words { asked: _, heard, took: _, others, is: _ } = words;
        let others = others.iter_mut().map(|(_, heard)| heard);
        for heard in std::iter::once(heard).chain(others) {
            match heard {
                Heard::Said(text) | Heard::NotAsked(text) => self.text(text),
                Heard::Nothing | Heard::Closed | Heard::Cut => {}
            }
        }
    }
}

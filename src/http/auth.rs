//! Who may do what: bearer tokens (RFC 6750).

use std::net::IpAddr;
use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use subtle::{ConditionallySelectable, ConstantTimeEq};

use super::throttle::Throttle;
use crate::config::plan::{ServerPlan, TokenPlan};
use crate::config::token::{Digest, Verb};
use crate::health::Monotonic;
use crate::health::circuit::Actor;

/// The tokens of a configuration.
#[derive(Debug)]
pub(super) struct Tokens {
    known: Vec<TokenPlan>,
    /// Whether operators' endpoints want one to be read.
    for_reads: bool,
}

/// Why somebody is not let do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Denied {
    /// Nobody is: there are no tokens.
    NoTokens,
    /// No token was sent.
    Missing,
    /// What was sent is no token that is known.
    Bad,
    /// The same, and once too often; they have to wait for this long.
    Throttled(Duration),
    /// The token is good, and not for this.
    Lacks(Actor),
}

/// What a request brings.
#[derive(Debug, PartialEq, Eq)]
enum Sent<'a> {
    Nothing,
    Token(&'a [u8]),
    /// Something that holds no bearer token, or more than one.
    Other,
}

impl Tokens {
    /// Those of the plan.
    pub(super) fn new(server: &ServerPlan) -> Self {
        Self { known: server.tokens().cloned().collect(), for_reads: *server.require_token_for_reads() }
    }

    /// Whether operators' endpoints want one to be read.
    pub(super) fn for_reads(&self) -> bool {
        self.for_reads
    }

    /// Who asks, where they may do this. The token is verified before anything else is looked at: who sends a good one
    /// is not kept out by what others send.
    pub(super) fn authorise(
        &self,
        verb: Verb,
        headers: &HeaderMap,
        throttle: &Throttle,
        client: IpAddr,
        now: Monotonic,
    ) -> Result<Actor, Denied> {
        if self.known.is_empty() {
            return Err(Denied::NoTokens);
        }
        let token = match sent(headers) {
            Sent::Nothing => return Err(Denied::Missing),
            Sent::Token(token) => self.find(token),
            Sent::Other => None,
        };
        match token {
            Some(token) if token.allow().contains(&verb) => Ok(Actor::new(token.name())),
            Some(token) => Err(Denied::Lacks(Actor::new(token.name()))),
            None => Err(throttle.bad(client, now).map_or(Denied::Bad, Denied::Throttled)),
        }
    }

    /// The token that this is. All are compared, each in constant time: how long it takes tells neither how much of a
    /// digest was right nor which one it was.
    fn find(&self, sent: &[u8]) -> Option<&TokenPlan> {
        let sent = Digest::of(sent);
        let mut found = u32::MAX;
        for (index, token) in (0..).zip(&self.known) {
            found.conditional_assign(&index, token.digest().ct_eq(&sent));
        }
        self.known.get(found as usize)
    }
}

fn sent(headers: &HeaderMap) -> Sent<'_> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Sent::Nothing };
    // The name of a scheme has no case (RFC 9110, 11.1).
    let bearer = value.as_bytes().split_at_checked(b"bearer ".len());
    match bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer ")) {
        Some((_, token)) if values.next().is_none() => Sent::Token(token.trim_ascii()),
        _ => Sent::Other,
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;
    use crate::config::{Env, Overrides, Sources, load};
    use crate::health::test_support::{mono, secs};

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn tokens(server: &str) -> Tokens {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sickbay.yaml");
        std::fs::write(&file, format!("server: {server}")).unwrap();
        let sources = Sources { files: vec![file], env: Env::new(), overrides: Overrides::default() };
        Tokens::new(load(&sources).unwrap().server())
    }

    fn headers(values: &[&str]) -> HeaderMap {
        let values = values.iter().map(|value| (AUTHORIZATION, HeaderValue::from_str(value).unwrap()));
        values.collect()
    }

    fn some() -> Tokens {
        tokens(
            "{admin_token: 0123456789abcdef, admin_tokens: [{name: on-call, token: on-call-0123456789, allow: [open]}]}",
        )
    }

    fn ask(tokens: &Tokens, throttle: &Throttle, verb: Verb, values: &[&str]) -> Result<String, Denied> {
        let actor = tokens.authorise(verb, &headers(values), throttle, CLIENT, mono(secs(0)));
        actor.map(|actor| actor.as_str().to_owned())
    }

    #[test]
    fn a_token_says_who_asks_and_what_they_may() {
        let (tokens, throttle) = (some(), Throttle::default());
        let ask = |verb, value: &str| ask(&tokens, &throttle, verb, &[value]);
        for verb in Verb::ALL {
            assert_eq!(ask(*verb, "Bearer 0123456789abcdef"), Ok("admin".to_owned()));
        }
        assert_eq!(ask(Verb::Open, "bearer  on-call-0123456789 "), Ok("on-call".to_owned()));
        assert_eq!(ask(Verb::Close, "BEARER on-call-0123456789"), Err(Denied::Lacks(Actor::new("on-call"))));
    }

    #[test]
    fn anything_else_is_no_token() {
        let tokens = some();
        let good = "Bearer 0123456789abcdef";
        assert_eq!(ask(&tokens, &Throttle::default(), Verb::Open, &[]), Err(Denied::Missing));
        for bad in [
            &["Bearer 0123456789abcde"][..],
            &["Bearer 0123456789abcdef0"],
            &["Bearer 0123456789abcdeF"],
            &["Bearer"],
            &["Bearer "],
            &[""],
            &["Basic 0123456789abcdef"],
            &["0123456789abcdef"],
            &["Bearer0123456789abcdef"],
            &[good, good],
            &[good, "Basic eA=="],
        ] {
            assert_eq!(ask(&tokens, &Throttle::default(), Verb::Open, bad), Err(Denied::Bad), "{bad:?}");
        }
    }

    #[test]
    fn bad_ones_have_to_wait_and_good_ones_do_not() {
        let (tokens, throttle) = (some(), Throttle::default());
        for _ in 0..10 {
            assert_eq!(ask(&tokens, &throttle, Verb::Open, &["Bearer x"]), Err(Denied::Bad));
        }
        assert_eq!(ask(&tokens, &throttle, Verb::Open, &["Bearer x"]), Err(Denied::Throttled(secs(60))));
        assert_eq!(ask(&tokens, &throttle, Verb::Open, &[]), Err(Denied::Missing), "nothing was tried");
        assert!(ask(&tokens, &throttle, Verb::Open, &["Bearer 0123456789abcdef"]).is_ok());
    }

    #[test]
    fn without_tokens_nobody_is_let_in() {
        let (none, throttle) = (tokens("{}"), Throttle::default());
        for values in [&[][..], &["Bearer "], &["Bearer 0123456789abcdef"]] {
            assert_eq!(ask(&none, &throttle, Verb::Open, values), Err(Denied::NoTokens));
        }
    }
}

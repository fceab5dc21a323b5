//! The tokens, and the rules about and between them.

use std::collections::BTreeSet;

use super::cursor::Cursor;
use crate::config::errors::{ConfigError, Errors, quoted};
use crate::config::origin::Origin;
use crate::config::path::Path;
use crate::config::plan::TokenPlan;
use crate::config::raw::RawToken;
use crate::config::secret::Secret;
use crate::config::token::{ADMIN, Digest, TOKEN_MIN, Verb};
use crate::config::tree::{Content, Map, Node};
use crate::health::DependencyName;

/// Each is compared with whatever is sent.
const TOKENS_MAX: usize = 100;

/// All tokens.
pub(super) struct Tokens {
    /// That of `admin_token`.
    pub(super) short: Option<TokenPlan>,
    /// Those of `admin_tokens`.
    pub(super) named: Vec<TokenPlan>,
}

/// Both kinds; `at` is the place of `server`.
pub(super) fn tokens(short: Option<Secret>, named: Vec<RawToken>, at: &Cursor<'_>) -> Tokens {
    let short_at = at.key("admin_token");
    let short = short_at.filled(short).map(|token| TokenPlan {
        name: ADMIN.to_owned(),
        digest: of(&token, &short_at),
        hashed: false,
        allow: Verb::ALL.to_vec(),
    });
    let at = at.key("admin_tokens");
    if named.len() > TOKENS_MAX {
        let what = format!("there are {} tokens", named.len());
        at.refuse(ConfigError::new(what).allowed(format!("at most {TOKENS_MAX}")));
    }
    let mut names: BTreeSet<String> = short.iter().map(|token| token.name.clone()).collect();
    let mut plans: Vec<TokenPlan> = Vec::new();
    for (at, raw) in at.elements(named).take(TOKENS_MAX) {
        let plan = token(raw, &mut names, &at);
        let same = short.iter().chain(&plans).find(|other| other.digest == plan.digest);
        if let Some(other) = same.filter(|_| !at.errors().any_within(at.path())) {
            let what = format!("the token (not shown) is that of {}, too", quoted(&other.name));
            at.refuse(ConfigError::new(what).advice("make another: who did what is told by the token"));
        }
        plans.push(plan);
    }
    Tokens { short, named: plans }
}

impl Tokens {
    /// Refuses what stands at `at` where nobody may read.
    pub(super) fn one_may_read(&self, at: &Cursor<'_>) {
        let server = Path::of("server");
        let told = ["admin_token", "admin_tokens"].iter().any(|key| at.errors().any_within(&server.key(key)));
        if !told && !self.short.iter().chain(&self.named).any(|token| token.allow.contains(&Verb::Read)) {
            at.refuse(
                ConfigError::new("reads want a token, and there is none that may `read`")
                    .advice("set `server.admin_token`, or one in `server.admin_tokens` with `allow: [read]`"),
            );
        }
    }
}

fn token(raw: RawToken, names: &mut BTreeSet<String>, at: &Cursor<'_>) -> TokenPlan {
    let RawToken { name, token, token_sha256, allow } = raw;
    let name = self::name(name, names, &at.key("name"));
    let (plain_at, hashed_at) = (at.key("token"), at.key("token_sha256"));
    let (plain, hashed) = (plain_at.filled(token), hashed_at.filled(token_sha256));
    let is_hashed = plain.is_none() && hashed.is_some();
    let digest = match (plain, hashed) {
        (Some(plain), None) => of(&plain, &plain_at),
        (None, Some(hashed)) => read(&hashed, &hashed_at),
        (Some(_), Some(_)) => {
            let error = ConfigError::new("the token is there twice, as it is and as its digest");
            at.refuse(error.allowed("one of `token` and `token_sha256`").advice("remove the other"));
            nothing()
        }
        (None, None) => {
            if !at.errors().any_within(at.path()) {
                let error = ConfigError::new("a token is there by name only");
                at.refuse(error.allowed("one of `token` and `token_sha256`").advice("set one"));
            }
            nothing()
        }
    };
    let allow_at = at.key("allow");
    if allow_at.empty_list() {
        let error = ConfigError::new("a token that may do nothing is of no use");
        let verbs: Vec<_> = Verb::ALL.iter().map(|verb| verb.as_str()).collect();
        allow_at.refuse(error.allowed(verbs.join(", ")).advice("leave it out for all of them"));
    }
    let allow = Verb::ALL.iter().filter(|verb| allow.as_ref().is_none_or(|allow| allow.contains(verb)));
    TokenPlan { name, digest, hashed: is_hashed, allow: allow.copied().collect() }
}

/// What holds of a token where nothing is said, and the field that somebody has to say.
pub(in crate::config) fn granted_token() -> (TokenPlan, &'static str) {
    let (empty, errors) = (Node::new(Content::Map(Map::new()), &Origin::Default), Errors::default());
    let plan = token(RawToken::default(), &mut BTreeSet::new(), &Cursor::new(&empty, &errors));
    (plan, "name")
}

fn name(raw: Option<String>, names: &mut BTreeSet<String>, at: &Cursor<'_>) -> String {
    let Some(name) = raw.filter(|name| !name.is_empty()) else {
        at.required("say who has the token");
        return String::new();
    };
    if at.secret() {
        let error = ConfigError::new("a name cannot come from a secret file");
        at.refuse(error.advice("write the name, it is shown everywhere"));
    } else if DependencyName::parse(&name).is_none() {
        let allowed = "1 to 63 lower-case letters, digits, `-` and `_`, beginning with a letter";
        at.refuse(ConfigError::new(format!("{} is no name of a token", at.shown(&name))).allowed(allowed));
    } else if !names.insert(name.clone()) {
        let error = ConfigError::new(format!("there are two tokens called {}", quoted(&name)));
        at.refuse(error.advice(match name.as_str() {
            ADMIN => "rename it: that of `server.admin_token` is called so",
            _ => "rename one of them",
        }));
    }
    name
}

/// The digest of a token that can be sent, and that nobody finds by trying.
fn of(token: &Secret, at: &Cursor<'_>) -> Digest {
    let text = token.expose();
    let refuse = |what: &str, allowed: String| {
        let advice = "make another token, with `openssl rand -hex 32` for one";
        at.refuse(ConfigError::new(what).allowed(allowed).advice(advice));
    };
    if !text.chars().all(|c| c.is_ascii_graphic()) {
        refuse(
            "the token (not shown) cannot be sent in a header",
            "visible ASCII characters without spaces".to_owned(),
        );
    } else if text.len() < TOKEN_MIN {
        refuse("the token (not shown) is too short", format!("at least {TOKEN_MIN} characters"));
    }
    Digest::of(text.as_bytes())
}

fn read(digest: &Secret, at: &Cursor<'_>) -> Digest {
    Digest::parse(digest.expose()).unwrap_or_else(|| {
        at.refuse(
            ConfigError::new("the value (not shown) is no SHA-256")
                .allowed("64 hexadecimal digits")
                .advice("take what `printf %s \"$TOKEN\" | sha256sum` prints first"),
        );
        nothing()
    })
}

/// Stands for a digest that was refused: no plan comes of it.
fn nothing() -> Digest {
    Digest::of(&[])
}

//! What a misspelt name may have been meant to be. Guesses only: which of them resolve is looked up by others.

use strsim::{normalized_damerau_levenshtein, osa_distance};

/// Guesses that are made of one name: each costs a question.
pub(super) const GUESSES_MAX: usize = 8;

/// As alike as this two words are taken for one, misspelt: two letters of ten.
const ALIKE: f64 = 0.8;

/// Guesses from the domains of other hosts, at most.
const BY_DOMAIN: usize = 2;

/// Under which AWS' endpoints stand.
const AWS: [&str; 3] = ["rds.amazonaws.com", "cache.amazonaws.com", "elb.amazonaws.com"];

/// What stands before the identifier of an ElastiCache endpoint, depending on what it leads to.
const CACHE_ROLES: [&str; 3] = ["master.", "replica.", "clustercfg."];

/// What stands before the hash of an Aurora or Multi-AZ cluster's endpoint, depending on what it leads to.
const CLUSTER_ROLES: [&str; 2] = ["cluster-ro-", "cluster-"];

/// AWS' regions, as they stand in the names of RDS' endpoints.
const REGIONS: &str = "\
    af-south-1 ap-east-1 ap-east-2 ap-northeast-1 ap-northeast-2 ap-northeast-3 ap-south-1 \
    ap-south-2 ap-southeast-1 ap-southeast-2 ap-southeast-3 ap-southeast-4 ap-southeast-5 \
    ap-southeast-7 ca-central-1 ca-west-1 eu-central-1 eu-central-2 eu-north-1 eu-south-1 eu-south-2 \
    eu-west-1 eu-west-2 eu-west-3 il-central-1 me-central-1 me-south-1 mx-central-1 sa-east-1 \
    us-east-1 us-east-2 us-gov-east-1 us-gov-west-1 us-west-1 us-west-2";

/// Names that `name` may have been meant to be, likeliest first; `others` are names that are in use.
pub(super) fn guesses(name: &str, others: &[String]) -> Vec<String> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let others: Vec<String> = others
        .iter()
        .map(|other| other.trim_end_matches('.').to_ascii_lowercase())
        .filter(|other| is_name(other))
        .collect();
    let mut guesses: Vec<String> = Vec::new();
    for guess in alike(&name, &others).chain(of_aws(&name)).chain(by_domain(&name, &others)) {
        if guess != name && !guesses.contains(&guess) {
            guesses.push(guess);
        }
    }
    guesses.truncate(GUESSES_MAX);
    guesses
}

fn is_name(host: &str) -> bool {
    host.parse::<std::net::IpAddr>().is_err() && !host.is_empty()
}

/// Whether one may be the other misspelt: as many labels, and of these each that differs nearly the same. Over the whole
/// name, what two have in common (the end of every endpoint of RDS) would count for all that differs. Labels that differ in
/// their numbers are neighbours, and no slip.
fn are_alike(one: &str, other: &str) -> bool {
    let words = |label: &str| label.chars().filter(|letter| !letter.is_ascii_digit()).collect::<String>();
    let mut pairs = one.split('.').zip(other.split('.')).filter(|(one, other)| one != other);
    one.split('.').count() == other.split('.').count()
        && pairs.all(|(one, other)| {
            normalized_damerau_levenshtein(one, other) >= ALIKE && words(one) != words(other)
        })
}

/// Other hosts that are spelt nearly so, nearest first.
fn alike(name: &str, others: &[String]) -> impl Iterator<Item = String> {
    let mut alike: Vec<(usize, String)> = others
        .iter()
        .filter(|other| are_alike(name, other))
        .map(|other| (osa_distance(name, other), other.clone()))
        .collect();
    alike.sort();
    alike.into_iter().map(|(_, other)| other)
}

/// The first label in the domains of other hosts: a name that lacks its domain, or has the one of another
/// environment.
fn by_domain(name: &str, others: &[String]) -> impl Iterator<Item = String> {
    let label = name.split('.').next().unwrap_or_default().to_owned();
    let mut domains: Vec<String> = others
        .iter()
        .filter_map(|other| other.split_once('.'))
        .map(|(_, domain)| domain.to_owned())
        .collect();
    domains.dedup();
    domains.into_iter().take(BY_DOMAIN).map(move |domain| format!("{label}.{domain}"))
}

/// The usual slips in the name of an endpoint of AWS.
fn of_aws(name: &str) -> impl Iterator<Item = String> {
    let mended = with_aws_domain(name);
    let whole = mended.clone().unwrap_or_else(|| name.to_owned());
    let region = with_region(&whole);
    let whole = region.clone().unwrap_or(whole);
    region.into_iter().chain(mended).chain(with_cluster(&whole)).chain(with_role(&whole))
}

/// The end of the name spelt right: `rds.amazonaw.com`, `rds.amazonaws.co`, `rds.aws.com`.
fn with_aws_domain(name: &str) -> Option<String> {
    let labels: Vec<&str> = name.split('.').collect();
    let (rest, end) = labels.split_at_checked(labels.len().checked_sub(3)?)?;
    let end = end.join(".");
    let aws = AWS.iter().min_by_key(|aws| osa_distance(&end, aws))?;
    let is_slip = end != **aws && normalized_damerau_levenshtein(&end, aws) >= ALIKE;
    (is_slip && !rest.is_empty()).then(|| format!("{}.{aws}", rest.join(".")))
}

/// The region spelt right: `eu-centrl-1`, `eu-central1`.
fn with_region(name: &str) -> Option<String> {
    let rest = name.strip_suffix(".rds.amazonaws.com")?;
    let (before, region) = rest.rsplit_once('.')?;
    let near = REGIONS.split_whitespace().min_by_key(|known| osa_distance(region, known))?;
    // None where it is spelt right.
    (1..=2).contains(&osa_distance(region, near)).then(|| format!("{before}.{near}.rds.amazonaws.com"))
}

/// The same hash with another role before it: a cluster's endpoint taken for an instance's, or the other way round.
fn with_cluster(name: &str) -> Vec<String> {
    let Some((identifier, rest)) = name.split_once('.').filter(|_| name.ends_with(".rds.amazonaws.com"))
    else {
        return Vec::new();
    };
    let bare = CLUSTER_ROLES.iter().find_map(|role| rest.strip_prefix(role));
    match bare {
        Some(bare) => vec![format!("{identifier}.{bare}")],
        None => vec![format!("{identifier}.cluster-{rest}")],
    }
}

/// With the role of an ElastiCache endpoint that lacks it, without it, and without something before the identifier.
fn with_role(name: &str) -> Vec<String> {
    if !name.ends_with(".cache.amazonaws.com") {
        return Vec::new();
    }
    match CACHE_ROLES.iter().find_map(|role| name.strip_prefix(role)) {
        Some(bare) => vec![bare.to_owned(), format!("master.{bare}"), format!("clustercfg.{bare}")],
        None => CACHE_ROLES.iter().map(|role| format!("{role}{name}")).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, others: &[&str]) -> Vec<String> {
        guesses(name, &others.iter().map(|other| (*other).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn another_host_that_is_spelt_nearly_so_comes_first() {
        let others = ["cache.corp.internal", "10.0.0.1", "postgres.corp.internal"];
        assert_eq!(of("postgers.corp.internal", &others)[0], "postgres.corp.internal");
        assert_eq!(of("chache.corp.internal", &others)[0], "cache.corp.internal");
        let others = ["datawarehouse.corp.internal", "datawarehouses.corp.internal"];
        assert_eq!(of("datawarehous.corp.internal", &others)[..2], others, "nearest first");
        assert!(of("mlflow.example", &["cache.corp.internal"]) == ["mlflow.corp.internal"]);
    }

    #[test]
    fn what_names_have_in_common_does_not_make_them_alike() {
        let rds = |instance: &str| format!("{instance}.c9akciq32.eu-central-1.rds.amazonaws.com");
        for (one, other) in [
            // One was deleted, the other is another database.
            (rds("orders"), rds("users")),
            (rds("mlflow"), rds("app")),
            // Neighbours by number.
            (rds("warehouse-1"), rds("warehouse-2")),
            ("db.corp.internal".to_owned(), "warehouse.db.corp.internal".to_owned()),
            ("db.corp.internal".to_owned(), "api.corp.internal".to_owned()),
        ] {
            let guesses = of(&one, &[&other]);
            assert!(!guesses.contains(&other), "{one}: {guesses:?}");
        }
        assert!(of(&rds("wharehouse"), &[&rds("warehouse")]).contains(&rds("warehouse")));
    }

    #[test]
    fn a_name_is_tried_in_the_domains_that_others_have() {
        assert_eq!(of("db", &["cache.corp.internal"]), ["db.corp.internal"]);
        assert_eq!(
            of("db.crop.internal", &["cache.corp.internal", "api.corp.internal."]),
            ["db.corp.internal"]
        );
        assert!(of("db.corp.internal", &["cache.corp.internal", "db.corp.internal"]).is_empty());
    }

    #[test]
    fn the_usual_slips_of_endpoints_are_mended() {
        let right = "mydb.c9akciq32.eu-central-1.rds.amazonaws.com";
        for wrong in [
            "mydb.c9akciq32.eu-central-1.rds.amazonaw.com",
            "mydb.c9akciq32.eu-central-1.rds.amazonaws.co",
            "mydb.c9akciq32.eu-central-1.rds.amazonaws.con",
            "mydb.c9akciq32.eu-central1.rds.amazonaws.com",
            "mydb.c9akciq32.eu-centrla-1.rds.amazonaws.com",
            "mydb.c9akciq32.eu-centrla-1.rds.amazonaw.com",
            "mydb.cluster-c9akciq32.eu-central-1.rds.amazonaws.com",
            "mydb.cluster-ro-c9akciq32.eu-central-1.rds.amazonaws.com",
            "MyDB.c9akciq32.eu-central-1.rds.amazonaw.com.",
        ] {
            assert!(of(wrong, &[]).iter().any(|guess| guess == right), "{wrong}: {:?}", of(wrong, &[]));
        }
        assert_eq!(of(right, &[]), ["mydb.cluster-c9akciq32.eu-central-1.rds.amazonaws.com"]);
        let cache = "my.abc.0001.euc1.cache.amazonaws.com";
        assert!(of(cache, &[]).contains(&format!("master.{cache}")));
        assert!(of(&format!("replica.{cache}"), &[]).contains(&cache.to_owned()));
    }

    #[test]
    fn guesses_are_few_and_never_the_name_itself() {
        let others: Vec<String> = ('a'..='z').map(|x| format!("warehouse{x}.corp.internal")).collect();
        let guesses = guesses("warehouse.corp.internal", &others);
        assert_eq!(guesses.len(), GUESSES_MAX);
        assert!(!guesses.contains(&"warehouse.corp.internal".to_owned()));
        for odd in ["", ".", "..", "rds.amazonaws.com", ".rds.amazonaws.com", "cache.amazonaws.com"] {
            of(odd, &["", ".", "db"]);
        }
    }
}

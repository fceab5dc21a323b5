//! What OpenSSL says, for somebody who does not have its source. native-tls passes its texts on and nothing
//! else that tells one failure from another.

/// OpenSSL's `error:0A000086:SSL routines:fn:certificate verify failed:file.c:1889: (certificate has expired)`
/// without the parts that tell nothing to somebody who does not have its source.
pub(super) fn readable(error: &str) -> String {
    library_error(error).unwrap_or_else(|| error.to_owned())
}

/// The same for what is an error of OpenSSL; `None` for any other.
pub(super) fn library_error(error: &str) -> Option<String> {
    let rest = error.strip_prefix("error:")?;
    let verdict = rest.rsplit_once(" (").map(|(_, verdict)| format!(" ({verdict}")).unwrap_or_default();
    let reason = rest.split(':').nth(3).unwrap_or(rest);
    Some(format!("{reason}{verdict}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_and_verdict_are_kept_and_places_in_its_source_left_out() {
        let said = "error:0A000086:SSL routines:tls_post_process_server_certificate:certificate verify failed:\
                    ../ssl/statem/statem_clnt.c:1889: (certificate has expired)";
        assert_eq!(readable(said), "certificate verify failed (certificate has expired)");
        assert_eq!(
            library_error("error:0A00010B:SSL routines:ssl3_get_record:wrong version number:x.c:354:")
                .unwrap(),
            "wrong version number"
        );
        assert_eq!((readable("Broken pipe"), library_error("Broken pipe")), ("Broken pipe".into(), None));
    }
}

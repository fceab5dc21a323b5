//! The user info of a URL: a password in clear text in the middle of what people like to be shown.

use url::Url;

/// Whether user info seems to end too early. It ends at the last `@` before a `/`, `?` or `#`; an `@` behind
/// that may be the end of a password which holds one of these unencoded, and what is taken for the host and
/// its path is then the user and that password.
pub(super) fn ends_early(url: &Url) -> bool {
    [Some(url.path()), url.query(), url.fragment()].into_iter().flatten().any(|part| part.contains('@'))
}

//! Values that must not be shown.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use super::substitute::secret_file;

/// A secret text. It prints as `***` whatever prints it, and its memory is wiped when it goes.
#[derive(Clone)]
pub struct Secret {
    text: SecretString,
    /// The file whose whole content it is.
    file: Option<Arc<Path>>,
}

/// What stands where a secret would.
pub const REDACTED: &str = "***";

impl Secret {
    /// Takes a text out of sight.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: SecretString::from(text.into()), file: None }
    }

    /// The same secret, as the content of this file.
    pub(super) fn of_file(self, file: Option<Arc<Path>>) -> Self {
        Self { file, ..self }
    }

    /// The text, for the one place that hands it to a server.
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }

    /// The file whose whole content it is, where it is one's: `${file:/run/secrets/x}` and nothing else.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// What the file holds by now: secrets are rotated while we run. Without a file, the same secret. It reads a
    /// file, so it may block.
    ///
    /// # Errors
    ///
    /// Why the file cannot be read, in words that follow its name; never anything of its content.
    pub fn reread(&self) -> Result<Self, String> {
        match &self.file {
            None => Ok(self.clone()),
            Some(file) => Ok(Self::new(secret_file(file)?).of_file(Some(Arc::clone(file)))),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl PartialEq for Secret {
    /// By their texts, wherever they come from. Not in constant time: never compare what a stranger sent by it.
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn does_not_print() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?} {:#?}", Some(&secret)), "*** Some(\n    ***,\n)");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn says_what_its_file_holds_by_now() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        let secret = Secret::new("old").of_file(Some(file.as_path().into()));
        std::fs::write(&file, "new\n").unwrap();
        let renewed = secret.reread().unwrap();
        assert_eq!((renewed.expose(), renewed.file()), ("new", Some(file.as_path())));
        std::fs::remove_file(&file).unwrap();
        assert_eq!(renewed.reread(), Err("does not exist".to_owned()));
        assert_eq!(Secret::new("fixed").reread(), Ok(Secret::new("fixed")));
    }
}

//! Bounds of warnings: a value, or `off`. A bound that is not said has its default, so there has to be a word for
//! none at all; a number such as 0 or 100 would leave readers to guess.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// What stands for no bound.
pub(super) const OFF: &str = "off";

/// What a bound can be of.
pub(super) trait Boundary: Sized {
    /// What is allowed, for errors.
    const ALLOWED: &'static str;

    /// What its text looks like, for the schema; it may look so and still be no value.
    fn pattern() -> String;

    /// The value, if `text` is one.
    fn read(text: &str) -> Option<Self>;
}

/// A bound as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound<T> {
    /// None.
    Off,
    /// This one.
    At(T),
}

impl<'de, T: Boundary> Deserialize<'de> for Bound<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text<T>(PhantomData<T>);

        impl<T: Boundary> Visitor<'_> for Text<T> {
            type Value = Bound<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}, or `{OFF}`", T::ALLOWED)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Bound<T>, E> {
                match text {
                    OFF => Ok(Bound::Off),
                    _ => T::read(text)
                        .map(Bound::At)
                        .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }

        deserializer.deserialize_str(Text(PhantomData))
    }
}

/// The bound that holds: the one that was said, or else the default.
pub(super) fn resolved<T>(said: Option<Bound<T>>, default: Option<T>) -> Option<T> {
    match said {
        None => default,
        Some(Bound::Off) => None,
        Some(Bound::At(value)) => Some(value),
    }
}

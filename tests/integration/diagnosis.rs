//! `sickbay diagnose` against what is really broken: networks in namespaces, and real servers. One case a test; the table
//! of all of them, with what is printed, is in `docs/diagnosis.md`.

mod case;
mod names;
mod network;
mod ports;
mod postgres;
mod redis;
mod tls;

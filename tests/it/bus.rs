//! Events end to end: in over POST, out over server-sent events. R05, R07, R54.

mod cursors;
mod foreign_text;
mod publish;

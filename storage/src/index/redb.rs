//! redb behind the index trait.

//! `berth manifest ...`.

pub mod inspect;

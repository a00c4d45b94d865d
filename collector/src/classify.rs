//! Judgement: whether a call and each of its legs was good, by published rules that are data.
//!
//! [`inputs`] makes measured amounts of [`CallFacts`](crate::call::CallFacts), [`rules`] says which amounts a rule set
//! bounds, [`rule_file`] reads rule sets, [`verdict`] puts one to the other, [`place`] says where a leg was. A verdict
//! compares whole numbers only.
//!
//! What was not measured decides nothing: a leg of which no bounded amount is known is `unavailable`, with why, and
//! never good or poor. What the endpoint itself may have lost makes an amount a range ([`inputs::Amount`]), and a range
//! around a bound decides nothing either.

pub mod inputs;
pub mod place;
pub mod rule_file;
pub mod rules;
pub mod verdict;

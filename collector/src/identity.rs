//! Who may speak as which endpoint: tokens let a machine in, certificates say which endpoint it is, an operator takes
//! that back.
//!
//! [`registrar`] is what connections ask; it joins the [`registry`] on disk, which is the truth, with the
//! [`authority`] that signs. What may be done is decided by [`token`] and [`standing`], how often by [`pace`].
//! [`refusal`] names and counts every reason to turn somebody away; [`init`] makes a collector's own authority.

pub mod authority;
pub mod digest;
pub mod init;
pub mod pace;
pub mod reach;
pub mod refusal;
pub mod registrar;
pub mod registry;
pub mod server_renewal;
pub mod standing;
pub mod token;

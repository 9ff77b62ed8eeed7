//! What `setup` is made of: the secrets as documents that are edited, where they are kept, and what a person gives.

pub mod asking;
pub mod documents;
pub mod given;
pub mod guide;
pub mod held;
pub mod keeping;
pub mod loops_key;
pub mod refusal;
pub mod webhooks;

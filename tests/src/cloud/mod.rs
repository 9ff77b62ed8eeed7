//! The relay on AWS, without AWS: the built functions run as Lambda runs them, with Secrets Manager, SQS and DynamoDB
//! emulated, everything as the template describes it.

pub mod event_source;
pub mod function;
pub mod gateway;
pub mod sandbox;

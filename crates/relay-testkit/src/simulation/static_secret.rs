//! A secret that does not change.

use std::sync::Arc;

use relay::ports::secrets::{SecretError, SecretField, SecretSource};

/// Secret source of a test: always the same secret.
#[derive(Debug, Clone)]
pub struct StaticSecret<T> {
    secret: Arc<T>,
    field_names: fn(SecretField) -> &'static str,
}

impl<T> StaticSecret<T> {
    /// A source of this secret. `field_names` returns the setting behind each field.
    pub fn new(secret: T, field_names: fn(SecretField) -> &'static str) -> Self {
        Self { secret: Arc::new(secret), field_names }
    }
}

impl<T: Send + Sync> SecretSource<T> for StaticSecret<T> {
    async fn current(&self) -> Result<Arc<T>, SecretError> {
        Ok(Arc::clone(&self.secret))
    }

    async fn refresh(&self) -> Result<Arc<T>, SecretError> {
        self.current().await
    }

    fn describe_field(&self, field: SecretField) -> String {
        (self.field_names)(field).to_owned()
    }
}

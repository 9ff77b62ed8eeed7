//! Why a console cannot show or do something.

/// An error of the relay that the console shows. The page shows its sentence.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// What the page asked for does not make sense, or is not there.
    #[error("{0}")]
    BadRequest(String),
    /// There is no such delivery, or its body is not stored any more.
    #[error("{0}")]
    NotFound(String),
    /// The store, AWS or a destination cannot be read or changed now.
    #[error("{message}")]
    Unavailable {
        /// What happened, why, and what to do.
        message: String,
        /// The error behind it.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

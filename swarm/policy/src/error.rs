//! What can go wrong in the policy, said so that a person can act on it.

/// The result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the policy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The tensor library refused an operation.
    #[error("tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
    /// The model's configuration contradicts itself or is not supported.
    #[error("model configuration: {0}")]
    Config(String),
    /// The weights are unreadable or do not belong to the configuration.
    #[error("model weights: {0}")]
    Weights(String),
    /// The tokenizer is unreadable, or lacks what the chat template needs.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// The chat template is unreadable, or refuses a conversation.
    #[error("chat template: {0}")]
    Template(String),
    /// A caller passed something the model cannot work on.
    #[error("{0}")]
    Input(String),
    /// What was asked for would take more memory than there is.
    #[error("not enough memory: {0}")]
    Memory(String),
    /// A checkpoint is torn, or belongs to another model.
    #[error("checkpoint: {0}")]
    Checkpoint(String),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Error {
    /// The same, said of a file or folder.
    pub(crate) fn of(self, path: &std::path::Path) -> Self {
        let say = |why: String| format!("{}: {why}", path.display());
        match self {
            Self::Config(why) => Self::Config(say(why)),
            Self::Weights(why) => Self::Weights(say(why)),
            Self::Tokenizer(why) => Self::Tokenizer(say(why)),
            Self::Template(why) => Self::Template(say(why)),
            other => other,
        }
    }
}

/// What a reader that is not ours makes of a stranger's file; some panic.
///
/// # Errors
/// It panicked; in words.
pub(crate) fn guarded<T>(read: impl FnOnce() -> T) -> std::result::Result<T, String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(read))
        .map_err(|_| "its reader stumbled over it: the file is broken".to_owned())
}

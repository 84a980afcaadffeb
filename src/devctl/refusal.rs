//! Why something is not done: what was typed makes no sense, or it failed.

/// In words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It makes no sense, whatever the machine says: exit status 2.
    Usage(String),
    /// The machine or the host refuses it: exit status 1.
    Failed(String),
}

impl Refusal {
    /// The same in other words.
    #[must_use]
    pub(super) fn map(self, words: impl FnOnce(String) -> String) -> Refusal {
        match self {
            Refusal::Usage(why) => Refusal::Usage(words(why)),
            Refusal::Failed(why) => Refusal::Failed(words(why)),
        }
    }
}

impl From<String> for Refusal {
    fn from(why: String) -> Refusal {
        Refusal::Failed(why)
    }
}

impl From<&str> for Refusal {
    fn from(why: &str) -> Refusal {
        Refusal::Failed(why.into())
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Refusal::Usage(why) | Refusal::Failed(why)) = self;
        f.write_str(why)
    }
}

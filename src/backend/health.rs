//! How the links stand that a world has to its servers. It must not know which servers these are.

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    pub store: Link,
    pub backplane: Link,
    /// Where old conversations are kept apart; without it, only they can't be read.
    pub history: Option<Link>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    Up,
    /// With the reason, fit for an operator's eyes: no address with credentials in it.
    Down(String),
}

impl Link {
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self, Self::Up)
    }
}

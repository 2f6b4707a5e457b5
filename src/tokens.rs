//! How many tokens a text is, for those who have no model at hand to ask. Pure.

/// What every turn costs beside its text: role and separators.
pub const TURN: u64 = 8;

/// Tokens that this text is, rather more than fewer: a token per 3.5 bytes of ASCII, two per 3 other characters.
#[must_use]
pub fn estimate(text: &str) -> u64 {
    let mut weight = Weight::default();
    weight.add(text);
    weight.tokens()
}

/// The same for a text that comes in pieces.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weight {
    ascii: u64,
    other: u64,
}

impl Weight {
    pub fn add(&mut self, text: &str) {
        let ascii = text.bytes().filter(u8::is_ascii).count();
        self.ascii += ascii as u64;
        self.other += if ascii == text.len() { 0 } else { (text.chars().count() - ascii) as u64 };
    }

    #[must_use]
    pub fn tokens(&self) -> u64 {
        (self.ascii * 2).div_ceil(7) + (self.other * 2).div_ceil(3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_lie_on_the_safe_side() {
        assert_eq!(estimate(""), 0);
        assert_eq!(estimate("Hello, how are you today?"), 8);
        assert_eq!(estimate("日本語"), 2);
        assert!(estimate("Trời hôm nay đẹp quá nhỉ") >= 8);
    }
}

//! Tokens: secrets that only their holder has. What is stored is a digest, from which no token can be had.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::model::UserId;

const CHANCE_BYTES: usize = 32;
const USER_CHARS: usize = 26;
/// 32 bytes without padding.
const CHANCE_CHARS: usize = 43;

/// A token as it came, or as it is given once. It names its user, so that finding it is finding two records.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::gateway) struct Token {
    pub(in crate::gateway) user: UserId,
    text: String,
}

impl Token {
    pub(in crate::gateway) fn generate(user: &UserId) -> Self {
        let chance: [u8; CHANCE_BYTES] = rand::random();
        let text = format!("{}{}", user.as_str().trim_start_matches("usr_"), URL_SAFE_NO_PAD.encode(chance));
        Self { user: user.clone(), text }
    }

    /// `None` for what can't be one of ours.
    pub(in crate::gateway) fn parse(text: &str) -> Option<Self> {
        let (user, chance) = text.split_at_checked(USER_CHARS)?;
        let user = UserId::parse(&format!("usr_{user}")).ok()?;
        let plain = chance.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        (plain && chance.len() == CHANCE_CHARS).then(|| Self { user, text: text.to_owned() })
    }

    /// What is stored of it, and compared: finding a digest by chance is finding the token by chance.
    pub(in crate::gateway) fn digest(&self) -> String {
        Sha256::digest(&self.text).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// For the one header or body that hands it out.
    pub(in crate::gateway) fn reveal(&self) -> &str {
        &self.text
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_shows_itself_nowhere() {
        let user = UserId::generate();
        let token = Token::generate(&user);
        let read = Token::parse(token.reveal()).unwrap();
        assert_eq!((&read, &read.user), (&token, &user));
        assert_eq!(read.digest().len(), 64);
        assert_ne!(Token::generate(&user).digest(), token.digest());
        assert!(!format!("{token:?}").contains(token.reveal()));
        let text = token.reveal();
        for bad in ["", "x", &text[1..], &format!("{text}x"), &text.replace(&text[..26], &"/".repeat(26)), &"é".repeat(40)] {
            assert_eq!(Token::parse(bad), None, "{bad}");
        }
    }
}

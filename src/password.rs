//! Passwords: hashed with argon2id, checked against their hash. Must not know whose they are or where they are kept.
//!
//! One hash takes about 19 MiB of memory and tens of milliseconds of a processor, which is what makes guessing dear. So it
//! belongs on a thread that may block, and only a few at once.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};

/// Characters of a new password at least.
pub const CHARACTERS_MIN: usize = 8;

/// Bytes of a password at most, so that nobody hashes a novel.
pub const BYTES_MAX: usize = 1_024;

/// Stands in for the hash of somebody who isn't there, so that asking for nobody takes as long as asking for somebody. The
/// hash is 32 bytes of zero, which no password has.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$c3RhbmQtaW4tc2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Why a password can't be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("a password has at least {CHARACTERS_MIN} characters")]
    Short,
    #[error("a password has at most {BYTES_MAX} bytes")]
    Long,
    #[error("the password could not be hashed")]
    Failed,
}

/// The hash to keep, as a PHC string with its parameters and its salt.
///
/// # Errors
/// [`Unfit`] passwords.
pub fn hash(password: &str) -> Result<String, Unfit> {
    if password.chars().count() < CHARACTERS_MIN {
        return Err(Unfit::Short);
    }
    if password.len() > BYTES_MAX {
        return Err(Unfit::Long);
    }
    Argon2::default().hash_password(password.as_bytes()).map(|hash| hash.to_string()).map_err(|_| Unfit::Failed)
}

/// Whether this is the password. Without a hash it is not, after the same work.
#[must_use]
pub fn verify(password: &str, hash: Option<&str>) -> bool {
    let known = hash.and_then(|hash| PasswordHash::new(hash).ok());
    let stand_in = PasswordHash::new(NOBODY).ok();
    // One too long to be anybody's is nobody's.
    let fits = password.len() <= BYTES_MAX;
    let (checked, counts) = match (&known, &stand_in) {
        (Some(known), _) if fits => (known, true),
        (_, Some(nobody)) => (nobody, false),
        _ => return false,
    };
    let password = if fits { password } else { "" };
    Argon2::default().verify_password(password.as_bytes(), checked).is_ok() && counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_fits_its_own_hash_alone() {
        let held = hash("đúng ngựa pin kẹp").unwrap();
        assert!(held.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{held}");
        assert!(verify("đúng ngựa pin kẹp", Some(&held)));
        assert!(!verify("đúng ngựa pin kep", Some(&held)));
        assert_ne!(hash("đúng ngựa pin kẹp").unwrap(), held, "each has a salt of its own");
    }

    #[test]
    fn nobody_has_a_password() {
        assert!(PasswordHash::new(NOBODY).is_ok(), "the stand-in is read, so that it costs the same");
        for password in ["", "password", &"x".repeat(BYTES_MAX + 1)] {
            assert!(!verify(password, None));
            assert!(!verify(password, Some("")), "what can't be read fits nobody");
        }
        assert!(!verify(&"x".repeat(BYTES_MAX + 1), Some(&hash("x".repeat(9).as_str()).unwrap())));
    }

    #[test]
    fn passwords_have_a_least_and_a_most() {
        assert_eq!(hash("bảy chữ"), Err(Unfit::Short));
        assert_eq!(hash(&"x".repeat(BYTES_MAX + 1)), Err(Unfit::Long));
        assert!(hash("tám chữ.").is_ok());
    }
}

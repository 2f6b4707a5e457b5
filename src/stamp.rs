//! Tokens that say their place and when they were made: the demonstration model writes them when it is told to (`/demo
//! stamp`), the bench reads them off a socket. Pure; must not know how they travel.

/// Bytes of one: six digits of its index, a space, sixteen digits of microseconds since 1970, a space.
pub const BYTES: usize = INDEX_DIGITS + 1 + TIME_DIGITS + 1;
/// Tokens that can be told apart.
pub const TOKENS_MAX: usize = 1_000_000;

const INDEX_DIGITS: usize = 6;
const TIME_DIGITS: usize = 16;

/// Appends the token of this index, made at this time.
pub fn write(text: &mut String, index: usize, micros: u64) {
    digits(text, index as u64, INDEX_DIGITS);
    text.push(' ');
    digits(text, micros, TIME_DIGITS);
    text.push(' ');
}

/// Index and time of a token; `None` for what is none.
#[must_use]
pub fn read(token: &[u8]) -> Option<(usize, u64)> {
    let (index, rest) = token.split_at_checked(INDEX_DIGITS)?;
    let (time, end) = rest.strip_prefix(b" ")?.split_at_checked(TIME_DIGITS)?;
    if end != b" " {
        return None;
    }
    Some((usize::try_from(number(index)?).ok()?, number(time)?))
}

/// Where a text of such tokens goes on: the first token that it doesn't wholly hold, and how many bytes of it are there.
/// `None` when it is another text.
#[must_use]
pub fn find(so_far: &str) -> Option<(usize, usize)> {
    let mut tokens = so_far.as_bytes().chunks_exact(BYTES);
    let whole = (&mut tokens).enumerate().all(|(at, token)| read(token).is_some_and(|(index, _)| index == at));
    let plain = tokens.remainder().iter().all(|byte| byte.is_ascii_digit() || *byte == b' ');
    (whole && plain).then_some((so_far.len() / BYTES, so_far.len() % BYTES))
}

fn digits(text: &mut String, number: u64, count: usize) {
    let mut divisor = 10_u64.pow(u32::try_from(count - 1).unwrap_or(0));
    for _ in 0..count {
        text.push(char::from(b'0' + (number / divisor % 10) as u8));
        divisor /= 10;
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Time;

    #[test]
    fn a_stamp_reads_back_and_nothing_else_does() {
        let mut text = String::new();
        write(&mut text, 42, 1_763_900_000_123_456);
        assert_eq!(text, "000042 1763900000123456 ");
        assert_eq!(read(text.as_bytes()), Some((42, 1_763_900_000_123_456)));
        for bad in ["", "000042 176390000012345 ", "000042 1763900000123456", "0000x2 1763900000123456 ", "The quiet river"] {
            assert_eq!(read(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_stamped_text_goes_on_at_any_byte() {
        let mut text = String::new();
        (0..3).for_each(|index| write(&mut text, index, Time::now_us()));
        for cut in 0..=text.len() {
            assert_eq!(find(&text[..cut]), Some((cut / BYTES, cut % BYTES)));
        }
        assert_eq!(find(&text[BYTES..]), None, "it begins with the first");
        assert_eq!(find(&(text + "no")), None);
    }
}

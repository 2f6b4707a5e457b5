//! What a prompt tells the demonstration model to do. Pure; what can't be understood is no order.
//!
//! Words anywhere: `slow` `long` `silent` `reason`, in Vietnamese `chậm` `dài` `im lặng` `suy nghĩ`; `silent=5s`.
//! As the first or last word: `fail`, `lỗi`. Exactly, on a line of its own:
//! `/demo tokens=2000 rate=50 delay=500 fail=after:20 silent=5s reason=50 stamp at=1763900000000` (rate in tokens a
//! second, 0 as fast as can be; delay in milliseconds; for `chatnode bench`: stamp, the tokens say when they were made, and at, the
//! millisecond since 1970 before which none is made, at most a minute away).

use std::time::Duration;

use unicode_normalization::UnicodeNormalization;

/// Tokens of prose, and of reasoning, at most.
const TOKENS_MAX: usize = 1_000_000;
const RATE: u32 = 60;
const RATE_SLOW: u32 = 10;
const DELAY: Duration = Duration::from_millis(150);
const LONG_TOKENS: usize = 2_000;
const REASONING_TOKENS: usize = 60;
/// Characters of a prompt that are searched for orders.
const READ_CHARS_MAX: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orders {
    pub vietnamese: bool,
    /// So many tokens of prose instead of the guide.
    pub prose_tokens: Option<usize>,
    /// Tokens a second; 0 as fast as can be.
    pub rate: u32,
    /// Before the first token.
    pub delay: Duration,
    /// Fails when so many tokens of text are there.
    pub fail_after: Option<usize>,
    /// No token before this has passed; `Some(None)`: none ever.
    pub silent: Option<Option<Duration>>,
    pub reasoning_tokens: usize,
    /// Each token says its index and when it was made, instead of prose.
    pub stamp: bool,
    /// No token before this millisecond since 1970, so that many answers can begin as one.
    pub at_ms: Option<u64>,
}

impl Orders {
    #[must_use]
    pub fn read(prompt: &str) -> Self {
        let text: String = prompt.chars().take(READ_CHARS_MAX).nfc().flat_map(char::to_lowercase).collect();
        let mut orders = Self {
            vietnamese: is_vietnamese(&text),
            prose_tokens: None,
            rate: RATE,
            delay: DELAY,
            fail_after: None,
            silent: None,
            reasoning_tokens: 0,
            stamp: false,
            at_ms: None,
        };
        match text.lines().find_map(|line| line.trim().strip_prefix("/demo")) {
            Some(line) => orders.line(line),
            None => orders.words(&text),
        }
        orders
    }

    fn line(&mut self, line: &str) {
        self.delay = Duration::ZERO;
        for word in line.split_whitespace() {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            match key {
                "tokens" => self.prose_tokens = value.parse().ok().map(|tokens: usize| tokens.min(TOKENS_MAX)),
                "rate" => self.rate = value.parse().unwrap_or(self.rate),
                "delay" => self.delay = duration(value).unwrap_or(self.delay),
                "fail" => self.fail_after = Some(after(value)),
                "silent" => self.silent = Some(duration(value)),
                "reason" => self.reasoning_tokens = value.parse().unwrap_or(REASONING_TOKENS).min(TOKENS_MAX),
                "stamp" => self.stamp = true,
                "at" => self.at_ms = value.parse().ok(),
                _ => {}
            }
        }
        if self.stamp {
            self.prose_tokens.get_or_insert(LONG_TOKENS);
        }
    }

    fn words(&mut self, text: &str) {
        let words: Vec<&str> = text.split_whitespace().map(|word| word.trim_matches(is_mark)).filter(|w| !w.is_empty()).collect();
        let pair = |first, second| words.windows(2).any(|two| two == [first, second]);
        for word in &words {
            match word.split_once('=').unwrap_or((*word, "")) {
                ("slow" | "chậm", "") => self.rate = RATE_SLOW,
                ("long" | "dài", "") => self.prose_tokens = Some(LONG_TOKENS),
                ("silent", value) => self.silent = Some(duration(value)),
                ("reason", "") => self.reasoning_tokens = REASONING_TOKENS,
                ("lặng", value) if pair("im", word) => self.silent = Some(duration(value)),
                _ => {}
            }
        }
        if pair("suy", "nghĩ") {
            self.reasoning_tokens = REASONING_TOKENS;
        }
        for word in words.first().into_iter().chain(words.last()) {
            if let ("fail" | "lỗi", value) = word.split_once('=').unwrap_or((*word, "")) {
                self.fail_after = Some(after(value));
            }
        }
    }
}

/// Punctuation around a word; `=` and `:` belong to orders.
fn is_mark(c: char) -> bool {
    !c.is_alphanumeric() && c != '=' && c != '/'
}

/// `after:20`, or at once.
fn after(value: &str) -> usize {
    value.strip_prefix("after:").and_then(|tokens| tokens.parse().ok()).unwrap_or(0)
}

/// `5s`, `500ms`, or milliseconds.
fn duration(value: &str) -> Option<Duration> {
    if let Some(ms) = value.strip_suffix("ms") {
        return ms.parse().ok().map(Duration::from_millis);
    }
    match value.strip_suffix('s') {
        Some(seconds) => Duration::try_from_secs_f64(seconds.parse().ok()?).ok(),
        None => value.parse().ok().map(Duration::from_millis),
    }
}

/// Letters that no other language writes, or a frequent word with letters that French shares.
fn is_vietnamese(lower: &str) -> bool {
    lower.chars().any(|c| matches!(c, '\u{1ea0}'..='\u{1ef9}' | 'ă' | 'đ' | 'ơ' | 'ư'))
        || lower
            .split(|c: char| !c.is_alphanumeric())
            .any(|word| matches!(word, "chào" | "là" | "gì" | "và" | "tôi" | "không" | "dài"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_question_orders_nothing() {
        let orders = Orders::read("What is chatnode?");
        assert_eq!((orders.rate, orders.delay, orders.prose_tokens), (RATE, DELAY, None));
        assert_eq!((orders.fail_after, orders.silent, orders.reasoning_tokens, orders.vietnamese), (None, None, 0, false));
    }

    #[test]
    fn words_order_in_both_languages() {
        assert_eq!(Orders::read("A slow answer").rate, RATE_SLOW);
        assert_eq!(Orders::read("trả lời chậm, thật dài").rate, RATE_SLOW);
        assert_eq!(Orders::read("Thật DÀI!").prose_tokens, Some(LONG_TOKENS));
        assert_eq!(Orders::read("a long, long one").prose_tokens, Some(LONG_TOKENS));
        assert_eq!(Orders::read("be silent").silent, Some(None));
        assert_eq!(Orders::read("Im lặng nhé").silent, Some(None));
        assert_eq!(Orders::read("silent=5s please").silent, Some(Some(Duration::from_secs(5))));
        assert_eq!(Orders::read("reason about it").reasoning_tokens, REASONING_TOKENS);
        assert_eq!(Orders::read("hãy suy nghĩ").reasoning_tokens, REASONING_TOKENS);
    }

    #[test]
    fn failing_is_ordered_first_or_last_only() {
        assert_eq!(Orders::read("Fail.").fail_after, Some(0));
        assert_eq!(Orders::read("please fail=after:20").fail_after, Some(20));
        assert_eq!(Orders::read("Lỗi đi").fail_after, Some(0));
        assert_eq!(Orders::read("why do tests fail so often").fail_after, None);
    }

    #[test]
    fn a_line_says_it_exactly_and_alone() {
        let orders = Orders::read(
            "long slow words\n  /demo tokens=7 rate=0 delay=500 fail=after:3 silent=250ms reason=4 stamp at=5 x=y z\nfail",
        );
        let silent = Some(Some(Duration::from_millis(250)));
        let expected = Orders {
            vietnamese: false,
            prose_tokens: Some(7),
            rate: 0,
            delay: Duration::from_millis(500),
            fail_after: Some(3),
            silent,
            reasoning_tokens: 4,
            stamp: true,
            at_ms: Some(5),
        };
        assert_eq!(orders, expected);
    }

    #[test]
    fn vietnamese_is_recognised_also_when_decomposed() {
        assert!(Orders::read("Xin chào").vietnamese);
        assert!(Orders::read("thơ\u{300}i tiết").vietnamese);
        assert!(!Orders::read("déjà vu, où êtes-vous?").vietnamese);
    }

    proptest::proptest! {
        #[test]
        fn any_prompt_is_read(prompt in ".*") {
            let _ = Orders::read(&prompt);
        }

        #[test]
        fn any_line_is_read(rest in ".*") {
            let _ = Orders::read(&format!("/demo {rest}"));
        }
    }
}

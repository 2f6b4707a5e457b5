//! Where an old text meets its continuation: how much of the old stands, and what of the new repeats it. Pure.

use unicode_segmentation::UnicodeSegmentation;

/// Bytes of the old text's end that are looked for at the beginning of the new.
const OVERLAP_BYTES_MAX: usize = 512;

/// From so many bytes on, a repetition is one even within a word.
const SURE_BYTES: usize = 16;

/// How far back a word's beginning is looked for, in bytes.
const WORD_BYTES_MAX: usize = 64;

/// The bytes of a text that an upstream can be given as its own beginning: whole graphemes that nothing can still
/// join, and no blank at the end, which some upstreams refuse and others swallow.
#[must_use]
pub(super) fn safe_boundary(text: &str) -> usize {
    let mut head = text.trim_end();
    while let Some((start, last)) = head.grapheme_indices(true).next_back() {
        if !is_open(last) {
            break;
        }
        head = head[..start].trim_end();
    }
    head.len()
}

/// The bytes up to the beginning of the last word: one who is asked to go on writes whole words, without the space
/// before the first. Text without spaces is cut at a safe boundary.
#[must_use]
pub(super) fn word_boundary(text: &str) -> usize {
    match text.char_indices().rev().find(|(_, c)| c.is_whitespace()) {
        Some((at, space)) if at + WORD_BYTES_MAX >= text.len() => at + space.len_utf8(),
        _ => safe_boundary(text),
    }
}

/// A joiner wants a partner, half a flag the other half, and a replacement character stands for half a character.
fn is_open(grapheme: &str) -> bool {
    let flags = grapheme.chars().filter(|c| matches!(c, '\u{1f1e6}'..='\u{1f1ff}')).count();
    grapheme.ends_with('\u{200d}') || grapheme.contains('\u{fffd}') || flags == 1
}

/// Takes away from the beginning of a continuation what repeats the old text. Holds the first characters back until
/// that is decided.
#[derive(Clone, Debug)]
pub(super) struct Seam {
    old: String,
    /// Places in `old` at which a repetition may begin, longest first.
    starts: Vec<usize>,
    held: String,
    decided: bool,
}

impl Seam {
    /// Lets everything through.
    #[must_use]
    pub(super) fn none() -> Self {
        Self { old: String::new(), starts: Vec::new(), held: String::new(), decided: true }
    }

    /// Takes away the whole of the old text: some servers send the beginning that they were given once more.
    #[must_use]
    pub(super) fn echo(old: &str) -> Self {
        Self { old: old.to_owned(), starts: vec![0], held: String::new(), decided: old.is_empty() }
    }

    /// Takes away the longest end of the old text, too: a model that is asked to go on likes to repeat the last words.
    #[must_use]
    pub(super) fn overlap(old: &str) -> Self {
        let near = |at: usize| at == 0 || old.len() - at <= OVERLAP_BYTES_MAX;
        let starts = old.char_indices().map(|(at, _)| at).filter(|at| near(*at)).collect();
        Self { old: old.to_owned(), starts, held: String::new(), decided: old.is_empty() }
    }

    /// The part of the continuation that can be shown now.
    pub(super) fn feed(&mut self, text: String) -> Option<String> {
        if self.decided {
            return Some(text).filter(|text| !text.is_empty());
        }
        self.held.push_str(&text);
        let waits = self.starts.iter().any(|start| {
            let end = &self.old[*start..];
            // One more character tells whether a short repetition ends with a word.
            if self.held.len() > end.len() {
                false
            } else {
                end.starts_with(&self.held) && (end.len() > self.held.len() || end.len() < SURE_BYTES)
            }
        });
        if waits { None } else { self.flush() }
    }

    /// The continuation is over, or decided: what was held back, without what repeats.
    pub(super) fn flush(&mut self) -> Option<String> {
        if std::mem::replace(&mut self.decided, true) {
            return None;
        }
        let repeated = self.starts.iter().find(|start| self.repeats(**start)).map_or(0, |start| self.old.len() - start);
        let held = std::mem::take(&mut self.held);
        Some(held[repeated..].to_owned()).filter(|text| !text.is_empty())
    }

    fn repeats(&self, start: usize) -> bool {
        let end = &self.old[start..];
        let Some(rest) = self.held.strip_prefix(end) else { return false };
        let is_word = |c: char| c.is_alphanumeric();
        let begins = !self.old[..start].ends_with(is_word) || !end.starts_with(is_word);
        let ends = !end.ends_with(is_word) || !rest.starts_with(is_word);
        end.len() >= SURE_BYTES || (begins && ends)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn join(mut seam: Seam, pieces: &[&str]) -> String {
        let mut all: String = pieces.iter().filter_map(|piece| seam.feed((*piece).to_owned())).collect();
        all.extend(seam.flush());
        all
    }

    #[test]
    fn half_characters_and_blanks_do_not_stand() {
        for (text, kept) in [
            ("", ""),
            ("Hello", "Hello"),
            ("Hello \n", "Hello"),
            ("Việt e\u{301}", "Việt e\u{301}"),
            ("family 👩\u{200d}", "family"),
            ("family 👩\u{200d}👩", "family 👩\u{200d}👩"),
            ("flag 🇻", "flag"),
            ("flag 🇻🇳", "flag 🇻🇳"),
            ("broken \u{fffd}", "broken"),
        ] {
            assert_eq!(&text[..safe_boundary(text)], kept, "{text:?}");
        }
    }

    #[test]
    fn one_who_is_asked_to_go_on_begins_with_a_word() {
        for (text, kept) in [("the quick bro", "the quick "), ("the quick ", "the quick "), ("日本語", "日本語"), ("one", "one")]
        {
            assert_eq!(&text[..word_boundary(text)], kept, "{text:?}");
        }
        let long = format!("a {}", "x".repeat(100));
        assert_eq!(word_boundary(&long), long.len());
    }

    #[test]
    fn repeated_words_are_taken_away() {
        for (old, new, expected) in [
            ("the quick brown fox ", "brown fox jumps", "jumps"),
            ("the quick brown fox ", "jumps", "jumps"),
            ("the quick brown ", "the quick brown fox", "fox"),
            ("the quick ", "quickly run", "quickly run"),
            ("I saw a", "and then", "and then"),
            ("I saw a", "a dog", " dog"),
            ("end of it.\n\n", "\n\nNext", "Next"),
            ("Trời hôm nay ", "hôm nay đẹp", "đẹp"),
            ("nothing", "", ""),
            ("all of it again", "all of it again", ""),
        ] {
            assert_eq!(join(Seam::overlap(old), &[new]), expected, "{old:?} + {new:?}");
        }
    }

    #[test]
    fn a_whole_echo_is_taken_away_however_long() {
        let old = "một câu dài ".repeat(500);
        let new = format!("{old}và hết");
        assert_eq!(join(Seam::overlap(&old), &[&new]), "và hết");
        assert_eq!(join(Seam::echo(&old), &[&old, "và hết"]), "và hết");
        assert_eq!(join(Seam::echo(&old), &["một câu dài khác"]), "một câu dài khác");
        assert_eq!(join(Seam::none(), &["một", " hai"]), "một hai");
    }

    fn words(count: std::ops::Range<usize>) -> impl Strategy<Value = String> {
        let word = prop::sample::select(vec!["a", "ab", "the ", " the", " fox", "đẹp ", " trời", ".", "\n", " ", "🌱", "fox"]);
        prop::collection::vec(word, count).prop_map(|words| words.concat())
    }

    proptest! {
        #[test]
        fn what_is_taken_is_an_end_of_the_old_and_splits_do_not_matter(old in words(0..40), new in words(0..40), size in 1_usize..9) {
            let whole = join(Seam::overlap(&old), &[&new]);
            prop_assert!(new.ends_with(&whole));
            prop_assert!(old.ends_with(&new[..new.len() - whole.len()]));
            let chars: Vec<char> = new.chars().collect();
            let pieces: Vec<String> = chars.chunks(size).map(|chunk| chunk.iter().collect()).collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            prop_assert_eq!(join(Seam::overlap(&old), &pieces), whole);
        }

        #[test]
        fn a_long_repetition_is_always_found(old in words(10..60), back in 1_usize..200, new in words(0..30)) {
            let from = old.ceil_char_boundary(old.len().saturating_sub(back.max(SURE_BYTES)));
            let repeated = &old[from..];
            prop_assume!(repeated.len() >= SURE_BYTES);
            let left = join(Seam::overlap(&old), &[repeated, &new]);
            prop_assert!(left.len() <= new.len());
            prop_assert!(new.ends_with(&left));
        }

        #[test]
        fn boundaries_are_boundaries(text in "\\PC*") {
            prop_assert!(text.is_char_boundary(safe_boundary(&text)));
            prop_assert!(text.is_char_boundary(word_boundary(&text)));
            prop_assert!(safe_boundary(&text) <= text.len());
        }
    }
}

//! Folded text for search: what differs only in case or in Vietnamese diacritics becomes the same. Pure.

use unicode_normalization::UnicodeNormalization;

/// Words of one search that are looked at; the rest are ignored.
pub(in crate::backend) const SEARCH_WORDS_MAX: usize = 16;

/// Lower case without diacritics, `đ` as `d`: `Đường` and `DUONG` both become `duong`.
pub(in crate::backend) fn fold(text: &str) -> String {
    text.nfd()
        .filter(|letter| !is_mark(*letter))
        .flat_map(char::to_lowercase)
        .filter(|letter| !is_mark(*letter))
        .map(plain)
        .collect()
}

/// The folded words of a search: each has to occur, anywhere in a folded text.
pub(in crate::backend) fn words(search: &str) -> Vec<String> {
    fold(search).split_whitespace().take(SEARCH_WORDS_MAX).map(str::to_owned).collect()
}

/// True for the accents of Latin letters alone: in many scripts the vowels are combining marks too, and they count.
fn is_mark(letter: char) -> bool {
    matches!(letter, '\u{300}'..='\u{36f}')
}

fn plain(letter: char) -> char {
    match letter {
        'đ' => 'd',
        // Ends a text for some index or other; it must not hide what follows it.
        '\0' => '\u{fffd}',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vietnamese_folds_to_ascii() {
        let all = "àáảãạăằắẳẵặâầấẩẫậèéẻẽẹêềếểễệìíỉĩịòóỏõọôồốổỗộơờớởỡợùúủũụưừứửữựỳýỷỹỵđ";
        for text in [all.to_owned(), all.to_uppercase(), all.nfd().collect(), all.to_uppercase().nfd().collect()] {
            let folded = fold(&text);
            assert!(folded.bytes().all(|byte| b"aeiouyd".contains(&byte)), "{folded}");
        }
        assert_eq!(fold("Đường về nhà"), "duong ve nha");
    }

    #[test]
    fn other_scripts_keep_their_marks() {
        assert_eq!(fold("कि"), "कि");
        assert_ne!(fold("か"), fold("き"));
        assert_eq!(fold("ÀÉ İ"), "ae i");
    }

    #[test]
    fn words_are_split_and_bounded() {
        assert_eq!(words("  Phở\tBÒ\u{a0}Huế "), ["pho", "bo", "hue"]);
        assert_eq!(words(" \n"), Vec::<String>::new());
        assert_eq!(words(&"w ".repeat(100)).len(), SEARCH_WORDS_MAX);
    }

    proptest::proptest! {
        #[test]
        fn folding_twice_changes_nothing(text in "\\PC*") {
            let once = fold(&text);
            proptest::prop_assert_eq!(fold(&once), once);
        }
    }
}

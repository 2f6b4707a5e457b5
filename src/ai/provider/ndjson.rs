//! An incremental decoder of newline-delimited JSON: bytes in, lines out. Pure; what a line says is for others.

use super::sse::{EVENT_BYTES_MAX, TooBig};

/// Takes bytes cut anywhere.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines {
    line: Vec<u8>,
}

impl Lines {
    /// Appends the lines that these bytes complete, without blank ones.
    ///
    /// # Errors
    /// [`TooBig`] for a line of more than [`EVENT_BYTES_MAX`] bytes; lines completed before are there.
    pub(super) fn feed(&mut self, mut bytes: &[u8], lines: &mut Vec<String>) -> Result<(), TooBig> {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.hold(&bytes[..end])?;
            bytes = &bytes[end + 1..];
            lines.extend(self.end());
        }
        self.hold(bytes)
    }

    /// The last line, if nothing ended it.
    pub(super) fn end(&mut self) -> Option<String> {
        let line = String::from_utf8_lossy(&self.line).trim().to_owned();
        self.line.clear();
        (!line.is_empty()).then_some(line)
    }

    fn hold(&mut self, bytes: &[u8]) -> Result<(), TooBig> {
        if self.line.len() + bytes.len() > EVENT_BYTES_MAX {
            return Err(TooBig);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
        let (mut lines, mut all) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.feed(piece, &mut all).unwrap();
        }
        all.extend(lines.end());
        all
    }

    #[test]
    fn lines_with_any_ending_and_none() {
        assert_eq!(parse([&b"{\"a\":1}\r\n\n  \n{\"b\":2}\n{\"c\""[..], b":3}"]), ["{\"a\":1}", "{\"b\":2}", "{\"c\":3}"]);
    }

    #[test]
    fn the_size_is_limited() {
        let mut lines = Lines::default();
        assert_eq!(lines.feed(&vec![b'x'; EVENT_BYTES_MAX], &mut Vec::new()), Ok(()));
        assert_eq!(lines.feed(b"x", &mut Vec::new()), Err(TooBig));
    }

    proptest! {
        #[test]
        fn any_split_parses_alike(bytes in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200), size in 1_usize..20) {
            prop_assert_eq!(parse(bytes.chunks(size)), parse([bytes.as_slice()]));
        }
    }
}

//! An incremental decoder of `text/event-stream` as the HTML standard describes it: bytes in, events out. Pure.
//!
//! Fields for reconnecting (`id`, `retry`) are read over: an answer that was paid for is never asked for again.

/// Bytes of one event, or of one line of JSON, at most.
pub(super) const EVENT_BYTES_MAX: usize = 1 << 20;

/// One dispatched event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// Empty where the stream named none.
    pub name: String,
    pub data: String,
}

/// An event larger than allowed. The decoder is of no further use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is larger than {EVENT_BYTES_MAX} bytes")]
pub(super) struct TooBig;

/// Takes bytes cut anywhere, also within a character or between CR and LF.
#[derive(Clone, Debug, Default)]
pub(super) struct Sse {
    line: Vec<u8>,
    event: Event,
    has_data: bool,
    /// The last byte was a CR, so that a LF now belongs to it.
    after_cr: bool,
    /// The first line is over: a byte order mark can't come any more.
    begun: bool,
}

impl Sse {
    /// Appends the events that these bytes complete.
    ///
    /// # Errors
    /// [`TooBig`]; events completed before are there.
    pub(super) fn feed(&mut self, mut bytes: &[u8], events: &mut Vec<Event>) -> Result<(), TooBig> {
        if self.after_cr && !bytes.is_empty() {
            self.after_cr = false;
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            self.hold(&bytes[..end])?;
            let cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            if cr {
                self.after_cr = bytes.is_empty();
                bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
            }
            events.extend(self.end_line());
        }
        self.hold(bytes)
    }

    /// What the stream ended in without the blank line that should end an event. The standard drops it; some servers
    /// forget the line behind their last event.
    pub(super) fn end(&mut self) -> Option<Event> {
        self.end_line().or_else(|| self.dispatch())
    }

    fn hold(&mut self, bytes: &[u8]) -> Result<(), TooBig> {
        if self.line.len() + self.event.data.len() + bytes.len() > EVENT_BYTES_MAX {
            return Err(TooBig);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        let mut rest = line.as_slice();
        if !self.begun {
            self.begun = true;
            rest = rest.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(rest);
        }
        let event = if rest.is_empty() {
            self.dispatch()
        } else {
            self.field(rest);
            None
        };
        self.line = line;
        self.line.clear();
        event
    }

    fn field(&mut self, line: &[u8]) {
        let (name, value) = match line.iter().position(|byte| *byte == b':') {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => (line, &[][..]),
        };
        let value = String::from_utf8_lossy(value.strip_prefix(b" ").unwrap_or(value));
        match name {
            b"data" => {
                if self.has_data {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(&value);
                self.has_data = true;
            }
            b"event" => self.event.name = value.into_owned(),
            _ => {}
        }
    }

    fn dispatch(&mut self) -> Option<Event> {
        let event = std::mem::take(&mut self.event);
        std::mem::take(&mut self.has_data).then_some(event)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(name: &str, data: &str) -> Event {
        Event { name: name.to_owned(), data: data.to_owned() }
    }

    fn parse<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Event> {
        let (mut sse, mut events) = (Sse::default(), Vec::new());
        for piece in pieces {
            sse.feed(piece, &mut events).unwrap();
        }
        events
    }

    #[test]
    fn the_examples_of_the_standard() {
        assert_eq!(parse([&b"data: YHOO\ndata: +2\ndata: 10\n\n"[..]]), [event("", "YHOO\n+2\n10")]);
        let text = b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n";
        assert_eq!(parse([&text[..]]), [event("", "first event"), event("", "second event"), event("", " third event")]);
        assert_eq!(parse([&b"data\n\ndata\ndata\n\ndata:"[..]]), [event("", ""), event("", "\n")]);
        assert_eq!(parse([&b"data:test\n\ndata: test\n\n"[..]]), [event("", "test"), event("", "test")]);
    }

    #[test]
    fn every_line_ending_a_mark_and_names() {
        assert_eq!(
            parse([&b"\xEF\xBB\xBFdata: a\r\rdata: b\r\n\r\ndata: c\n\n"[..]]),
            ["a", "b", "c"].map(|data| event("", data))
        );
        assert_eq!(parse([&b"event: ping\ndata: {}\n\nevent: lost\n\ndata: x\n\n"[..]]), [event("ping", "{}"), event("", "x")]);
        assert_eq!(parse([&b"data: a\r"[..], b"\n\r", b"\ndata: b\r\n\r\n"]), [event("", "a"), event("", "b")]);
        assert_eq!(parse([&b"\xEF\xBB\xBF\xEF\xBB\xBFdata: a\n\n"[..]]), []);
    }

    #[test]
    fn a_last_event_without_its_blank_line_can_be_had() {
        let (mut sse, mut events) = (Sse::default(), Vec::new());
        sse.feed(b"data: [DONE]", &mut events).unwrap();
        assert_eq!((events.len(), sse.end(), sse.end()), (0, Some(event("", "[DONE]")), None));
    }

    #[test]
    fn the_size_is_limited_and_the_limit_reached() {
        let (mut sse, mut events) = (Sse::default(), Vec::new());
        let mut whole = b"data: ".to_vec();
        whole.resize(EVENT_BYTES_MAX, b'x');
        sse.feed(&whole, &mut events).unwrap();
        assert_eq!(sse.feed(b"x", &mut events), Err(TooBig));

        let (mut sse, line) = (Sse::default(), [b"data: ".to_vec(), vec![b'y'; 1 << 16], b"\n".to_vec()].concat());
        let fed = (0..64).map(|_| sse.feed(&line, &mut events)).find(Result::is_err);
        assert_eq!(fed, Some(Err(TooBig)));
        assert!(events.is_empty());
    }

    fn pieces<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        at.extend([0, bytes.len()]);
        at.sort_unstable();
        at.windows(2).map(|two| &bytes[two[0]..two[1]]).collect()
    }

    fn stream() -> impl Strategy<Value = String> {
        let part = prop::sample::select(vec![
            "data: ",
            "data:",
            "event: x",
            ": ping",
            "id: 3",
            "retry: 1",
            "tiếng Việt 🌱",
            "{\"a\":1}",
            "\n",
            "\r",
            "\r\n",
            "\n\n",
            "\u{feff}",
        ]);
        prop::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn any_split_parses_alike(text in stream(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
            let whole = parse([text.as_bytes()]);
            prop_assert_eq!(&parse(pieces(text.as_bytes(), &cuts)), &whole);
            prop_assert_eq!(&parse(text.as_bytes().chunks(1)), &whole);
        }

        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..400), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
            prop_assert_eq!(parse(pieces(&bytes, &cuts)), parse([bytes.as_slice()]));
        }
    }
}

//! What a reader has of one answer, checked frame by frame: offsets, length, CRC, and the stamps of its tokens. Pure.

use std::borrow::Cow;

use hdrhistogram::Histogram;
use serde::Deserialize;

use super::Failure;
use crate::log::Channel;
use crate::model::{Position, Status};
use crate::stamp;

/// What a bench needs of a server's frame, without copying it.
#[derive(Debug, Deserialize)]
pub(super) struct Heard<'a> {
    #[serde(rename = "type")]
    pub(super) kind: &'a str,
    #[serde(default, borrow)]
    pub(super) generation: Cow<'a, str>,
    #[serde(default)]
    position: Option<Position>,
    #[serde(default)]
    offset: u64,
    #[serde(default, borrow)]
    text: Cow<'a, str>,
    #[serde(default)]
    channel: Channel,
    #[serde(default)]
    length: u64,
    #[serde(default)]
    crc32: u32,
    #[serde(default)]
    code: Option<Cow<'a, str>>,
}

impl<'a> Heard<'a> {
    /// # Errors
    /// What is no frame, and what a server refuses with.
    pub(super) fn parse(text: &'a str) -> Result<Self, Failure> {
        let heard: Self = serde_json::from_str(text).map_err(|error| Failure::new(format!("no frame: {error}")))?;
        match (&heard.code, heard.kind) {
            (Some(code), "error") => Err(Failure::new(format!("a gateway refused: {code}"))),
            _ => Ok(heard),
        }
    }
}

/// How the end of an answer was told.
#[derive(Debug, Deserialize)]
pub(super) struct End {
    pub(super) status: Status,
}

/// One reader's copy.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    length: u64,
    crc: crc32fast::Hasher,
    pub(super) position: Position,
    stamps: Option<Stamps>,
    pub(super) frames: u64,
    pub(super) ended: bool,
}

#[derive(Clone, Debug, Default)]
struct Stamps {
    next: usize,
    /// The beginning of a token whose rest comes with the next frame.
    part: Vec<u8>,
}

impl Answer {
    /// Of an answer whose tokens are stamped, or not.
    pub(super) fn new(stamped: bool) -> Self {
        let stamps = stamped.then(Stamps::default);
        Self { length: 0, crc: crc32fast::Hasher::new(), position: Position::START, stamps, frames: 0, ended: false }
    }

    /// Bytes of its text.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Whole stamped tokens.
    pub(super) fn tokens(&self) -> usize {
        self.stamps.as_ref().map_or(0, |stamps| stamps.next)
    }

    /// Takes a frame about this answer that was read at `micros`; the age of each new stamped token goes into `ages`.
    ///
    /// # Errors
    /// When the server broke the contract.
    pub(super) fn hear(&mut self, heard: &Heard<'_>, micros: u64, ages: &mut Histogram<u64>) -> Result<(), Failure> {
        match heard.kind {
            "delta" if heard.channel == Channel::Text => self.extend(heard, micros, ages)?,
            "snapshot" => {
                *self = Self { frames: self.frames, ..Self::new(self.stamps.is_some()) };
                // Its tokens are old: they are read, and their age is not the gateway's doing.
                self.extend(heard, micros, &mut Histogram::new(1).map_err(|error| Failure::new(error.to_string()))?)?;
            }
            "rewind" => return Err(Failure::new("an answer was written anew: did a node die meanwhile?")),
            "finished" => self.finish(heard)?,
            _ => return Ok(()),
        }
        self.position = heard.position.unwrap_or(self.position).max(self.position);
        Ok(())
    }

    fn extend(&mut self, heard: &Heard<'_>, micros: u64, ages: &mut Histogram<u64>) -> Result<(), Failure> {
        if self.ended {
            return Err(Failure::new("a token came after the end"));
        }
        let text = heard.text.as_bytes();
        if heard.offset < self.length && heard.offset + text.len() as u64 <= self.length {
            // The contract lets a server repeat what is there.
            return Ok(());
        }
        if heard.offset != self.length {
            return Err(Failure::new(format!("a gap or an overlap: offset {} after {} bytes", heard.offset, self.length)));
        }
        self.frames += 1;
        self.length += text.len() as u64;
        self.crc.update(text);
        self.stamps.as_mut().map_or(Ok(()), |stamps| stamps.read(text, micros, ages))
    }

    fn finish(&mut self, heard: &Heard<'_>) -> Result<(), Failure> {
        let crc = self.crc.clone().finalize();
        if (self.length, crc) != (heard.length, heard.crc32) {
            return Err(Failure::new(format!(
                "the end tells {} bytes with CRC {:08x}, but {} with {crc:08x} came",
                heard.length, heard.crc32, self.length
            )));
        }
        self.ended = true;
        Ok(())
    }
}

impl Stamps {
    fn read(&mut self, mut text: &[u8], micros: u64, ages: &mut Histogram<u64>) -> Result<(), Failure> {
        if !self.part.is_empty() {
            let (rest, behind) = text.split_at(text.len().min(stamp::BYTES - self.part.len()));
            self.part.extend_from_slice(rest);
            text = behind;
            if self.part.len() == stamp::BYTES {
                let whole = std::mem::take(&mut self.part);
                self.token(&whole, micros, ages)?;
            }
        }
        let mut tokens = text.chunks_exact(stamp::BYTES);
        for token in &mut tokens {
            self.token(token, micros, ages)?;
        }
        self.part.extend_from_slice(tokens.remainder());
        Ok(())
    }

    fn token(&mut self, token: &[u8], micros: u64, ages: &mut Histogram<u64>) -> Result<(), Failure> {
        match stamp::read(token) {
            Some((index, made)) if index == self.next => {
                self.next += 1;
                // Zero has no place in the histogram.
                ages.saturating_record(micros.saturating_sub(made).max(1));
                Ok(())
            }
            Some((index, _)) => Err(Failure::new(format!("token {index} where {} was due", self.next))),
            None => Err(Failure::new("a token without a stamp: is this an older chatnode, or another model?")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta(offset: usize, text: &str) -> String {
        format!(r#"{{"type":"delta","generation":"gen_x","position":"7-{offset}","offset":{offset},"text":"{text}"}}"#)
    }

    fn finished(text: &str, crc32: u32) -> String {
        let length = text.len();
        format!(
            r#"{{"type":"finished","generation":"gen_x","message":{{}},"status":"completed","length":{length},"crc32":{crc32}}}"#
        )
    }

    fn told(answer: &mut Answer, frame: &str, ages: &mut Histogram<u64>) -> Result<(), String> {
        answer.hear(&Heard::parse(frame).unwrap(), 1_000, ages).map_err(|failure| failure.to_string())
    }

    #[test]
    fn a_right_answer_passes_and_its_tokens_are_timed() {
        let mut text = String::new();
        (0..9).for_each(|index| stamp::write(&mut text, index, 900));
        let mut ages = Histogram::new(3).unwrap();
        let mut answer = Answer::new(true);
        for (offset, cut) in [(0, 30), (30, 31), (31, 200), (200, text.len())] {
            told(&mut answer, &delta(offset, &text[offset..cut]), &mut ages).unwrap();
            told(&mut answer, &delta(offset, &text[offset..cut]), &mut ages).unwrap();
        }
        told(&mut answer, &finished(&text, crc32fast::hash(text.as_bytes())), &mut ages).unwrap();
        assert!(answer.ended);
        assert_eq!((answer.tokens(), answer.frames, ages.len(), ages.max()), (9, 4, 9, 100));
    }

    #[test]
    fn every_kind_of_wrong_answer_is_told() {
        let mut ages = Histogram::new(3).unwrap();
        let mut of = |frames: &[String]| {
            let mut answer = Answer::new(false);
            frames.iter().try_for_each(|frame| told(&mut answer, frame, &mut ages)).expect_err("a failure")
        };
        assert!(of(&[delta(0, "ab"), delta(3, "c")]).contains("a gap"));
        assert!(of(&[delta(0, "ab"), delta(1, "bc")]).contains("overlap"));
        assert!(of(&[delta(0, "ab"), finished("ab", 1)]).contains("CRC"));
        assert!(of(&[delta(0, "ab"), finished("abc", crc32fast::hash(b"abc"))]).contains("3 bytes"));
        assert!(of(&[finished("", 0), delta(0, "a")]).contains("after the end"));
        let mut stamped = Answer::new(true);
        let mut text = String::new();
        stamp::write(&mut text, 1, 900);
        assert!(told(&mut stamped, &delta(0, &text), &mut ages).unwrap_err().contains("token 1 where 0 was due"));
        assert!(Heard::parse(r#"{"type":"error","code":"overloaded","message":"no"}"#).is_err());
    }
}

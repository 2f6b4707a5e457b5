import fc from "fast-check";
import { expect, test } from "vitest";
import { crc32 } from "./crc32";
import { comparePositions, sameEpoch } from "./position";
import { byteLength, byteSlice } from "./utf8";

test("CRC-32 (IEEE) of known texts", () => {
  expect(crc32("")).toBe(0);
  expect(crc32("123456789")).toBe(0xcbf43926);
  expect(crc32("The quick brown fox jumps over the lazy dog")).toBe(0x414fa339);
});

test("byte lengths are TextEncoder's, lone surrogates included", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), fc.string(), (a, b) => {
      const text = `${a}\ud83d${b}`;
      expect(byteLength(text)).toBe(new TextEncoder().encode(text).length);
    }),
  );
});

test("a byte slice is the text whose bytes they are, or nothing inside a character", () => {
  fc.assert(
    fc.property(fc.string({ unit: "grapheme" }), fc.nat(80), (text, bytes) => {
      const slice = byteSlice(text, bytes);
      const encoded = new TextEncoder().encode(text);
      if (slice !== null) expect(new TextEncoder().encode(slice)).toEqual(encoded.slice(0, bytes));
      else expect(bytes > encoded.length || (encoded[bytes] as number) >> 6 === 2).toBe(true);
    }),
  );
});

test("positions are ordered by epoch, then sequence, beyond 2^53 too", () => {
  expect(comparePositions("9-9", "10-0")).toBe(-1);
  expect(comparePositions("2-10", "2-9")).toBe(1);
  expect(comparePositions("07-1", "7-1")).toBe(0);
  expect(comparePositions("9007199254740993-0", "9007199254740992-0")).toBe(1);
  expect(sameEpoch("7-1", "7-900")).toBe(true);
});

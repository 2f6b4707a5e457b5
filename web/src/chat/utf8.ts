/** Offsets on the wire count UTF-8 bytes; JavaScript counts UTF-16 units. A lone surrogate counts as the three bytes of
 *  U+FFFD, which is what TextEncoder makes of it. */
export function byteLength(text: string): number {
  let bytes = 0;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit < 0x80) bytes += 1;
    else if (unit < 0x800) bytes += 2;
    else if (isHighSurrogate(unit) && isLowSurrogate(text.charCodeAt(i + 1))) {
      bytes += 4;
      i++;
    } else bytes += 3;
  }
  return bytes;
}

/** The first `bytes` bytes of `text`, or null if that would cut a character or there are fewer. */
export function byteSlice(text: string, bytes: number): string | null {
  let seen = 0;
  let i = 0;
  while (i < text.length && seen < bytes) {
    const unit = text.charCodeAt(i);
    if (unit < 0x80) seen += 1;
    else if (unit < 0x800) seen += 2;
    else if (isHighSurrogate(unit) && isLowSurrogate(text.charCodeAt(i + 1))) {
      seen += 4;
      i++;
    } else seen += 3;
    i++;
  }
  return seen === bytes ? text.slice(0, i) : null;
}

function isHighSurrogate(unit: number): boolean {
  return unit >= 0xd800 && unit <= 0xdbff;
}

function isLowSurrogate(unit: number): boolean {
  return unit >= 0xdc00 && unit <= 0xdfff;
}

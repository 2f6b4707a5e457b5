/** A position `<epoch>-<seq>` in a generation's log. Both parts may pass 2^53 in principle (an epoch is a clock in
 *  milliseconds), so they are compared as digits, never as floating-point numbers. */
export function comparePositions(a: string, b: string): number {
  const [epochA = "", seqA = ""] = a.split("-");
  const [epochB = "", seqB = ""] = b.split("-");
  return compareDigits(epochA, epochB) || compareDigits(seqA, seqB);
}

export function sameEpoch(a: string, b: string): boolean {
  return compareDigits(a.split("-")[0] ?? "", b.split("-")[0] ?? "") === 0;
}

function compareDigits(a: string, b: string): number {
  const left = a.replace(/^0+/, "");
  const right = b.replace(/^0+/, "");
  if (left.length !== right.length) return left.length < right.length ? -1 : 1;
  if (left === right) return 0;
  return left < right ? -1 : 1;
}

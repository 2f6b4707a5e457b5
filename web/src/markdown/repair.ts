/** Closes what the end of a streaming block has left open, so that `**bo` shows as bold and not as stars that vanish a
 *  moment later. Only for display while streaming: the text itself is never changed. */
export function repair(block: string): string {
  const open: string[] = [];
  let text = trimHalfLink(block);
  text = text.replace(/(?:\*{1,3}|_{1,3}|~{1,2})$/, run => (closes(text, run) ? run : ""));
  for (let i = 0; i < text.length; ) {
    const char = text[i] as string;
    if (char === "\\") {
      i += 2;
      continue;
    }
    if (!"`*_~".includes(char)) {
      i++;
      continue;
    }
    let length = 1;
    while (text[i + length] === char) length++;
    const run = char.repeat(length);
    if (char === "`") {
      const end = closingTicks(text, i + length, run);
      if (end < 0)
        return text.length > i + length ? text + run + closers(open) : text.slice(0, i) + closers(open);
      i = end;
      continue;
    }
    note(open, text, i, run);
    i += length;
  }
  const trailing = /\s*$/.exec(text)?.[0] ?? "";
  const tail = closers(open);
  return tail === "" ? text : text.slice(0, text.length - trailing.length) + tail;
}

function note(open: string[], text: string, at: number, run: string): void {
  if (run.length > 3 || (run[0] === "~" && run.length !== 2)) return;
  const before = text[at - 1] ?? " ";
  const after = text[at + run.length] ?? " ";
  const inWord = run[0] === "_" && /[\p{L}\p{N}]/u.test(before) && /[\p{L}\p{N}]/u.test(after);
  if (inWord) return;
  const canClose = !/\s/.test(before);
  const canOpen = !/\s/.test(after);
  if (canClose && open.at(-1) === run) open.pop();
  else if (canOpen) open.push(run);
}

function closers(open: readonly string[]): string {
  return [...open].reverse().join("");
}

/** Is the run at the very end the closing one of something? */
function closes(text: string, run: string): boolean {
  const before = text.slice(0, text.length - run.length);
  return before.split(run).length % 2 === 0 && !/\s$/.test(before);
}

function closingTicks(text: string, from: number, run: string): number {
  for (let i = text.indexOf(run, from); i >= 0; i = text.indexOf(run, i + 1)) {
    if (text[i - 1] !== "`" && text[i + run.length] !== "`") return i + run.length;
  }
  return -1;
}

/** `[text](http://half` shows its text, half an image nothing, and so does the half of what is no link (`[!NO`, `[^1`). */
function trimHalfLink(block: string): string {
  const half = /(!?)\[([^[\]\n]{0,300})(?:\]\([^()\s]*)?$/.exec(block);
  if (!half || /^\s*[-*+] +\[[ xX]?$/.test(block.slice(block.lastIndexOf("\n") + 1))) return block;
  if (insideCode(block.slice(0, half.index))) return block;
  return block.slice(0, half.index) + (half[1] || /^[!^]/.test(half[2] ?? "") ? "" : half[2]);
}

function insideCode(text: string): boolean {
  return (text.match(/`+/g)?.length ?? 0) % 2 === 1;
}

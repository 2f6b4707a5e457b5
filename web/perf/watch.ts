/** What runs in the page to measure it. Each function is sent there alone, so none uses anything from outside of it. */

export interface Observed {
  readonly fps: number;
  readonly longest: number;
  readonly long: number;
  readonly inp: number;
  readonly keys: number;
  readonly shift: number;
}

/** From here on frames, long tasks, interactions and shifts are counted, until `window.observed()` tells them. */
export function observe(): void {
  const started = performance.now();
  let frames = 0;
  let shift = 0;
  const tasks: number[] = [];
  const interactions = new Map<number, number>();
  const frame = () => {
    frames++;
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
  const watch = (type: string, see: (entry: PerformanceEntry) => void, more: object = {}) =>
    new PerformanceObserver(list => list.getEntries().forEach(see)).observe({ type, ...more });
  watch("longtask", entry => tasks.push(entry.duration));
  const note = (entry: PerformanceEntry) => {
    const { interactionId, duration } = entry as PerformanceEventTiming & { interactionId: number };
    if (interactionId > 0)
      interactions.set(interactionId, Math.max(duration, interactions.get(interactionId) ?? 0));
  };
  watch("event", note, { durationThreshold: 16 });
  watch("layout-shift", entry => {
    const { value, hadRecentInput } = entry as PerformanceEntry & { value: number; hadRecentInput: boolean };
    if (!hadRecentInput) shift += value;
  });
  const count = () => (performance as unknown as { interactionCount?: number }).interactionCount ?? 0;
  const before = count();
  const observed = (): Observed => {
    // INP: the slowest interaction, but one in fifty is left out of account.
    const slowest = [...interactions.values()].sort((a, b) => b - a);
    const keys = Math.max(count() - before, slowest.length);
    return {
      fps: (frames * 1_000) / (performance.now() - started),
      longest: Math.max(0, ...tasks),
      long: tasks.length,
      inp: slowest[Math.min(slowest.length - 1, Math.floor(keys / 50))] ?? 0,
      keys,
      shift,
    };
  };
  Object.assign(window, { observed });
}

/** Goes to an address of the page; resolves with the time until the last such element shows the text, painted. */
export function opened(how: { hash: string; selector: string; text: string }): Promise<number> {
  return new Promise(resolve => {
    const started = performance.now();
    const look = () => {
      const last = [...document.querySelectorAll(how.selector)].at(-1);
      if (!last?.textContent?.includes(how.text)) return;
      observer.disconnect();
      requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - started)));
    };
    const observer = new MutationObserver(look);
    observer.observe(document.body, { childList: true, subtree: true, characterData: true });
    location.hash = how.hash;
  });
}

/** Leaves a promise in `window.shownAfterKey`: the time from the next Escape until the text is painted. */
export function afterEscape(text: string): void {
  const shown = new Promise<number>(resolve => {
    let at = 0;
    const look = () => {
      const last = [...document.querySelectorAll(".answer")].at(-1);
      if (at === 0 || !last?.textContent?.includes(text)) return;
      observer.disconnect();
      requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - at)));
    };
    const observer = new MutationObserver(look);
    observer.observe(document.body, { childList: true, subtree: true, characterData: true });
    const onKey = (event: KeyboardEvent) => {
      at = event.timeStamp;
    };
    addEventListener("keydown", onKey, { capture: true, once: true });
  });
  Object.assign(window, { shownAfterKey: shown });
}

/** Resolves with the clock's time when the last answer has got longer, painted. */
export function grown(): Promise<number> {
  return new Promise(resolve => {
    const length = () => [...document.querySelectorAll(".answer")].at(-1)?.textContent?.length ?? 0;
    const before = length();
    const observer = new MutationObserver(() => {
      if (length() <= before) return;
      observer.disconnect();
      requestAnimationFrame(() => setTimeout(() => resolve(Date.now())));
    });
    observer.observe(document.body, { childList: true, subtree: true, characterData: true });
  });
}

/** How far the text that is read moves, frame by frame, in pixels. */
export function drift(duration: number): Promise<number> {
  return new Promise(resolve => {
    const box = document.querySelector(".transcript") as HTMLElement;
    const at = box.getBoundingClientRect();
    const read = document.elementFromPoint(at.left + at.width / 2, at.top + at.height / 2) as Element;
    const top = read.getBoundingClientRect().top;
    const end = performance.now() + duration;
    let most = 0;
    const frame = () => {
      most = Math.max(most, Math.abs(read.getBoundingClientRect().top - top));
      if (performance.now() < end) requestAnimationFrame(frame);
      else resolve(read.isConnected ? most : Number.POSITIVE_INFINITY);
    };
    requestAnimationFrame(frame);
  });
}

/** Selects the beginning of the block that is being written, as soon as it is of this kind and has some text. */
export function select(kind: string): Promise<string> {
  return new Promise(resolve => {
    const look = () => {
      const block = [...document.querySelectorAll(".answer .markdown")].at(-1)?.lastElementChild
        ?.lastElementChild;
      const text = block?.matches(kind)
        ? kind === ".code-block"
          ? block.querySelector("code")
          : block
        : null;
      if (!text || (text.textContent?.length ?? 0) < 40) {
        requestAnimationFrame(look);
        return;
      }
      const node = document.createTreeWalker(text, NodeFilter.SHOW_TEXT).nextNode() as Text;
      getSelection()?.setBaseAndExtent(node, 0, node, Math.min(12, node.length));
      resolve(getSelection()?.toString() ?? "");
    };
    look();
  });
}

export interface Times {
  readonly open: number;
  readonly text: number;
  readonly first: number;
}

/** Runs before the page does: when its socket opened, when the last answer was painted first, and how much of it. */
export function timeReload(): void {
  const times = { open: 0, text: 0, first: 0 };
  Object.assign(window, { times });
  window.WebSocket = class extends WebSocket {
    constructor(url: string | URL, protocols?: string | string[]) {
      super(url, protocols);
      this.addEventListener("open", () => {
        times.open ||= performance.now();
      });
    }
  };
  const observer = new MutationObserver(() => {
    const last = [...document.querySelectorAll(".answer .markdown")].at(-1);
    if (!last?.textContent) return;
    observer.disconnect();
    requestAnimationFrame(() => {
      times.first = last.textContent?.length ?? 0;
      setTimeout(() => {
        times.text = performance.now();
      });
    });
  });
  observer.observe(document, { childList: true, subtree: true, characterData: true });
}

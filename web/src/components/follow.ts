import { type RefObject, useCallback, useEffect, useLayoutEffect, useRef, useState } from "react";

/** Near enough to the end to mean it. */
const END_PX = 32;

/** Keeps the newest text in view while armed. Scrolling up disarms it, and coming back to the end arms it again; while
 *  it is disarmed nothing here moves the page by a pixel. */
export function useFollowTail(first: string | null): {
  scroller: RefObject<HTMLDivElement | null>;
  content: RefObject<HTMLDivElement | null>;
  following: boolean;
  toBottom: () => void;
} {
  const scroller = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const armed = useRef(true);
  const [following, setFollowing] = useState(true);

  const arm = useCallback((on: boolean) => {
    armed.current = on;
    setFollowing(on);
  }, []);

  const toBottom = useCallback(() => {
    arm(true);
    const box = scroller.current;
    if (box) box.scrollTop = box.scrollHeight;
  }, [arm]);

  useEffect(() => {
    const box = scroller.current;
    const inner = content.current;
    if (!box || !inner) return;
    let top = box.scrollTop;
    const atEnd = () => box.scrollHeight - box.scrollTop - box.clientHeight < END_PX;
    const onScroll = () => {
      const up = box.scrollTop < top - 1;
      top = box.scrollTop;
      if (atEnd()) arm(true);
      else if (up && armed.current && !growing) arm(false);
    };
    // The reader's hand comes before the scroll event it causes: a token in between must not pull the page back.
    const scrollUp = () => {
      if (box.scrollHeight > box.clientHeight) arm(false);
    };
    const onWheel = (event: WheelEvent) => {
      if (event.deltaY < 0) scrollUp();
    };
    let touchY = 0;
    const onTouchStart = (event: TouchEvent) => {
      touchY = event.touches[0]?.clientY ?? 0;
    };
    const onTouchMove = (event: TouchEvent) => {
      if ((event.touches[0]?.clientY ?? 0) > touchY + 4) scrollUp();
    };
    const onKey = (event: KeyboardEvent) => {
      if (["PageUp", "ArrowUp", "Home"].includes(event.key) && event.target === box) scrollUp();
    };
    // A box that shrinks (the composer grew, the keyboard opened) scrolls too, and that is nobody's wish.
    let growing = false;
    const observer = new ResizeObserver(() => {
      if (!armed.current) return;
      growing = true;
      box.scrollTop = box.scrollHeight;
      top = box.scrollTop;
      requestAnimationFrame(() => {
        growing = false;
      });
    });
    observer.observe(inner);
    observer.observe(box);
    box.addEventListener("scroll", onScroll, { passive: true });
    box.addEventListener("wheel", onWheel, { passive: true });
    box.addEventListener("touchstart", onTouchStart, { passive: true });
    box.addEventListener("touchmove", onTouchMove, { passive: true });
    box.addEventListener("keydown", onKey);
    return () => {
      observer.disconnect();
      box.removeEventListener("scroll", onScroll);
      box.removeEventListener("wheel", onWheel);
      box.removeEventListener("touchstart", onTouchStart);
      box.removeEventListener("touchmove", onTouchMove);
      box.removeEventListener("keydown", onKey);
    };
  }, [arm]);

  useKeepPlace(scroller, content, first, armed);
  return { scroller, content, following, toBottom };
}

/** When earlier messages are put above, what was being read stays where it was. */
function useKeepPlace(
  scroller: RefObject<HTMLDivElement | null>,
  content: RefObject<HTMLDivElement | null>,
  first: string | null,
  armed: RefObject<boolean>,
): void {
  const held = useRef<{ first: string | null; element: Element | null; top: number }>(undefined);
  useLayoutEffect(() => {
    const before = held.current;
    const box = scroller.current;
    if (before && box && before.first !== first && before.element?.isConnected && !armed.current) {
      box.scrollTop += before.element.getBoundingClientRect().top - before.top;
    }
  }, [first, scroller, armed]);
  useEffect(() => {
    const box = scroller.current;
    if (!box) return;
    const note = () => {
      const element = content.current?.querySelector(".message") ?? null;
      held.current = { first, element, top: element?.getBoundingClientRect().top ?? 0 };
    };
    note();
    box.addEventListener("scroll", note, { passive: true });
    return () => box.removeEventListener("scroll", note);
  }, [first, scroller, content]);
}

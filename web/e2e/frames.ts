import type { Page } from "playwright-core";

/** Watches how long frames take; each call gives the longest one since the last. */
export async function watchFrames(page: Page): Promise<() => Promise<{ frame: number; at: string }>> {
  await page.evaluate(() => {
    const frames: { duration: number; at: string }[] = [];
    const observer = new PerformanceObserver(list => {
      for (const entry of list.getEntries()) {
        const { styleAndLayoutStart, startTime, duration } = entry as PerformanceEntry & {
          styleAndLayoutStart: number;
        };
        const layout = styleAndLayoutStart > 0 ? startTime + duration - styleAndLayoutStart : 0;
        frames.push({ duration, at: layout > duration / 2 ? "most of it layout" : "most of it script" });
      }
    });
    observer.observe({ type: "long-animation-frame" });
    Object.assign(window, { frames });
  });
  return async () => {
    // Entries come when the frame after them is done.
    await page.waitForTimeout(200);
    const seen = await page.evaluate(() =>
      (window as unknown as { frames: { duration: number; at: string }[] }).frames.splice(0),
    );
    const worst = seen.sort((a, b) => b.duration - a.duration)[0];
    return { frame: worst?.duration ?? 0, at: worst?.at ?? "" };
  };
}

import { createServer, type ServerResponse } from "node:http";

/** A model server (OpenAI's chat completions) that streams what real answers hold, at an exact rate, for ever: headings,
 *  prose, lists, code, tables and formulas, a token a time. */
export interface Upstream {
  readonly address: string;
  stop(): void;
}

const SECTION = `## Mục {n}: why the river **bends**

Every quiet river carries a few *warm* clouds past the old bridge; những dòng sông lặng lẽ chở vài đám mây đi qua cây cầu.
The letter remembers [the market](https://example.org/{n}), and \`harbour({n})\` is what the sparrow calls it — slowly. 🌿

- the first boat, which is **small** and golden
- the second one, \`café\`, painted twice
  1. by the gardener
  2. by the tall stranger
- the last of them

\`\`\`python
def primes(limit: int = {n}) -> list[int]:
    """Every prime below the limit."""
    sieve = [True] * limit
    for at in range(2, int(limit ** 0.5) + 1):
        if sieve[at]:
            sieve[at * at :: at] = [False] * len(sieve[at * at :: at])
    return [at for at in range(2, limit) if sieve[at]]
\`\`\`

| boat | length | colour |
|---|---:|---|
| {n} | 12 m | golden |
| café | 8 m | salted |

The area is $\\pi r^2$, and what remains is written below.

> Another patient lantern follows seven distant footsteps under the sleeping library.

`;

const TICK_MS = 5;

export async function startUpstream(rate: number): Promise<Upstream> {
  const server = createServer((request, response) => {
    if (request.url?.endsWith("/models")) {
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify({ object: "list", data: [{ id: "measure", object: "model" }] }));
      return;
    }
    request.resume().on("end", () => stream(response, rate));
  });
  await new Promise<void>(resolve => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (typeof address !== "object" || address === null) throw new Error("the upstream has no address");
  return {
    address: `http://127.0.0.1:${address.port}/v1`,
    stop() {
      server.close();
      server.closeAllConnections();
    },
  };
}

function stream(response: ServerResponse, rate: number): void {
  response.setHeader("content-type", "text/event-stream");
  const began = performance.now();
  const tokens = endless();
  let sent = 0;
  const timer = setInterval(() => {
    const due = Math.floor(((performance.now() - began) * rate) / 1_000);
    for (; sent < due; sent++) {
      const delta = { content: tokens.next().value };
      response.write(`data: ${JSON.stringify({ choices: [{ index: 0, delta }] })}\n\n`);
    }
  }, TICK_MS);
  response.on("close", () => clearInterval(timer));
}

/** Words with the space before them, cut where a tokenizer would cut long ones. */
function* endless(): Generator<string, never> {
  for (let n = 1; ; n++) {
    const section = SECTION.replaceAll("{n}", String(n));
    yield* section.match(/\s*[^\s]{1,7}|\s+/gu) ?? [];
  }
}

import { createHash, generateKeyPairSync, randomBytes, sign } from "node:crypto";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";

/** A small OpenID Connect provider: its page has a link for each way to leave it. */
export interface Provider {
  readonly issuer: string;
  stop(): void;
}

export async function startProvider(people: readonly string[]): Promise<Provider> {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const codes = new Map<string, { person: string; nonce: string; challenge: string }>();
  const server = createServer(async (request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? "/", issuer);
    const json = (body: object, status = 200) =>
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    if (pathname === "/.well-known/openid-configuration")
      return json({
        issuer,
        authorization_endpoint: `${issuer}/authorize`,
        token_endpoint: `${issuer}/token`,
        jwks_uri: `${issuer}/keys`,
      });
    if (pathname === "/keys")
      return json({ keys: [{ ...publicKey.export({ format: "jwk" }), kid: "one", use: "sig" }] });
    if (pathname === "/authorize") {
      const back = (more: Record<string, string>) => {
        const url = new URL(searchParams.get("redirect_uri") ?? "");
        url.search = new URLSearchParams({ state: searchParams.get("state") ?? "", ...more }).toString();
        return url.href.replaceAll("&", "&amp;");
      };
      const links = people.map(person => {
        const code = randomBytes(16).toString("hex");
        const [nonce, challenge] = ["nonce", "code_challenge"].map(name => searchParams.get(name) ?? "");
        codes.set(code, { person, nonce: nonce ?? "", challenge: challenge ?? "" });
        return `<a href="${back({ code })}">${person}</a>`;
      });
      const no = `<a href="${back({ error: "access_denied" })}">no</a>`;
      return response.writeHead(200, { "content-type": "text/html" }).end([...links, no].join(" "));
    }
    const form = new URLSearchParams(await bodyOf(request));
    const granted = codes.get(form.get("code") ?? "");
    codes.delete(form.get("code") ?? "");
    const shown = createHash("sha256")
      .update(form.get("code_verifier") ?? "")
      .digest("base64url");
    if (granted === undefined || granted.challenge !== shown) return json({ error: "invalid_grant" }, 400);
    const { person, nonce } = granted;
    const exp = Math.floor(Date.now() / 1000) + 60;
    const claims = { iss: issuer, aud: "chat", sub: person, preferred_username: person, nonce, exp };
    const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const signed = `${part({ alg: "ES256", kid: "one" })}.${part(claims)}`;
    const signature = sign("sha256", Buffer.from(signed), { key: privateKey, dsaEncoding: "ieee-p1363" });
    return json({ id_token: `${signed}.${signature.toString("base64url")}` });
  });
  await new Promise<void>(resolve => server.listen(0, "127.0.0.1", resolve));
  const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    issuer,
    stop() {
      server.closeAllConnections();
      server.close();
    },
  };
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  let text = "";
  for await (const piece of request) text += piece;
  return text;
}

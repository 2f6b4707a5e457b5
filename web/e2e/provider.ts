import { generateKeyPairSync } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import Oidc, { type Asked } from "oidc-provider";

/** An OpenID Connect provider that keeps to the standard: its id token says no more than whose it is. Its page has a link
 *  for each way to leave it. */
export interface Provider {
  readonly issuer: string;
  /** Where its only client is. */
  serve(address: string): void;
  stop(): void;
}

const SCOPES = "openid profile";
const SECONDS = 600;

export async function startProvider(people: readonly string[]): Promise<Provider> {
  const server = createServer();
  await new Promise<void>(resolve => server.listen(0, "127.0.0.1", resolve));
  const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const serve = (address: string) => {
    const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    const provider = new Oidc(issuer, {
      clients: [
        {
          client_id: "chat",
          client_secret: "a secret",
          redirect_uris: [`${address}/api/login/oidc/callback`],
        },
      ],
      jwks: { keys: [{ ...privateKey.export({ format: "jwk" }), alg: "RS256", use: "sig" }] },
      cookies: { keys: ["a key"] },
      claims: { profile: ["preferred_username"] },
      findAccount: (_: Asked, name: string) => ({
        accountId: name,
        claims: () => ({ sub: name, preferred_username: name }),
      }),
      // Nobody is asked what the client may know.
      async loadExistingGrant({ oidc: { client, session } }: Asked) {
        const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
        grant.addOIDCScope(SCOPES);
        await grant.save();
        return grant;
      },
      features: { devInteractions: { enabled: false } },
      interactions: { url: (_: Asked, { uid }: { uid: string }) => `/door/${uid}` },
      ttl: { AccessToken: SECONDS, Grant: SECONDS, IdToken: SECONDS, Interaction: SECONDS, Session: SECONDS },
    });
    const answer = provider.callback();
    server.on("request", (request, response) => {
      if (request.url?.startsWith("/door/")) atTheDoor(provider, request, response);
      else answer(request, response);
    });
  };
  const atTheDoor = (provider: Oidc, request: IncomingMessage, response: ServerResponse) => {
    const { pathname, searchParams } = new URL(request.url ?? "/", issuer);
    const name = searchParams.get("name");
    if (name === null) {
      const links = [...people, "no"].map(name => `<a href="${pathname}?name=${name}">${name}</a>`);
      response.writeHead(200, { "content-type": "text/html" }).end(links.join(" "));
    } else {
      const result = name === "no" ? { error: "access_denied" } : { login: { accountId: name } };
      void provider.interactionFinished(request, response, result);
    }
  };
  return {
    issuer,
    serve,
    stop() {
      server.closeAllConnections();
      server.close();
    },
  };
}

// Which web pages may call: CORS, the origins of WebSockets, and names that lead to this machine.
import type { IncomingMessage, ServerResponse } from "node:http";
import { Refusal } from "./refusal.js";

const ALLOWED_HEADERS =
  "authorization, content-type, content-encoding, connect-protocol-version, connect-timeout-ms, x-request-id";
const PREFLIGHT_SECONDS = 7_200;
const LOCAL_NAME = /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?$/i;

/** The pages that a server listens to. */
export class Origins {
  readonly #allowed: Set<string>;
  readonly #localOnly: boolean;

  /**
   * @param allowed origins such as `https://app.example`
   * @param options.localOnly whether the server has to be called by a name of this machine: a page
   *   whose name was made to lead here would pass as one of the same origin, and without tokens it
   *   would need nothing else
   */
  constructor(allowed: string[], { localOnly }: { localOnly: boolean }) {
    this.#allowed = new Set(allowed);
    this.#localOnly = localOnly;
  }

  /**
   * @throws Refusal when the request does not call this server by its name
   */
  checkHost({ headers: { host } }: IncomingMessage): void {
    if (!this.#localOnly || host === undefined || LOCAL_NAME.test(host)) return;
    for (const origin of this.#allowed) if (new URL(origin).host === host) return;
    throw new Refusal(403, "permission_denied", "call this server by localhost or its address");
  }

  /** Whether a WebSocket may be opened: by no page, a page of this server or an allowed one. */
  mayConnect({ headers: { origin, host } }: IncomingMessage): boolean {
    if (origin === undefined || this.#allowed.has(origin)) return true;
    return URL.canParse(origin) && new URL(origin).host === host;
  }

  /**
   * Tells the browser what an allowed page may see.
   *
   * @returns true when the request was a preflight, which is answered
   */
  answer(request: IncomingMessage, response: ServerResponse): boolean {
    const { origin } = request.headers;
    if (this.#allowed.size > 0) response.setHeader("vary", "origin");
    if (origin !== undefined && this.#allowed.has(origin)) {
      response.setHeader("access-control-allow-origin", origin);
      response.setHeader("access-control-expose-headers", "x-request-id");
    }
    const isPreflight = "access-control-request-method" in request.headers;
    if (request.method !== "OPTIONS" || !isPreflight) return false;
    if (response.hasHeader("access-control-allow-origin")) {
      response.setHeader("access-control-allow-methods", "GET, POST");
      response.setHeader("access-control-allow-headers", ALLOWED_HEADERS);
      response.setHeader("access-control-max-age", PREFLIGHT_SECONDS);
    }
    response.writeHead(204);
    response.end();
    return true;
  }
}

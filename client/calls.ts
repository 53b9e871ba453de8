// What the calls of all topics have in common: writes under a request_id, and pages.

import { randomUUID } from "node:crypto";
import type { Connection, Method } from "./connection.js";
import { AgentStoreError, InvalidFieldError } from "./errors.js";
import { text } from "./fields.js";
import type { WriteOptions } from "./options.js";

/**
 * Makes a call that writes, under the caller's request_id or one that all attempts of this call
 * share, and tells the caller how it went.
 */
export async function write<
  Request extends { requestId: string },
  Response extends { replayed: boolean; stateEtag?: string },
>(
  connection: Connection,
  method: Method<Request, Response>,
  request: Omit<Request, "requestId">,
  options: WriteOptions,
): Promise<Response> {
  const requestId = options.requestId ?? randomUUID();
  // Without one the server could not tell a retry from a second write.
  if (text(requestId, "request_id") === "") {
    throw InvalidFieldError.of("request_id", "must not be empty; leave it out for a new one");
  }
  const { response, attempts } = await connection.unary(
    method,
    { ...request, requestId } as Request,
    options,
  );
  const { replayed, stateEtag } = response;
  options.onWritten?.({ requestId, replayed, attempts, ...(stateEtag && { stateEtag }) });
  return response;
}

/** Follows the page tokens from the page that `options` asks for to the last one. */
export async function* paginate<
  Options extends { pageToken?: string },
  Page extends { nextPageToken: string },
>(
  options: Options,
  fetch: (options: Options) => Promise<Page>,
): AsyncGenerator<Page, void, undefined> {
  for (let pageToken = options.pageToken; ; ) {
    const page = await fetch(pageToken === undefined ? options : { ...options, pageToken });
    yield page;
    pageToken = page.nextPageToken;
    if (pageToken === "") return;
  }
}

/** What every answer of its kind holds. */
export function answered<T>(value: T | undefined): T {
  if (value === undefined) {
    throw new AgentStoreError({
      code: "INTERNAL",
      message: "the server's answer lacks what was asked for",
    });
  }
  return value;
}

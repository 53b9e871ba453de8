// The streaming read of a session, which resumes by itself after the last page that it has seen.

import { AgentStoreService } from "../gen/agentstore/v1/agent_store.js";
import type {
  StreamMessagesRequest,
  StreamMessagesResponse,
} from "../gen/agentstore/v1/messages.js";
import { MessageOrder } from "../gen/agentstore/v1/messages.js";
import { readAttempt } from "./attempt.js";
import type { Connection, LogicalCall } from "./connection.js";
import { timeout } from "./connection-string.js";
import { messagesFromWire, rangeToWire } from "./messages.js";
import type { StreamedPage, StreamMessagesOptions } from "./options.js";

const method = AgentStoreService.streamMessages;

/**
 * Streams a session's messages page by page. A stream that breaks for a reason that may pass is
 * opened again behind the last page, so that the consumer sees every message once.
 */
export function streamPages(
  connection: Connection,
  id: bigint | number,
  options: StreamMessagesOptions,
): AsyncGenerator<StreamedPage, void, undefined> {
  const request = rangeToWire(id, options);
  const idleMs = timeout(options.idleTimeoutMs, "idleTimeoutMs") ?? connection.timeoutMs;
  const timeoutMs = timeout(options.timeoutMs, "timeoutMs") ?? Number.POSITIVE_INFINITY;
  const call = connection.begin(method);
  return resuming(connection, call, request, idleMs, timeoutMs, options.signal);
}

async function* resuming(
  connection: Connection,
  call: LogicalCall<StreamMessagesResponse>,
  first: StreamMessagesRequest,
  idleMs: number,
  timeoutMs: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<StreamedPage, void, undefined> {
  const scope = connection.open(call, timeoutMs, signal);
  let request = first;
  // How many messages of last_n are still to come; undefined when there is no such bound.
  let left = first.lastN > 0n ? first.lastN : undefined;
  let failures = 0;
  let waitingSince = Date.now();
  try {
    for (let attempts = 1; ; attempts++) {
      try {
        for await (const page of readAttempt(connection, {
          method,
          call,
          request,
          idleMs,
          scope,
        })) {
          if (left === 0n) return;
          const messages = messagesFromWire(page.messages);
          if (left !== undefined) {
            // A resumed stream also brings what was appended since it first began.
            if (messages.length > left) messages.length = Number(left);
            left -= BigInt(messages.length);
          }
          const lastSeq = messages.at(-1)?.seq ?? page.lastSeq;
          request = behind(request, lastSeq, left);
          failures = 0;
          yield { messages, lastSeq };
          waitingSince = Date.now();
        }
        return;
      } catch (failure) {
        if (left === 0n && !scope.signal.aborted) return;
        const error = connection.failed(failure, call, attempts, scope);
        const until = Math.min(scope.deadline, waitingSince + 2 * idleMs);
        await connection.pause(error, call, ++failures, scope, until);
      }
    }
  } finally {
    scope.close();
  }
}

/**
 * The request for what comes behind a page. Oldest first, what is left of last_n is the beginning
 * of what comes behind, no longer its end, so last_n would skip messages once more were appended.
 */
function behind(
  request: StreamMessagesRequest,
  lastSeq: bigint,
  left: bigint | undefined,
): StreamMessagesRequest {
  return request.order === MessageOrder.NEWEST_FIRST
    ? { ...request, beforeSeq: lastSeq, lastN: left ?? 0n }
    : { ...request, afterSeq: lastSeq, lastN: 0n };
}

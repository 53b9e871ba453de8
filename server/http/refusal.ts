// Answers to what is no call of the service: HTTP statuses with a code and a text only.
import type { ServerResponse } from "node:http";
import type { Logger } from "pino";

/** Says that HTTP's side of a request is wrong, before there is a call. */
export class Refusal extends Error {
  constructor(
    readonly httpStatus: number,
    /** The code that the Connect protocol has for it. */
    readonly code: string,
    message: string,
    readonly headers: Record<string, string> = {},
  ) {
    super(message);
  }

  /** The answer's body. */
  get body(): string {
    return JSON.stringify({ code: this.code, message: this.message });
  }

  /** Answers a request with it. */
  send(response: ServerResponse): void {
    const length = Buffer.byteLength(this.body);
    response.writeHead(this.httpStatus, {
      "content-type": "application/json",
      "content-length": length,
      ...this.headers,
    });
    response.end(this.body);
  }
}

/** The refusal that was thrown; for a defect of the server, one that says no more, and a line in the log. */
export function toRefusal(error: unknown, logger: Logger): Refusal {
  if (error instanceof Refusal) return error;
  logger.error({ err: error }, "an HTTP request failed before it was a call");
  return new Refusal(500, "internal", "internal error");
}

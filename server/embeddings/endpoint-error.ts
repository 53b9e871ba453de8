// Why an embeddings endpoint has not answered.

/** Whose fault it is that there is no embedding. */
export type EndpointFault =
  /** It asks to be left alone for a while. */
  | "busy"
  /** It does not take the texts. */
  | "refused"
  /** Anything else: it is away, slow or broken, or answers what is no answer. */
  | "failed";

/** Says why an endpoint has not answered. The text holds nothing of what was sent or received. */
export class EndpointError extends Error {
  /** @param retryAfterMs how long to leave it alone, if it says so, in milliseconds */
  constructor(
    readonly fault: EndpointFault,
    message: string,
    readonly retryAfterMs?: number,
  ) {
    super(message);
    this.name = "EndpointError";
  }
}

// The error for a line that cannot be imported.

/** Thrown for a line that is no conversation; the message says what is wrong, without a period. */
export class BadLineError extends Error {
  override name = "BadLineError";
}

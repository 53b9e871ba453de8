// Collects what is wrong with a request's fields, so that a caller hears of all at once.
import { type FieldViolation, RpcError } from "../errors/rpc-error.js";

// Characters beyond U+FFFF have two UTF-16 units.
const SECOND_UNIT = /[\udc00-\udfff]/;

/** Counts the Unicode code points of a text. */
export function countCharacters(text: string): number {
  let count = text.length;
  // Most texts have none of them, which the engine's own search sees in a fraction of the loop's time.
  if (!SECOND_UNIT.test(text)) return count;
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index);
    if (unit >= 0xdc00 && unit <= 0xdfff) count--;
  }
  return count;
}

const YEAR_1_MS = -62_135_596_800_000n;
const YEAR_9999_END_MS = 253_402_300_799_999n;

/** Whether a time in milliseconds is one that google.protobuf.Timestamp has. */
export function isTimeMs(ms: bigint): boolean {
  return ms >= YEAR_1_MS && ms <= YEAR_9999_END_MS;
}

/** The violations of one request. */
export class FieldChecks {
  readonly #violations: FieldViolation[] = [];

  /** Notes a violation. */
  fail(field: string, description: string): void {
    this.#violations.push({ field, description });
  }

  /** An id or seq: positive. */
  positive(field: string, value: bigint): void {
    if (value <= 0n) this.fail(field, "is required and must be positive");
  }

  /** An integer within bounds, both included. */
  within(
    field: string,
    value: number | bigint,
    least: number | bigint,
    most: number | bigint,
  ): void {
    if (value < least || value > most) this.fail(field, `must be from ${least} to ${most}`);
  }

  /** A count or position: zero or more. */
  notNegative(field: string, value: bigint): void {
    if (value < 0n) this.fail(field, "must not be negative");
  }

  /** A text of at most so many characters, without U+0000, which Postgres cannot index. */
  text(field: string, value: string, most: number): void {
    this.textLength(field, value, most);
    if (value.includes("\0")) this.fail(field, "must not contain U+0000");
  }

  /** As text, and not empty. */
  requiredText(field: string, value: string, most: number): void {
    if (value === "") this.fail(field, "is required");
    else this.text(field, value, most);
  }

  /** A text of at most so many characters, any of them. */
  textLength(field: string, value: string, most: number): void {
    // A character has one or two UTF-16 units, so most texts need no counting.
    if (value.length > most && countCharacters(value) > most) {
      this.fail(field, `must have at most ${most} characters`);
    }
  }

  /** A known value of an enum; zero counts when it has a meaning there. */
  enumValue(field: string, value: number, known: object, { zero }: { zero: boolean }): void {
    // -1 is what generated code has for a value that it does not know.
    if (value >= (zero ? 0 : 1) && Object.values(known).includes(value)) return;
    const names = Object.entries(known).filter(([, number]) => number > 0);
    this.fail(field, `must be one of ${names.map(([name]) => name).join(", ")}`);
  }

  /** A time in milliseconds that a timestamp can express. */
  timeMs(field: string, value: bigint): void {
    if (!isTimeMs(value)) {
      this.fail(field, "must be a time in milliseconds from the year 1 to the year 9999");
    }
  }

  /** As timeMs, for a Timestamp. */
  time(field: string, value: Date | undefined): void {
    if (value === undefined) return;
    const ms = value.getTime();
    if (Number.isNaN(ms)) this.fail(field, "must be a time from the year 1 to the year 9999");
    else this.timeMs(field, BigInt(Math.trunc(ms)));
  }

  /** A Struct that jsonb can hold: bounded in size and depth, no U+0000, finite numbers. */
  struct(
    field: string,
    value: Record<string, unknown> | undefined,
    { bytes, depth }: { bytes: number; depth: number },
  ): void {
    if (value === undefined) return;
    const fault = structFault(value, depth);
    if (fault !== null) this.fail(field, fault);
    else if (Buffer.byteLength(JSON.stringify(value)) > bytes) {
      this.fail(field, `must have at most ${bytes} bytes as JSON`);
    }
  }

  /** Throws INVALID_FIELD when anything is wrong. */
  throwIfAny(): void {
    const [first] = this.#violations;
    if (first === undefined) return;
    // A batch may hold thousands of bad fields; the first ones tell enough.
    const shown = this.#violations.slice(0, 20);
    const text = shown.map(({ field, description }) => `${field}: ${description}`).join("; ");
    throw new RpcError("INVALID_FIELD", text, {
      metadata: { field: first.field },
      violations: shown,
    });
  }
}

function structFault(value: unknown, depthLeft: number): string | null {
  switch (typeof value) {
    case "string":
      return value.includes("\0") ? "must not contain U+0000" : null;
    case "number":
      return Number.isFinite(value) ? null : "must hold finite numbers only";
    case "boolean":
      return null;
    case "object":
      break;
    default:
      return "holds a Value without a kind";
  }
  if (value === null) return null;
  if (depthLeft === 0) return "is nested too deeply";
  for (const [key, inner] of Object.entries(value)) {
    const fault = structFault(key, depthLeft) ?? structFault(inner, depthLeft - 1);
    if (fault !== null) return fault;
  }
  return null;
}

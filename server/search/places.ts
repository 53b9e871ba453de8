// The values of a statement that is put together from fixed parts.

/** Collects values and says where each of them stands. */
export class Places {
  readonly values: unknown[] = [];

  /** Takes a value and returns its place, for example `$3`. */
  of(value: unknown): string {
    return `$${this.values.push(value)}`;
  }
}

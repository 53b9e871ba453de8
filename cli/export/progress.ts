// Shows how far an export is: a line that changes on a terminal, a line every 10 s elsewhere.

const LINE_EVERY_MS = 10_000;
const CHANGE_EVERY_MS = 200;
const MIB = 1024 * 1024;

/** Says on stderr how far an export is. */
export class ExportProgress {
  readonly #terminal = process.stderr.isTTY;
  #last = performance.now();

  /** So many sessions and bytes are written. */
  update(sessions: bigint, bytes: number): void {
    const every = this.#terminal ? CHANGE_EVERY_MS : LINE_EVERY_MS;
    if (performance.now() - this.#last < every) return;
    this.#last = performance.now();
    const text = `… ${this.describe(sessions, bytes)}`;
    process.stderr.write(this.#terminal ? `\r\x1b[K${text}` : `${text}\n`);
  }

  /** Takes the line that changes away. */
  stop(): void {
    if (this.#terminal) process.stderr.write("\r\x1b[K");
  }

  /** For example `1,234 sessions, 5.6 MiB`. */
  describe(sessions: bigint, bytes: number): string {
    const noun = sessions === 1n ? "session" : "sessions";
    return `${sessions.toLocaleString("en")} ${noun}, ${(bytes / MIB).toFixed(1)} MiB`;
  }
}

// Writes to stdout: text with back-pressure, JSON for machines, tables and colours for people.
import { once } from "node:events";
import { styleText } from "node:util";
import stringWidth from "string-width";

/** Ends the process quietly when the reader of stdout has gone, as in `agentstore show 1 | head`. */
export function exitOnClosedPipe(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EPIPE") process.exit(0);
      throw error;
    });
  }
}

/** Writes to stdout and waits while its reader is slow. */
export async function write(text: string): Promise<void> {
  if (!process.stdout.write(text)) await once(process.stdout, "drain");
}

/** Writes a value as one line of JSON: 64-bit integers as strings, times in RFC 3339. */
export async function writeJson(value: unknown): Promise<void> {
  await write(`${toJson(value)}\n`);
}

/** A value as JSON text without line breaks, following protobuf's JSON mapping. */
export function toJson(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === "bigint" ? inner.toString() : inner,
  );
}

/** Emphasises a text where stdout is a terminal that shows colours and NO_COLOR is not set. */
export function style(format: Parameters<typeof styleText>[0], text: string): string {
  const colours = process.stdout.isTTY && !process.env["NO_COLOR"] && process.stdout.hasColors();
  return colours ? styleText(format, text) : text;
}

/**
 * Shows the control characters of a stored text instead of sending them to the terminal, where they
 * could move the cursor or forge lines. Line breaks and tabs stay.
 */
export function visible(text: string): string {
  return text.replaceAll(/[\p{Cc}\u2028-\u202e\u2066-\u2069]/gu, (character) => {
    if (character === "\n" || character === "\t") return character;
    const code = character.codePointAt(0) ?? 0;
    if (code < 0x20) return String.fromCodePoint(0x2400 + code);
    return code === 0x7f ? "␡" : "\ufffd";
  });
}

/** As visible, on one line. */
export function oneLine(text: string): string {
  return visible(text.replaceAll(/\s+/g, " ").trim());
}

/** A column of a table. */
export interface Column {
  header: string;
  align?: "right";
  /** Gives way, down to a few characters, when the table is wider than the terminal. */
  shrinks?: boolean;
}

const SHRUNK_WIDTH = 8;
const GAP = "  ";

/**
 * Lays out a table, one line a row, by the width that characters take on a terminal.
 * @param width the columns of the terminal; Infinity to shorten nothing
 */
export function table(
  columns: readonly Column[],
  rows: readonly string[][],
  width: number,
): string {
  const cells = [columns.map((column) => column.header), ...rows].map((row) => row.map(oneLine));
  const widths = fit(columns, cells, width);
  const lines = cells.map((row) => layOut(columns, row, widths));
  return lines.map((line, index) => `${index === 0 ? style("bold", line) : line}\n`).join("");
}

/** The columns of the terminal that stdout is; Infinity when it is none. */
export function terminalWidth(): number {
  return process.stdout.isTTY ? process.stdout.columns || 80 : Infinity;
}

/** Shortens a line to a width, with an ellipsis, without cutting a character that people see. */
export function shorten(line: string, width: number): string {
  if (stringWidth(line) <= width) return line;
  let shortened = "";
  let used = 0;
  for (const { segment } of new Intl.Segmenter().segment(line)) {
    used += stringWidth(segment);
    if (used > width - 1) break;
    shortened += segment;
  }
  return `${shortened}…`;
}

function fit(columns: readonly Column[], cells: string[][], width: number): number[] {
  const widths = columns.map((_, index) =>
    Math.max(...cells.map((row) => stringWidth(row[index] ?? ""))),
  );
  const gaps = GAP.length * (columns.length - 1);
  for (;;) {
    const excess = widths.reduce((sum, one) => sum + one, gaps) - width;
    if (excess <= 0) return widths;
    const widest = widths.reduce(
      (best, one, index) => (columns[index]?.shrinks && one > (widths[best] ?? 0) ? index : best),
      columns.findIndex((column) => column.shrinks),
    );
    const current = widths[widest] ?? 0;
    if (current <= SHRUNK_WIDTH) return widths;
    widths[widest] = current - 1;
  }
}

function layOut(columns: readonly Column[], row: readonly string[], widths: number[]): string {
  const cells = row.map((cell, index) => {
    const width = widths[index] ?? 0;
    const shortened = shorten(cell, width);
    const padding = " ".repeat(Math.max(0, width - stringWidth(shortened)));
    return columns[index]?.align === "right" ? padding + shortened : shortened + padding;
  });
  return cells.join(GAP).trimEnd();
}

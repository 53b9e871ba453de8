// How the demo looks: headings, marked roles, figures, and colours where a terminal shows them.
import { styleText } from "node:util";
import type { AgentMessage } from "@agentstore/client";

type Format = Parameters<typeof styleText>[0];

const WIDTH = Math.min(process.stdout.columns || 88, 88);
const ROLE_COLOURS: Record<AgentMessage["role"], Format> = {
  system: "magenta",
  user: "cyan",
  assistant: "green",
  tool: "yellow",
  unknown: "red",
};

/** Says what the program is. */
export function title(text: string): void {
  console.log(`\n${style("bold", text)}\n`);
}

/** Begins a scenario. */
export function heading(number: number, text: string): void {
  const rule = "─".repeat(Math.max(0, WIDTH - text.length - 4));
  console.log(`\n${style("bold", `${number}  ${text}`)} ${style("dim", rule)}\n`);
}

/** Leaves a line empty. */
export function gap(): void {
  console.log();
}

/** Shows a figure or another fact by its name. */
export function fact(name: string, text: string): void {
  console.log(style("bold", `  ${name.padEnd(9)}`) + inColumn(11, text));
}

/** Shows a message and its place in the conversation. */
export function message({ seq, role, content, toolCalls, name }: AgentMessage): void {
  const calls = toolCalls.map((call) => `→ ${call.name} ${call.arguments}`);
  const said = role === "tool" ? `← ${name} ${content}` : content;
  const lines = said === "" ? calls : [said, ...calls];
  const place = style("dim", `#${seq}`.padStart(6));
  console.log(`${place}  ${speaker(role)}  ${inColumn(19, lines.join("\n"))}`);
}

/** Shows what a search has found, with the text that was searched for marked. */
export function hit({ conversationId, seq, role, content }: AgentMessage, wanted: string): void {
  const text = clean(content).replaceAll(/\s+/g, " ");
  const at = Math.max(0, text.toLowerCase().indexOf(wanted.toLowerCase()) - 20);
  const room = WIDTH - 37;
  const excerpt =
    (at > 0 ? "…" : "") + text.slice(at, at + room) + (text.length > at + room ? "…" : "");
  const place = style("dim", `session ${conversationId} #${seq}`.padEnd(16));
  console.log(`  ${place}  ${speaker(role)}  ${highlighted(excerpt, wanted)}`);
}

/** Shows columns, the first row as their heads, numbers on the right. */
export function table(rows: string[][]): void {
  const widths = rows[0]?.map((_, n) => Math.max(...rows.map((row) => row[n]?.length ?? 0))) ?? [];
  for (const [index, row] of rows.entries()) {
    const cells = widths.map((width, n) => {
      const isNumber = /^[\d,]+$/.test(rows[1]?.[n] ?? "");
      return isNumber ? (row[n] ?? "").padStart(width) : (row[n] ?? "").padEnd(width);
    });
    console.log(`  ${style(index === 0 ? "dim" : "reset", cells.join("  ").trimEnd())}`);
  }
}

/** A number with its noun: "1 message", "2,000 messages". */
export function count(number: bigint | number, noun: string): string {
  return `${number.toLocaleString("en")} ${noun}${Number(number) === 1 ? "" : "s"}`;
}

/** An amount of money: "$66,677.60". */
export function dollars(amount: unknown): string {
  return Number(amount).toLocaleString("en", { style: "currency", currency: "USD" });
}

function speaker(role: AgentMessage["role"]): string {
  return style(ROLE_COLOURS[role], role.padEnd(9));
}

/** Marks a text in another: in reverse, or by brackets where there are no colours. */
function highlighted(text: string, wanted: string): string {
  const places = new RegExp(wanted.replaceAll(/\W/g, String.raw`\$&`), "gi");
  return text.replaceAll(places, (found) =>
    hasColours() ? style("inverse", found) : `[${found}]`,
  );
}

/** Breaks lines between words; the first one begins in a column already. */
function inColumn(column: number, text: string): string {
  const broken = clean(text)
    .split("\n")
    .flatMap((line) => {
      const lines: string[] = [];
      // An arrow stays with what follows it.
      for (const word of line.split(/(?<!^[←→]) /)) {
        const longer = lines.length > 0 ? `${lines.at(-1)} ${word}` : word;
        if (lines.length > 0 && longer.length > WIDTH - column) lines.push(word);
        else lines[Math.max(0, lines.length - 1)] = longer;
      }
      return lines;
    });
  return broken.join(`\n${" ".repeat(column)}`);
}

/** Takes control characters out, which could move the cursor: models and tools may say anything. */
function clean(text: string): string {
  return text.replaceAll(/(?!\n)\p{Cc}/gu, "");
}

function style(format: Format, text: string): string {
  return hasColours() ? styleText(format, text) : text;
}

function hasColours(): boolean {
  return process.stdout.isTTY && !process.env["NO_COLOR"] && process.stdout.hasColors();
}

// The result, as a table for people and as JSON.
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { cpus, release, totalmem, type } from "node:os";
import { dirname } from "node:path";
import pg from "pg";
import type { Figure } from "./figures.js";
import { pgbenchVersion } from "./pgbench.js";

/** Where a result was measured. */
export interface Machine {
  system: string;
  processor: string;
  cores: number;
  memoryGiB: number;
  node: string;
  postgres: string;
  pgbench: string;
  /** Settings of Postgres that decide what durable costs. */
  durability: string;
  commit: string;
}

/** Describes the machine, with the Postgres that was measured. */
export async function describeMachine(databaseUrl: string): Promise<Machine> {
  const client = new pg.Client(databaseUrl);
  await client.connect();
  const { rows } = await client.query<{ name: string; setting: string }>(
    `SELECT name, setting FROM pg_settings
      WHERE name IN ('server_version', 'fsync', 'synchronous_commit', 'wal_sync_method')
      ORDER BY name`,
  );
  await client.end();
  const settings = new Map(rows.map(({ name, setting }) => [name, setting]));
  const version = settings.get("server_version") ?? "";
  settings.delete("server_version");
  const processors = cpus();
  return {
    system: `${type()} ${release()}`,
    processor: processors[0]?.model ?? "unknown",
    cores: processors.length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    node: process.version,
    postgres: version,
    pgbench: (await pgbenchVersion()) ?? "none",
    durability: [...settings].map(([name, setting]) => `${name} ${setting}`).join(", "),
    commit: commit(),
  };
}

function commit(): string {
  try {
    return execFileSync("git", ["rev-parse", "--short", "HEAD"], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }).trim();
  } catch {
    return "unknown";
  }
}

/** Prints the figures as a table, a heading for each group. */
export function printTable(machine: Machine, figures: Figure[]): void {
  const rows = figures.map((figure) => [
    figure.name,
    figure.value === undefined ? "" : `${round(figure.value)} ${figure.unit}`,
    figure.against ? `${round(figure.against.value)} ${figure.against.name}` : "",
    figure.ratio === undefined ? "" : round(figure.ratio),
    goalText(figure),
    verdict(figure),
  ]);
  const head = ["figure", "measured", "against", "ratio", "goal", ""];
  const widths = head.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  const line = (cells: string[]) =>
    cells
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join("  ")
      .trimEnd();
  const print = (text: string) => process.stdout.write(`${text}\n`);
  print("");
  for (const [name, value] of Object.entries(machine)) print(`${name.padEnd(11)} ${value}`);
  print("");
  print(line(head));
  let group = "";
  rows.forEach((row, index) => {
    const figure = figures[index] as Figure;
    if (figure.group !== group) {
      group = figure.group;
      print(`\n${group}`);
    }
    print(line(row));
  });
}

/** Writes the result to a file. */
export function writeJson(file: string, result: object): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `${JSON.stringify(result, null, 2)}\n`);
}

function goalText({ goal }: Figure): string {
  if (goal?.atMost !== undefined) return `≤ ${goal.atMost}`;
  return goal?.atLeast === undefined ? "" : `≥ ${goal.atLeast}`;
}

function verdict({ reached, skipped }: Figure): string {
  if (skipped !== undefined) return `skipped: ${skipped}`;
  return reached === undefined ? "" : reached ? "reached" : "missed";
}

/** Three significant digits; whole numbers above 100. */
function round(value: number): string {
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString("en-US");
  return String(Number(value.toPrecision(3)));
}

// The result of the relevance benchmark, as a table for people and as JSON.
import { writeJson } from "../lib/report.js";
import type { JudgedQuery } from "./judged-set.js";

/** What a search scored. */
export interface Scores {
  name: string;
  /** nDCG at 10 of each query, in their order. */
  values: number[];
}

/** Prints the means of groups of queries, and writes them to a file if there is one. */
export function printScores(queries: JudgedQuery[], scores: Scores[], file?: string): void {
  const groups = groupsOf(queries);
  const means = scores.map(({ name, values }) => ({
    name,
    means: Object.fromEntries(
      [...groups].map(([group, places]) => [group, mean(places.map((at) => values[at] ?? 0))]),
    ),
  }));
  const head = ["nDCG@10", ...means.map(({ name }) => name)];
  const rows = [...groups].map(([group, places]) => [
    `${group} (${places.length})`,
    ...means.map((search) => (search.means[group] ?? 0).toFixed(3)),
  ]);
  process.stdout.write(`${markdown(head)}\n${markdown(head.map(() => "---"))}\n`);
  for (const row of rows) process.stdout.write(`${markdown(row)}\n`);
  if (file !== undefined) writeJson(file, { queries: queries.length, means });
}

function groupsOf(queries: JudgedQuery[]): Map<string, number[]> {
  const groups = new Map<string, number[]>();
  queries.forEach(({ language, kind }, place) => {
    const half = place % 2 === 0 ? "for tuning" : "held out";
    for (const group of ["all", half, language, `${language} ${kind}`]) {
      groups.set(group, [...(groups.get(group) ?? []), place]);
    }
  });
  return new Map([...groups].sort(([a], [b]) => a.localeCompare(b)));
}

function mean(values: number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function markdown(cells: string[]): string {
  return `| ${cells.join(" | ")} |`;
}

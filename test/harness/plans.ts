// What a statement looks at in order to find what it returns.
import pg from "pg";

interface PlanNode {
  "Actual Rows": number;
  "Actual Loops": number;
  "Rows Removed by Filter"?: number;
  Plans?: PlanNode[];
}

/** How many rows the scans of a statement come across, those that a filter drops included. */
export async function rowsLookedAt(
  client: pg.Client,
  text: string,
  values: (string | number | bigint | (string | number | bigint)[])[],
): Promise<number> {
  const { rows } = await client.query<{ "QUERY PLAN": [{ Plan: PlanNode }] }>(
    `EXPLAIN (ANALYZE, FORMAT JSON, TIMING OFF) ${text.replaceAll(/\$(\d+)/g, (_, number) => literal(values[Number(number) - 1]))}`,
  );
  return looked(rows[0]!["QUERY PLAN"][0].Plan);
}

function literal(value: unknown): string {
  if (Array.isArray(value)) return `ARRAY[${value.map(literal).join(", ")}]`;
  return typeof value === "string" ? pg.escapeLiteral(value) : String(value);
}

function looked(node: PlanNode): number {
  if (node.Plans) return node.Plans.map(looked).reduce((sum, rows) => sum + rows, 0);
  return (node["Actual Rows"] + (node["Rows Removed by Filter"] ?? 0)) * node["Actual Loops"];
}

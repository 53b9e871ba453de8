// The limit of writing: pgbench with the same rows on the same Postgres, without anything between.
import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { text } from "./fill.js";
import { percentile } from "./stats.js";

const run = promisify(execFile);

/** Where pgbench runs: sessions `firstSession` and the following, one for each client. */
export interface PgbenchTarget {
  socketDir: string;
  database: string;
  firstSession: bigint;
}

/** What a run came to. */
export interface PgbenchResult {
  transactionsPerSecond: number;
  /** Median latency of a transaction, in milliseconds; only where latencies were asked for. */
  p50: number;
}

const ADVANCE = (messages: number, characters: string) => `UPDATE conversations
   SET last_seq = last_seq + ${messages}, revision = revision + ${messages},
       message_count = message_count + ${messages}, user_messages = user_messages + ${messages},
       total_characters = total_characters + ${characters},
       first_message_ms = least(first_message_ms, :ms),
       last_message_ms = greatest(last_message_ms, :ms), updated_at = now()
 WHERE id = :id RETURNING last_seq`;

const SET = `\\set id :first + :client_id
\\set length random(200, 800)
\\set ms 1767225600000 + :length
`;

/** The scripts. */
export const scripts = {
  /** A row and its session's counters, in one transaction of two statements. */
  insertAndCount: `${SET}BEGIN;
${ADVANCE(1, ":length")} \\gset
INSERT INTO conversation_messages (conversation_id, seq, revision, role, content, ts_ms)
VALUES (:id, :last_seq, :last_seq + 1, 'user', left(:text, :length), :ms) RETURNING id;
COMMIT;
`,
  /** The same in one statement, and so in one round trip. */
  insertAndCountAtOnce: `${SET}WITH advanced AS (${ADVANCE(1, ":length")})
INSERT INTO conversation_messages (conversation_id, seq, revision, role, content, ts_ms)
SELECT :id, last_seq, last_seq + 1, 'user', left(:text, :length), :ms FROM advanced RETURNING id;
`,
  /** A row alone. */
  insert: `${SET}\\set n :n + 1
INSERT INTO conversation_messages (conversation_id, seq, revision, role, content, ts_ms)
VALUES (:id, :n, :n, 'user', left(:text, :length), :ms) RETURNING id;
`,
  /** A hundred rows and their session's counters, in one transaction of two statements. */
  insertHundredAndCount: `${SET}BEGIN;
${ADVANCE(100, "50000")} \\gset
INSERT INTO conversation_messages (conversation_id, seq, revision, role, content, ts_ms)
SELECT :id, :last_seq - 100 + number, :last_seq - 99 + number, 'user', content, :ms
  FROM unnest(:contents::text[]) WITH ORDINALITY AS d (content, number) RETURNING id;
COMMIT;
`,
};

/** The version of the pgbench on the PATH, or undefined where there is none. */
export async function pgbenchVersion(): Promise<string | undefined> {
  try {
    const { stdout } = await run("pgbench", ["--version"]);
    return /[\d.]+/.exec(stdout)?.[0];
  } catch {
    return undefined;
  }
}

let runs = 0;

/**
 * Runs a script with so many clients.
 *
 * @param latencies whether to measure each transaction by itself
 */
export async function pgbench(
  target: PgbenchTarget,
  script: keyof typeof scripts,
  clients: number,
  seconds: number,
  latencies = false,
): Promise<PgbenchResult> {
  const directory = await mkdtemp(join(tmpdir(), "agentstore-pgbench-"));
  const file = join(directory, "script.sql");
  await writeFile(file, scripts[script]);
  const hundred = Array.from({ length: 100 }, (_, n) => `"${text(n, [200, 800])}"`).join(",");
  // Bare inserts take seqs that nobody else does, run after run.
  const n = 1_000_000_000 * ++runs;
  try {
    const { stdout } = await run(
      "pgbench",
      [
        `--host=${target.socketDir}`,
        "--username=agentstore",
        "--no-vacuum",
        "--protocol=prepared",
        `--file=${file}`,
        `--client=${clients}`,
        `--jobs=${Math.min(clients, cpus().length)}`,
        `--time=${seconds}`,
        `--define=first=${target.firstSession}`,
        `--define=n=${n}`,
        `--define=text=${text(1, [800, 800])}`,
        `--define=contents={${hundred}}`,
        ...(latencies ? ["--log", `--log-prefix=${join(directory, "latency")}`] : []),
        target.database,
      ],
      { cwd: directory, maxBuffer: 16 * 1024 * 1024 },
    ).catch((error: { stderr?: string }) => {
      throw new Error(`pgbench failed: ${error.stderr ?? ""}`);
    });
    const tps = Number(/^tps = ([\d.]+)/m.exec(stdout)?.[1]);
    return { transactionsPerSecond: tps, p50: latencies ? await readP50(directory) : Number.NaN };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function readP50(directory: string): Promise<number> {
  const micros: number[] = [];
  for (const name of await readdir(directory)) {
    if (!name.startsWith("latency")) continue;
    const lines = (await readFile(join(directory, name), "utf8")).split("\n");
    for (const line of lines) if (line !== "") micros.push(Number(line.split(" ")[2]));
  }
  return percentile(micros, 0.5) / 1000;
}

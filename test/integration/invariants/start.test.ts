// What serve refuses to start on: it says why, ends with an error and leaves nothing running.
import { mkdtemp, rm } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { killPostgres, postmasterOf } from "../../harness/chaos.js";
import {
  createDatabase,
  createEmptyDatabase,
  type TestDatabase,
  withClient,
} from "../../harness/postgres.js";
import { type SpawnedServer, spawnServer } from "../../harness/server.js";
import { Stubs } from "../../harness/stubs.js";

let dataDir: string;

beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "start-"));
});

afterEach(async () => {
  killPostgres(dataDir);
  await rm(dataDir, { recursive: true, force: true, maxRetries: 10 });
});

/** Starts a server that is expected not to serve; returns what it printed. */
async function refusal(...flags: string[]): Promise<{ code: number; output: string }> {
  const outcome = await spawnServer(flags).catch((error: Error) => error.message);
  if (typeof outcome !== "string") {
    await outcome.end("SIGKILL");
    throw new Error("it serves");
  }
  const [, code, output] = /^serve ended with code (\S+):\n(.*)$/s.exec(outcome)!;
  return { code: Number(code), output: output! };
}

async function withDatabase<T>(
  database: TestDatabase,
  work: (url: string) => Promise<T>,
): Promise<T> {
  try {
    return await work(database.url);
  } finally {
    await database.drop();
  }
}

test("--no-migrate on an empty database: refused, and the database stays empty", async () => {
  await withDatabase(await createEmptyDatabase(), async (url) => {
    const { code, output } = await refusal("--database-url", url, "--no-migrate");
    expect(code).toBe(1);
    expect(output).toMatch(/agentstore migrate/);
    const tables = await withClient(url, (client) =>
      client.query("SELECT 1 FROM pg_tables WHERE schemaname = 'public'"),
    );
    expect(tables.rowCount).toBe(0);
  });
  await withDatabase(await createDatabase(), async (url) => {
    const server = await spawnServer(["--database-url", url, "--no-migrate"]);
    expect(await server.end("SIGTERM")).toBe(0);
  });
});

test("--no-migrate with a Postgres of its own: that one is stopped again", async () => {
  const { code, output } = await refusal("--data-dir", dataDir, "--no-migrate");
  expect(code).toBe(1);
  expect(output).toMatch(/agentstore migrate/);
  expect(postmasterOf(dataDir)).toBeUndefined();
});

test.each(["0.0.0.0", "::"])(
  "on %s without TLS and authentication: only if told to",
  async (host) => {
    await withDatabase(await createDatabase(), async (url) => {
      const { code, output } = await refusal("--database-url", url, "--host", host);
      expect(code).not.toBe(0);
      for (const flag of ["--tls-cert", "--tls-key", "--tokens", "--insecure"]) {
        expect(output).toContain(flag);
      }
      const insecure = ["--database-url", url, "--host", host, "--insecure"];
      const server = await spawnServer(insecure);
      await expectServes(server, `127.0.0.1:${server.address.split(":").at(-1)}`);
      expect(await server.end("SIGTERM")).toBe(0);
    });
  },
);

test("a port in use: it names the port, and leaves no Postgres behind", async () => {
  const taken = createServer();
  await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
  const { port } = taken.address() as AddressInfo;
  try {
    const { code, output } = await refusal("--data-dir", dataDir, "--port", String(port));
    expect(code).toBe(1);
    expect(output).toContain(String(port));
    expect(output).toMatch(/in use|EADDRINUSE/i);
    expect(output).not.toMatch(/^\s+at /m);
    expect(postmasterOf(dataDir)).toBeUndefined();
  } finally {
    taken.close();
  }
});

test("a second server on one data directory: it says so and stops, the first one goes on", async () => {
  const first = await spawnServer(["--data-dir", dataDir]);
  try {
    const { code, output } = await refusal("--data-dir", dataDir);
    expect(code).toBe(1);
    expect(output).toContain(dataDir);
    expect(output).toContain(String(first.child.pid));
    await expectServes(first, first.address);
  } finally {
    expect(await first.end("SIGTERM")).toBe(0);
  }
  expect(postmasterOf(dataDir)).toBeUndefined();
});

test("a database that is not there", async () => {
  const url = "postgres://nobody:hidden@127.0.0.1:1/nowhere";
  const { code, output } = await refusal("--database-url", url);
  expect(code).toBe(1);
  expect(output).toContain("127.0.0.1");
  expect(output).not.toContain("hidden");
});

async function expectServes(server: SpawnedServer, address: string): Promise<void> {
  const stubs = new Stubs(address);
  const { session } = await stubs.call("createSession", { modelId: "gpt-4" });
  expect(session?.id, server.output()).toBeGreaterThan(0n);
  stubs.close();
}

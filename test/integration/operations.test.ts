// What the page on operations shows works: making tokens, granting rights, and asking
// a server for its health.
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, inject, it } from "vitest";
import { AgentStoreClient } from "../../client/index.js";
import { checkSchema } from "../../server/db/migrations.js";
import { createDatabase, withClient } from "../harness/postgres.js";
import { startServer } from "../harness/server.js";

const root = path.resolve(import.meta.dirname, "../..");
const run = promisify(execFile);

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "agentstore-operations-"));
});

afterEach(() => rm(directory, { recursive: true }));

describe("the commands that make a token", () => {
  it("make one that the server accepts, and no other", async ({ skip }) => {
    const tools = await run("sh", ["-c", "command -v openssl && command -v sha256sum"]).catch(() =>
      skip("openssl or sha256sum is not installed"),
    );
    expect(tools.stdout).toContain("openssl");
    const page = await readFile(path.join(root, "docs/operations.md"), "utf8");
    const script = /^```sh\n(token=[\s\S]*?)^```$/m.exec(page)?.[1] ?? "";
    const { stdout } = await run("sh", ["-euc", script], { cwd: directory });
    const token = stdout.trim();
    expect(token).toMatch(/^[0-9a-f]{64}$/);

    const tokensFile = path.join(directory, "tokens.txt");
    expect(await readFile(tokensFile, "utf8")).not.toContain(token);
    const server = await startServer({ tokensFile });
    const known = new AgentStoreClient({ url: server.url, token });
    const unknown = new AgentStoreClient({ url: server.url, token: `${token}0` });
    try {
      await expect(known.createSession("gpt-4")).resolves.toMatchObject({ modelId: "gpt-4" });
      await expect(unknown.createSession("gpt-4")).rejects.toMatchObject({
        reason: "UNAUTHENTICATED",
      });
    } finally {
      known.close();
      unknown.close();
      await server.stop();
    }
  });
});

describe("the rights of a server that does not migrate", () => {
  it("suffice for all that it does", async () => {
    const page = await readFile(path.join(root, "docs/operations.md"), "utf8");
    const grants = /^```sql\n([\s\S]*?)^```$/m.exec(page)?.[1] ?? "";
    expect(grants).toContain("TO app;");
    const role = `app_${randomBytes(8).toString("hex")}`;
    const database = await createDatabase();
    await withClient(database.url, async (admin) => {
      await admin.query(`CREATE ROLE ${role} LOGIN`);
      await admin.query(grants.replaceAll("TO app;", `TO ${role};`));
    });
    const url = new URL(database.url);
    url.username = role;
    await checkSchema(url.href);
    const server = await startServer({ databaseUrl: url.href });
    const store = new AgentStoreClient(server.url);
    try {
      const { id } = await store.createSession("a-new-model");
      await store.addMessage(id, "user", "Hello");
      await store.updateSession(id, { title: "A title" });
      expect(await store.getSessionStats(id)).toMatchObject({ totalMessages: 1n });
      expect(await store.searchMessages("", "hell")).toHaveLength(1);
      expect(await store.deleteSession(id)).toBe(true);
    } finally {
      store.close();
      await server.stop();
      await withClient(database.url, (admin) => admin.query(`DROP OWNED BY ${role}`));
      await database.drop();
      await withClient(inject("postgresUrl"), (admin) => admin.query(`DROP ROLE ${role}`));
    }
  });
});

describe("scripts/healthcheck.mjs", () => {
  const check = (...args: string[]) =>
    run(process.execPath, [path.join(root, "scripts/healthcheck.mjs"), ...args]);

  it("ends with 0 while the server serves and with 1 once it does not", async () => {
    const server = await startServer();
    await expect(check(server.address)).resolves.toBeDefined();
    await server.stop();
    await expect(check(server.address)).rejects.toMatchObject({ code: 1 });
  });

  it("asks over TLS when it is given a certificate authority", async ({ skip }) => {
    const tlsKey = path.join(directory, "key.pem");
    const tlsCert = path.join(directory, "cert.pem");
    const request =
      "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 " +
      "-subj /CN=localhost -addext subjectAltName=DNS:localhost";
    const files = ["-keyout", tlsKey, "-out", tlsCert];
    await run("openssl", [...request.split(" "), ...files]).catch(
      (error: NodeJS.ErrnoException) => {
        if (error.code === "ENOENT") skip("openssl is not installed");
        throw error;
      },
    );
    const server = await startServer({ tlsKey, tlsCert });
    const address = server.address.replace("127.0.0.1", "localhost");
    try {
      await expect(check(address, tlsCert)).resolves.toBeDefined();
      await expect(check(address)).rejects.toMatchObject({ code: 1 });
    } finally {
      await server.stop();
    }
  });
});

// Who may call AgentStoreAdmin, and whose data it shows.
import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { adminCall, allEvents, verifyAll } from "../harness/admin-stubs.js";
import { startServer, type TestServer } from "../harness/server.js";
import { failureOf, Stubs } from "../harness/stubs.js";

let directory: string;
let server: TestServer;
const stubs: Record<string, Stubs> = {};

beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "agentstore-admin-"));
  const tokensFile = path.join(directory, "tokens");
  const line = (tenant: string, name: string, right = "") =>
    `${tenant} ${name} ${createHash("sha256").update(`${name}-token`).digest("hex")} ${right}\n`;
  await writeFile(
    tokensFile,
    line("acme", "alice") + line("acme", "ada", "admin") + line("globex", "gus", "admin"),
  );
  server = await startServer({ tokensFile });
  for (const name of ["alice", "ada", "gus"]) {
    stubs[name] = new Stubs(server.address, { token: `${name}-token` });
  }
});

afterAll(async () => {
  for (const one of Object.values(stubs)) one.close();
  await server.stop();
  await rm(directory, { recursive: true });
});

test("an operator sees who in the tenant did what, and nothing of other tenants", async () => {
  const { alice, ada, gus } = stubs as Record<"alice" | "ada" | "gus", Stubs>;
  const acme = (await alice.call("createSession", { modelId: "m" })).session!.id;
  const globex = (await gus.call("createSession", { modelId: "m" })).session!.id;
  await ada.call("deleteSession", { conversationId: acme });
  expect(await allEvents(ada.channel, {}, "ada-token")).toMatchObject([
    { position: 1n, rpc: "CreateSession", principal: "alice", conversationId: acme },
    { position: 2n, rpc: "DeleteSession", principal: "ada", conversationId: acme },
  ]);
  expect(await allEvents(gus.channel, {}, "gus-token")).toMatchObject([
    { position: 1n, rpc: "CreateSession", principal: "gus", conversationId: globex },
  ]);
  expect(await allEvents(gus.channel, { conversationId: acme }, "gus-token")).toEqual([]);
  expect((await verifyAll(gus.channel, "gus-token")).checked).toBe(1n);
  expect((await verifyAll(ada.channel, "ada-token")).checked).toBe(2n);
});

test.each(["listAuditEvents", "verifyAudit"] as const)(
  "%s is an operator's alone",
  async (name) => {
    const { channel } = stubs.alice!;
    const denied = await failureOf(adminCall(channel, name, {}, "alice-token"));
    expect(denied).toMatchObject({
      code: "PERMISSION_DENIED",
      reason: "PERMISSION_DENIED",
      metadata: { service: "agentstore.v1.AgentStoreAdmin" },
    });
    // Before anything is said about the request.
    const malformed = { pageSize: -1, afterPosition: -1n };
    const same = await failureOf(adminCall(channel, name, malformed as object, "alice-token"));
    expect(same.reason).toBe("PERMISSION_DENIED");
    const unknown = await failureOf(adminCall(channel, name, {}, "no-token"));
    expect(unknown.reason).toBe("UNAUTHENTICATED");
    expect((await failureOf(adminCall(channel, name, {}))).reason).toBe("UNAUTHENTICATED");
  },
);

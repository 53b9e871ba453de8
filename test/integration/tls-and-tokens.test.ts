// TLS and bearer tokens: who gets in, and on whose behalf.
import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AgentStoreClient, UnauthenticatedError } from "../../client/index.js";
import { withTokens } from "../../server/auth/tokens.js";
import { projectRoot } from "../../server/paths.js";
import { startServer, type TestServer } from "../harness/server.js";

const cert = path.join(projectRoot, "test/fixtures/tls/cert.pem");
const key = path.join(projectRoot, "test/fixtures/tls/key.pem");

function sha256(token: string): string {
  return createHash("sha256").update(token).digest("hex");
}

let directory: string;
let tokensFile: string;
let server: TestServer;

beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "agentstore-tokens-"));
  tokensFile = path.join(directory, "tokens");
  await writeFile(
    tokensFile,
    `# two tenants\n\nacme alice ${sha256("alice-token")}\r\nglobex bob ${sha256("bob-token").toUpperCase()}\n`,
  );
  server = await startServer({ tlsCert: cert, tlsKey: key, tokensFile });
});

afterAll(async () => {
  await server.stop();
  await rm(directory, { recursive: true });
});

function connect(token?: string): AgentStoreClient {
  const url = `agentstore://localhost:${server.address.split(":")[1]}?tls=true&ca=${cert}`;
  return new AgentStoreClient({ url, ...(token === undefined ? {} : { token }), timeoutMs: 5_000 });
}

describe("a server with TLS and tokens", () => {
  test("serves a caller whose token it knows, and hides what is another tenant's", async () => {
    const alice = connect("alice-token");
    const bob = connect("bob-token");
    try {
      const session = await alice.createSession("gpt-4");
      await alice.addMessage(session.id, "user", "Hello");
      expect((await alice.getMessages(session.id)).messages).toHaveLength(1);
      await expect(bob.getSession(session.id)).rejects.toMatchObject({
        reason: "SESSION_NOT_FOUND",
      });
      expect((await bob.listSessions("gpt-4")).sessions).toEqual([]);
    } finally {
      alice.close();
      bob.close();
    }
  });

  test.each([
    ["no token", undefined],
    ["an unknown token", "mallory-token"],
    ["the hash in place of the token", sha256("alice-token")],
  ])("refuses %s", async (_, token) => {
    const client = connect(token);
    try {
      await expect(client.createSession("gpt-4")).rejects.toBeInstanceOf(UnauthenticatedError);
    } finally {
      client.close();
    }
  });

  test("does not speak plaintext", async () => {
    const client = new AgentStoreClient({ url: server.url, timeoutMs: 2_000 });
    try {
      await expect(client.createSession("gpt-4")).rejects.toThrow(server.address);
    } finally {
      client.close();
    }
  });
});

describe("a token file", () => {
  test.each([
    ["acme alice", /:1: expected "TENANT PRINCIPAL SHA256"/],
    [`# fine\nacme alice ${"0".repeat(63)}`, /:2: expected/],
    [`acme alice ${"0".repeat(64)} more`, /:1: expected/],
    ["# nothing but a comment", /has no token/],
  ])("that reads %j is refused", async (text, message) => {
    const file = path.join(directory, "bad");
    await writeFile(file, text);
    expect(() => withTokens(file)).toThrow(message);
  });
});

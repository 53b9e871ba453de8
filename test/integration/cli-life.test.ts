// The commands about versions, forks and snapshots.
import { afterAll, beforeAll, expect, it } from "vitest";
import { AgentStoreClient } from "../../client/index.js";
import { startServer, type TestServer } from "../harness/server.js";
import { type Ended, jsonLines, run } from "./cli-run.js";

let server: TestServer;
let store: AgentStoreClient;
let id: string;

beforeAll(async () => {
  server = await startServer();
  store = new AgentStoreClient(server.url);
  const session = await store.createSession("gpt-4");
  id = String(session.id);
  await store.addMessages(session.id, [
    { role: "user", content: "first \u001b[2J" },
    { role: "assistant", content: "second" },
  ]);
  await store.updateMessage(session.id, 1, { content: "corrected" });
});

afterAll(async () => {
  store?.close();
  await server?.stop();
});

const agentstore = (...args: string[]): Promise<Ended> => run(args, { AGENTSTORE_URL: server.url });

it("history lists the versions of a message, newest first", async () => {
  const { code, stdout } = await agentstore("history", id, "1");
  expect(code).toBe(0);
  const lines = stdout.trimEnd().split("\n");
  expect(lines).toHaveLength(3);
  expect(lines[1]).toMatch(/^ +2  updated +anonymous .*corrected$/);
  expect(lines[2]).toMatch(/^ +1  appended +anonymous .*first ␛\[2J$/);
  const json = jsonLines<{ change: string; message: { content: string } }>(
    (await agentstore("history", id, "1", "--json")).stdout,
  );
  expect(json.map(({ change, message }) => [change, message.content])).toEqual([
    ["updated", "corrected"],
    ["appended", "first \u001b[2J"],
  ]);
  const missing = await agentstore("history", id, "9");
  expect(missing.code).toBe(1);
  expect(missing.stderr).toContain("has no message 9");
});

it("fork prints the new session's id", async () => {
  const whole = await agentstore("fork", id);
  expect(whole).toMatchObject({ code: 0, stderr: "" });
  expect((await store.getSession(BigInt(whole.stdout.trim()))).lastSeq).toBe(2n);
  const part = await agentstore("fork", id, "--at", "1", "--json");
  expect(JSON.parse(part.stdout)).toMatchObject({
    lastSeq: "1",
    parent: { conversationId: id, seq: "1" },
  });
  const past = await agentstore("fork", id, "--at", "3");
  expect(past.code).toBe(1);
  expect(past.stderr).toContain("has no message 3");
});

it("snapshots are taken, listed, restored and deleted; show tells what is deleted", async () => {
  expect((await agentstore("snapshots", "list", id)).stdout).toBe(
    `The session ${id} has no snapshot.\n`,
  );
  const taken = (await agentstore("snapshots", "take", id, "--name", "before")).stdout.trim();
  await store.addMessage(BigInt(id), "user", "third");
  const listed = await agentstore("snapshots", "list", id);
  expect(listed.stdout).toMatch(new RegExp(`\\n +${taken}  .* anonymous +2  before\\n$`));
  const fork = (await agentstore("snapshots", "restore", id, taken)).stdout.trim();
  expect(fork).not.toBe(id);
  expect((await store.getSession(BigInt(fork))).lastSeq).toBe(2n);
  const back = await agentstore("snapshots", "restore", id, taken, "--roll-back");
  expect(back.stdout).toBe(`${id}\n`);

  const shown = (await agentstore("show", id)).stdout;
  expect(shown).toContain(" · 2 messages · ");
  expect(shown).not.toContain("third");
  expect((await agentstore("show", id, "--deleted")).stdout).toContain("[3] user (deleted)  ");

  expect((await agentstore("snapshots", "delete", id, taken)).stdout).toBe(
    `Removed the snapshot ${taken}.\n`,
  );
  const gone = await agentstore("snapshots", "restore", id, taken);
  expect(gone.code).toBe(1);
  expect(gone.stderr).toContain(`has no snapshot ${taken}`);
});

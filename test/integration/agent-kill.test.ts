// An agent's process is killed at every step of a dialogue, and another process resumes it: the
// transcript is that of an undisturbed run.
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AgentStoreClient } from "../../client/index.js";
import type { Ended, Orders } from "../harness/agent-child.js";
import { type CompiledProgram, compileProgram } from "../harness/compile.js";
import { startServer, type TestServer } from "../harness/server.js";

const run = promisify(execFile);
const EFFECTS = ["call-1a", "call-1b", "call-2"];
/** How many agents are killed at a time. */
const AT_A_TIME = 3;

type Mode = Orders["interruptedCalls"];

let program: CompiledProgram;
let server: TestServer;
let store: AgentStoreClient;
let directory: string;
let undisturbed: Ended;
let expected: unknown[];

beforeAll(async () => {
  program = await compileProgram("agent-child");
  server = await startServer();
  store = new AgentStoreClient(server.url);
  directory = await mkdtemp(path.join(tmpdir(), "agentstore-agents-"));
  [undisturbed] = (await agents([orders("undisturbed", "pending")])) as [Ended];
  expected = await transcript(undisturbed.conversationId);
});

afterAll(async () => {
  store.close();
  await server.stop();
  await program.remove();
  await rm(directory, { recursive: true, force: true });
});

describe("an undisturbed run", () => {
  it("is kept as it happened", async () => {
    expect(expected).toMatchObject([
      { role: "system" },
      { role: "user" },
      { role: "assistant", toolCalls: [{ id: "call-1a" }, { id: "call-1b" }] },
      { role: "tool", toolCallId: "call-1a" },
      { role: "tool", toolCallId: "call-1b" },
      { role: "assistant", toolCalls: [{ id: "call-2" }] },
      { role: "tool", toolCallId: "call-2" },
      { role: "assistant", content: "After 7 messages: bought 0.1 BTC" },
      { role: "user" },
      { role: "assistant", content: "After 9 messages: Thank you" },
    ]);
    expect(await effects("undisturbed")).toEqual(EFFECTS);
  });

  it("has a step on both sides of each append", () => {
    for (const [kind, count] of Object.entries({ system: 1, user: 2, assistant: 4, tool: 3 })) {
      for (const side of ["before", "after"]) {
        const steps = undisturbed.steps.filter((step) => step === `${side} addMessage ${kind}`);
        expect(steps, `${side} ${kind}`).toHaveLength(count);
      }
    }
  });
});

describe.concurrent("a run that was killed", { timeout: 300_000 }, () => {
  it("at any step, ends as the undisturbed one, each side effect once", async () => {
    await killedAt(undisturbed.steps.keys(), "pending");
  });

  it("while a tool call was open, ends as the undisturbed one with the calls executed", async () => {
    const first = undisturbed.steps.indexOf("before addMessage assistant");
    const last = undisturbed.steps.lastIndexOf("after addMessage tool");
    await killedAt(
      Array.from({ length: last - first + 1 }, (_, index) => first + index),
      "execute",
    );
  });

  it("again and again, ends as the undisturbed one", async () => {
    // Each process comes one step further than would do without any progress.
    let kills = 0;
    for (let killAt = 4; ; killAt++) {
      const [ended] = await agents([orders("hunted", "pending", killAt)]).catch(
        (error: { signal: unknown }) => {
          expect(error).toMatchObject({ signal: "SIGKILL" });
          return [];
        },
      );
      if (ended === undefined) {
        kills++;
        continue;
      }
      expect(kills).toBeGreaterThan(3);
      expect(await transcript(ended.conversationId)).toEqual(expected);
      expect(await effects("hunted")).toEqual(EFFECTS);
      return;
    }
  });
});

/** Kills a run at each of the steps, by their index, and resumes all of them in one process. */
async function killedAt(steps: Iterable<number>, mode: Mode): Promise<void> {
  const names: [name: string, index: number][] = [];
  const waiting = Array.from(steps).values();
  const killer = async (): Promise<void> => {
    for (const index of waiting) {
      const name = `${mode}-${index}`;
      names.push([name, index]);
      const ended = agents([orders(name, mode, index + 1)]);
      await expect(ended, undisturbed.steps[index]).rejects.toMatchObject({ signal: "SIGKILL" });
    }
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, killer));

  const resumed = await agents(names.map(([name]) => orders(name, mode)));
  expect(resumed.length).toBeGreaterThan(10);
  for (const [at, { conversationId }] of resumed.entries()) {
    const [name, index] = names[at]!;
    const killed = `${mode}, killed at ${index}: ${undisturbed.steps[index]}`;
    expect(await transcript(conversationId), killed).toEqual(expected);
    const happened = await effects(name);
    if (mode === "pending") expect(happened, killed).toEqual(EFFECTS);
    else expect([...new Set(happened)], killed).toEqual(EFFECTS);
  }
}

function orders(name: string, interruptedCalls: Mode, killAt = 0): Orders {
  return { url: server.url, name, effects: path.join(directory, name), killAt, interruptedCalls };
}

/** Runs agents in a process of their own. */
async function agents(list: Orders[]): Promise<Ended[]> {
  const { stdout } = await run(process.execPath, [program.path, JSON.stringify(list)]);
  return JSON.parse(stdout) as Ended[];
}

/** The lines of an agent's file of side effects. */
async function effects(name: string): Promise<string[]> {
  const text = await readFile(path.join(directory, name), "utf8");
  return text.split("\n").filter((line) => line !== "");
}

/** What a session says, without what differs between any two sessions. */
async function transcript(conversationId: string): Promise<unknown[]> {
  const { messages } = await store.getMessages(BigInt(conversationId));
  return messages.map(({ seq, role, content, name, toolCalls, toolCallId, metadata, usage }) => ({
    seq,
    role,
    content,
    name,
    toolCalls,
    toolCallId,
    metadata,
    usage,
  }));
}

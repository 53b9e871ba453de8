// `agentstore tail` as a process: what it prints, what it does when the line breaks, how it ends.
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { AgentStoreClient } from "../../client/index.js";
import { startServer, type TestServer } from "../harness/server.js";
import { type Proxy, startProxy } from "../unit/client/proxy.js";
import { type Running, run, start } from "./cli-run.js";

let server: TestServer;
let proxy: Proxy;
let store: AgentStoreClient;
let id: bigint;

beforeAll(async () => {
  server = await startServer();
  proxy = await startProxy(Number(server.address.split(":")[1]));
  store = new AgentStoreClient(server.url);
});

beforeEach(async () => {
  ({ id } = await store.createSession("gpt-4", { title: "Weather\u001b[31m" }));
  await store.addMessages(id, [
    { role: "system", content: "Be brief." },
    { role: "user", content: "Weather in Bern? \u001b[2J" },
    { role: "assistant", toolCalls: [{ id: "call_1", name: "weather", arguments: "{}" }] },
  ]);
  await store.updateMessage(id, 1, { content: "Be very brief." });
});

afterAll(async () => {
  store?.close();
  proxy?.stop();
  await server?.stop();
});

function tail(...args: string[]): Running {
  return start(["tail", ...args], { AGENTSTORE_URL: `agentstore://127.0.0.1:${proxy.port}` });
}

/** Reads lines until one contains a text; returns them all. */
async function until({ lines, ended }: Running, text: string): Promise<string[]> {
  const read: string[] = [];
  for (;;) {
    const { value, done } = await lines.next();
    if (done) throw new Error(`no "${text}": ${JSON.stringify(await ended)}`);
    read.push(value);
    if (value.includes(text)) return read;
  }
}

async function untilStderr({ child, ended }: Running, text: string): Promise<void> {
  let read = "";
  const found = new Promise<void>((resolve) => {
    child.stderr.on("data", (chunk: string) => {
      read += chunk;
      if (read.includes(text)) resolve();
    });
  });
  await Promise.race([found, ended.then((how) => Promise.reject(new Error(JSON.stringify(how))))]);
}

interface Line {
  kind: string;
  conversationId: string;
  revision: string;
  message?: { seq: string; content: string };
  session?: { title: string };
}

describe("agentstore tail ID", () => {
  it("prints the last messages, then what happens, and ends with 0 on Ctrl-C", async () => {
    const running = tail(String(id), "--last", "2");
    const first = await until(running, "weather({})");
    expect(first[0]).toMatch(new RegExp(`^Session ${id} · gpt-4 · 3 messages · created `));
    expect(first).toContain("Weather␛[31m");
    expect(first).toContain("Weather in Bern? ␛[2J");
    expect(first.join("\n")).not.toContain("brief");

    await store.addMessage(id, "tool", "Sunny 🌞", { toolCallId: "call_1", name: "weather" });
    const [, head, content] = await until(running, "Sunny");
    expect(head).toMatch(/^\[4\] tool \(weather\) answers call_1 {2}\d{4}-/);
    expect(content).toBe("Sunny 🌞");

    await store.updateMessage(id, 2, { content: "Weather in Berne?" });
    const changed = await until(running, "Berne");
    expect(changed.at(-2)).toMatch(/^\[2\] user \(changed, version 2\) {2}\d{4}-/);

    await store.deleteMessage(id, 4);
    const [, deleted] = await until(running, "[4]");
    expect(deleted).toMatch(/^\[4\] tool \(weather\) answers call_1 \(deleted\) {2}\d{4}-/);

    await store.updateSession(id, { title: "Sun", tags: ["a", "b"], ownerId: "alice" });
    const [, session] = await until(running, "—");
    expect(session).toBe("— the session is now: gpt-4 · Sun · owner alice · tags a, b");

    running.child.kill("SIGINT");
    const { code, stdout, stderr } = await running.ended;
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).not.toContain("\u001b");
    expect(stdout.match(/Sunny/g)).toHaveLength(1);
  });

  it("prints 10 messages unless it is told how many, none, or all", async () => {
    await store.addMessages(
      id,
      Array.from({ length: 20 }, (_, n) => ({ role: "user" as const, content: `number ${n}` })),
    );
    const seqs = async (...args: string[]): Promise<string[]> => {
      const running = tail(String(id), ...args);
      // What comes first is there; the sign that it is all comes with the next message.
      const sign = `sign ${args.join(" ")}`;
      await until(running, "created");
      const { seq } = await store.addMessage(id, "user", sign);
      const read = await until(running, sign);
      running.child.kill("SIGINT");
      expect((await running.ended).code).toBe(0);
      await store.deleteMessage(id, seq);
      return read.flatMap((line) => /^\[(\d+)\]/.exec(line)?.[1] ?? []);
    };
    const numbers = (from: number, to: number) =>
      Array.from({ length: to - from + 1 }, (_, n) => String(from + n));
    expect(await seqs()).toEqual(numbers(14, 24));
    expect(await seqs("--last", "0")).toEqual(["25"]);
    expect(await seqs("--from-start")).toEqual([...numbers(1, 23), "26"]);
  });

  it("writes a JSON line for each event, and ends when the session is deleted", async () => {
    const running = tail(String(id), "--json", "--from-start");
    const lines: Line[] = [];
    const read = async (kind: string): Promise<void> => {
      const texts = await until(running, `"kind":"${kind}"`);
      lines.push(...texts.map((text) => JSON.parse(text) as Line));
    };
    await read("caught_up");
    await store.addMessage(id, "user", "one");
    await read("message_appended");
    await store.updateSession(id, { title: "Sun" });
    await read("session_changed");
    await store.deleteMessage(id, 4);
    await read("message_deleted");
    await store.deleteSession(id);
    await read("session_deleted");
    const { code, stderr } = await running.ended;
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(
      lines.map(({ kind, revision, message }) => [kind, revision, message?.seq, message?.content]),
    ).toEqual([
      ["message_appended", "5", "1", "Be very brief."],
      ["message_appended", "3", "2", "Weather in Bern? \u001b[2J"],
      ["message_appended", "4", "3", ""],
      ["caught_up", "5", undefined, undefined],
      ["message_appended", "6", "4", "one"],
      ["session_changed", "7", undefined, undefined],
      ["message_deleted", "8", "4", "one"],
      ["session_deleted", "9", undefined, undefined],
    ]);
    expect(lines.find(({ session }) => session)?.session?.title).toBe("Sun");
    expect(lines.every(({ conversationId }) => conversationId === String(id))).toBe(true);
  });

  it("says on stderr that the connection was lost and is back, and leaves nothing out", async () => {
    const running = tail(String(id), "--json", "--last", "0");
    await until(running, "caught_up");
    const back = untilStderr(running, "connected again");
    proxy.losingAnswers = true;
    await store.addMessage(id, "user", "said meanwhile");
    proxy.cut();
    proxy.losingAnswers = false;
    await until(running, "said meanwhile");
    await back;
    await store.addMessage(id, "user", "said later");
    const later = await until(running, "said later");
    running.child.kill("SIGTERM");
    const { code, stdout, stderr } = await running.ended;
    expect(code).toBe(0);
    expect(later.filter((line) => !line.includes("caught_up"))).toHaveLength(1);
    expect(stdout).not.toContain("interrupted");
    expect(stderr).toMatch(
      /^the connection was lost, trying again: .*\nconnected again, going on where it broke off\n$/,
    );
  });

  it("says what is wrong", async () => {
    const env = { AGENTSTORE_URL: server.url };
    const missing = await run(["tail", "4000000000"], env);
    expect(missing).toMatchObject({ code: 1, stdout: "" });
    expect(missing.stderr).toContain("session 4000000000 is not there");
    const away = await run(["tail", "1"], { AGENTSTORE_URL: "agentstore://127.0.0.1:1" });
    expect(away.code).toBe(1);
    expect(away.stderr).toContain("no server can be reached");
    for (const args of [
      ["1", "--model", "gpt-4"],
      ["1", "--tag", "a"],
      ["1", "--last", "5", "--from-start"],
      ["1", "--last", "-1"],
      ["--last", "5"],
      ["--model", ""],
      ["one"],
    ]) {
      const { code, stdout } = await run(["tail", ...args], env);
      expect([args, code, stdout]).toEqual([args, 2, ""]);
    }
    const help = await run(["tail", "--help"]);
    expect(help).toMatchObject({ code: 0, stderr: "" });
    expect(help.stdout).toContain("agentstore tail 42 --last 100");
  });
});

describe("agentstore tail", () => {
  it("follows the sessions that are asked for, and says which one it is", async () => {
    const labels = { ownerId: "tail", tags: ["a", "b"] };
    const chosen = await store.createSession("gpt-4", labels);
    const other = await store.createSession("gpt-4", { ...labels, tags: ["a"] });
    const running = tail("--owner", "tail", "--tag", "b", "--model", "gpt-4");
    const json = tail("--owner", "tail", "--tag", "b", "--json", "--from-start");
    await until(json, "caught_up");
    // Without a sign that it has begun: what it tells first is some message, and none after is missing.
    let said = 0;
    let begun = false;
    const saying = (async () => {
      while (!begun) {
        await store.addMessage(other.id, "user", "not this one");
        await store.addMessage(chosen.id, "user", `number ${++said}`);
      }
      await store.addMessage(chosen.id, "user", "the end");
    })();
    const first = await until(running, "number");
    begun = true;
    await saying;
    const text = [...first, ...(await until(running, "the end"))].join("\n");
    const told = [...text.matchAll(/number (\d+)/g)].map(([, number]) => Number(number));
    expect(told).toEqual(Array.from({ length: told.length }, (_, n) => said - told.length + 1 + n));
    expect(text).toMatch(new RegExp(`^${chosen.id} \\[\\d+\\] user  `, "m"));
    expect(text).not.toContain("not this one");
    const lines = (await until(json, "the end")).map((line) => JSON.parse(line) as Line);
    expect(lines.filter(({ message }) => message)).toHaveLength(said + 1);
    expect(new Set(lines.map(({ conversationId }) => conversationId))).toEqual(
      new Set([String(chosen.id)]),
    );
    for (const { child, ended } of [running, json]) {
      child.kill("SIGINT");
      expect((await ended).code).toBe(0);
    }
  });
});

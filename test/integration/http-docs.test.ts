// docs/http.md is true: its calls are made, in their order, and answer what it shows.
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { runInNewContext } from "node:vm";
import { afterAll, beforeAll, expect, test } from "vitest";
import { WebSocket } from "ws";
import { limits } from "../../server/config.js";
import { startServer, type TestServer } from "../harness/server.js";

const page = await readFile(path.resolve(import.meta.dirname, "../../docs/http.md"), "utf8");
const blocks = [...page.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)];
const inSh = blocks.flatMap(([, language, text = ""]) => (language === "sh" ? [text] : []));

let server: TestServer;

beforeAll(async () => {
  server = await startServer({ httpPort: 0 });
});

afterAll(() => server.stop());

async function shell(script: string): Promise<string> {
  const here = script.replaceAll("http://127.0.0.1:50052", server.httpUrl);
  expect(here).not.toBe(script);
  return (await promisify(execFile)("bash", ["-euc", here])).stdout;
}

test("the calls answer", async () => {
  const [writes, reads, ...rest] = inSh;
  const [created, added] = (await shell(writes!)).split(/(?<=\})(?=\{"message")/);
  expect(JSON.parse(created!)).toMatchObject({ session: { id: "1", title: "Over HTTP" } });
  expect(JSON.parse(added!)).toMatchObject({ message: { seq: "1", content: "Hello" } });
  expect(JSON.parse(await shell(reads!))).toMatchObject({ messages: [{ content: "Hello" }] });
  expect(rest).toHaveLength(1);
});

test("the limits are those that the server has", () => {
  const mib = 1024 * 1024;
  for (const text of [
    `${limits.requestBytes / mib} MiB a request`,
    `${limits.callMs / 1000} s at the most`,
    `more than ${limits.socketFrameBytes / mib} MiB closes it`,
    `every ${limits.socketPingMs / 1000} seconds`,
    `after ${limits.socketStartMs / 1000} seconds`,
    `${limits.webSockets.toLocaleString("en")} sockets a process`,
  ]) {
    expect(page.replaceAll("\n", " ")).toContain(text);
  }
});

/** Runs a script of the page until it has written so many lines, and then ends its sockets. */
async function inBrowser(source: string, count: number): Promise<string[]> {
  const here = source.replace("ws://127.0.0.1:50052", server.httpUrl.replace("http", "ws"));
  expect(here).not.toBe(source);
  const sockets: WebSocket[] = [];
  class PageSocket extends WebSocket {
    constructor(url: string) {
      super(url);
      sockets.push(this);
    }
  }
  const lines = await new Promise<string[]>((resolve) => {
    const read: string[] = [];
    const log = (...words: unknown[]) => {
      if (read.push(words.join(" ")) === count) resolve(read);
    };
    runInNewContext(here, { WebSocket: PageSocket, console: { log }, setTimeout: () => {} });
  });
  for (const socket of sockets) socket.terminate();
  return lines;
}

test("the streams are read", async () => {
  const [messages, watch] = blocks.flatMap(([, language, text = ""]) =>
    language === "js" ? [text] : [],
  );
  expect(await inBrowser(messages!, 2)).toEqual(["1 Hello", "that is all"]);
  expect(await inBrowser(watch!, 1)).toEqual(["Hello"]);
});

test("the error is the one that is shown", async () => {
  const shown = blocks.find(([, language]) => language === "json")?.[2];
  expect(JSON.parse(await shell(inSh.at(-1)!))).toEqual(JSON.parse(shown!));
});

// Tools of real Model Context Protocol servers: a process spoken to over stdio, and one over HTTP.
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer, type Server as HttpServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { type Tool, ToolExecutor } from "../../client/agent/index.js";
import { connectMcp, type McpConnection } from "../../client/agent/mcp.js";
import { projectRoot } from "../../server/paths.js";
import { type CompiledProgram, compileProgram } from "../harness/compile.js";
import { makeServer } from "../harness/mcp-server.js";
import { calling, scripted } from "../unit/client/agent/scripted.js";

const NAMES = ["echo", "refuse", "show", "measure", "both", "environment", "hang", "die"];

let directory: string;
let program: CompiledProgram;
beforeAll(async () => {
  program = await compileProgram("mcp-server");
  directory = await mkdtemp(path.join(tmpdir(), "agentstore-mcp-"));
});
afterAll(async () => {
  await program.remove();
  await rm(directory, { recursive: true, force: true });
});

const connections: McpConnection[] = [];
const servers: HttpServer[] = [];
afterEach(async () => {
  await Promise.all(connections.splice(0).map((connection) => connection.close()));
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

async function connected(server: Parameters<typeof connectMcp>[0]): Promise<McpConnection> {
  const connection = await connectMcp(server);
  connections.push(connection);
  return connection;
}

async function overStdio(env?: Record<string, string>): Promise<McpConnection> {
  return connected({ command: process.execPath, args: [program.path], env });
}

/** Serves over HTTP; returns where, and the headers that came. */
async function httpServer(): Promise<{ url: string; headers: unknown[]; server: HttpServer }> {
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: () => "session-1" });
  await makeServer().connect(transport);
  const headers: unknown[] = [];
  const server = createServer((request, response) => {
    headers.push(`${request.method} ${String(request.headers["x-key"])}`);
    void transport.handleRequest(request, response);
  });
  servers.push(server);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`, headers, server };
}

async function overHttp(): Promise<McpConnection> {
  const { url } = await httpServer();
  return connected({ url });
}

/** Has a model call the tools, and returns what it was told. */
async function told(
  tools: Tool[],
  calls: [name: string, args?: object][],
  options: { toolTimeoutMs?: number; signal?: AbortSignal } = {},
) {
  const named = calls.map(([name, args], index): [string, string, string] => [
    `c${index}`,
    name,
    JSON.stringify(args ?? {}),
  ]);
  const { chat } = scripted(calling(...named), "Done");
  const { signal, ...limits } = options;
  const { executions } = await new ToolExecutor({ chat, tools, ...limits }).run([], { signal });
  return executions.map(({ outcome, content }) => [outcome, content]);
}

/** Waits until a line stands in a file that a tool writes. */
async function line(file: string, text: string): Promise<void> {
  await expect.poll(() => readFile(file, "utf8").catch(() => "")).toContain(text);
}

describe.each<[string, () => Promise<McpConnection>]>([
  ["stdio", overStdio],
  ["HTTP", overHttp],
])("over %s", (kind, connect) => {
  it("lists all pages of tools, with their schemas", async () => {
    const { tools } = await connect();
    expect(tools.map(({ name }) => name)).toEqual(NAMES);
    expect(tools[0]).toMatchObject({
      description: "The tool echo",
      inputSchema: { type: "object" },
    });
  });

  it("calls them, side by side, and renders what they return as text", async () => {
    const { tools } = await connect();
    expect(
      await told(tools, [
        ["echo", { a: [1, "zwei"] }],
        ["show"],
        ["measure"],
        ["both"],
        ["refuse"],
      ]),
    ).toEqual([
      ["succeeded", '{"a":[1,"zwei"]}'],
      [
        "succeeded",
        "Look:\n[image: image/png, 5 bytes]\n[audio: audio/wav, 5 bytes]\n" +
          "[resource: notes, file:///notes.txt]\nthe notes\n" +
          "[resource: file:///b.bin, unknown type, 5 bytes]",
      ],
      ["succeeded", '{"celsius":21.5}'],
      ["succeeded", "21.5 degrees"],
      ["failed", "Error: the tool failed: no such coin"],
    ]);
  });

  it("passes a timeout on as a cancellation, and goes on", async () => {
    const { tools } = await connect();
    const file = path.join(directory, `timeout-${kind}`);
    const [[outcome] = []] = await told(tools, [["hang", { file }]], { toolTimeoutMs: 200 });
    expect(outcome).toBe("timed_out");
    await line(file, "cancelled");
    expect(await told(tools, [["echo"]])).toEqual([["succeeded", "{}"]]);
  });

  it("passes an abort on as a cancellation", async () => {
    const { tools } = await connect();
    const file = path.join(directory, `abort-${kind}`);
    const controller = new AbortController();
    const telling = told(tools, [["hang", { file }]], { signal: controller.signal });
    await line(file, "begun");
    controller.abort();
    expect(await telling).toEqual([]);
    await line(file, "cancelled");
  });

  it("fails calls after it was closed", async () => {
    const connection = await connect();
    await connection.close();
    const [[outcome] = []] = await told(connection.tools, [["echo"]]);
    expect(outcome).toBe("failed");
  });
});

describe("a server that goes away in the middle of a call", () => {
  it("is a failed call, and so are later ones: stdio", async () => {
    const { tools } = await overStdio();
    const file = path.join(directory, "died");
    const [hung, died] = await told(tools, [["hang", { file }], ["die"]]);
    expect(hung).toEqual(["failed", expect.stringContaining("Connection closed")]);
    expect(died).toEqual(["failed", expect.stringContaining("Connection closed")]);
    expect(await told(tools, [["echo"]])).toEqual([["failed", expect.stringMatching(/./)]]);
  });

  it("is a failed call, and so are later ones: HTTP", async () => {
    const { url, server } = await httpServer();
    const { tools } = await connected({ url });
    const file = path.join(directory, "gone");
    const telling = told(tools, [["hang", { file }]]);
    await line(file, "begun");
    server.close();
    server.closeAllConnections();
    expect(await telling).toEqual([
      ["failed", expect.stringContaining("the connection to its server was lost")],
    ]);
    expect(await told(tools, [["echo"]])).toEqual([["failed", expect.stringMatching(/./)]]);
  });
});

describe("connecting", () => {
  it("gives a process its variables and few others", async () => {
    process.env["SECRET_OF_THIS_PROCESS"] = "x";
    const { tools } = await overStdio({ COIN: "BTC" });
    const [[, content = ""] = []] = await told(tools, [["environment"]]);
    const names = JSON.parse(content) as string[];
    expect(names).toContain("COIN");
    expect(names).not.toContain("SECRET_OF_THIS_PROCESS");
  });

  it("sends the headers with every request, and ends the session", async () => {
    const { url, headers } = await httpServer();
    const connection = await connectMcp({ url, headers: { "x-key": "k" } });
    await told(connection.tools, [["echo"]]);
    await connection.close();
    expect(new Set(headers)).toEqual(new Set(["POST k", "GET k", "DELETE k"]));
  });

  it("fails with what the process wrote to stderr", async () => {
    const script = "console.error('no coin today'); process.exit(3)";
    await expect(connectMcp({ command: process.execPath, args: ["-e", script] })).rejects.toThrow(
      /no tools from the MCP server .*: .*; it wrote: no coin today/,
    );
  });

  it.each([
    ["a program that is not there", { command: "/nowhere/at/all" }],
    ["a port where nobody listens", { url: "http://127.0.0.1:1/mcp" }],
  ])("fails: %s", async (_what, server) => {
    await expect(connectMcp(server)).rejects.toThrow(/no tools from the MCP server/);
  });

  it("to two servers with tools of the same name is a clear error, until one is renamed", async () => {
    const [one, other] = await Promise.all([overStdio(), overHttp()]);
    const { chat } = scripted();
    const tools = [...one.tools, ...other.tools];
    expect(() => new ToolExecutor({ chat, tools })).toThrow('two tools are named "echo"');
    const renamed = other.tools.map((tool) => ({ ...tool, name: `other_${tool.name}` }));
    expect(await told([...one.tools, ...renamed], [["other_echo", { a: 1 }]])).toEqual([
      ["succeeded", '{"a":1}'],
    ]);
  });

  it("to a server without tools brings none", async () => {
    const script = `
      import { Server } from "@modelcontextprotocol/sdk/server/index.js";
      import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js";
      const server = new Server({ name: "bare", version: "1" }, { capabilities: {} });
      await server.connect(new StdioServerTransport());`;
    const { tools } = await connected({
      command: process.execPath,
      args: ["--input-type=module", "-e", script],
      cwd: projectRoot,
    });
    expect(tools).toEqual([]);
  });
});

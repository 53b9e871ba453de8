// A Model Context Protocol server for tests, out of the official SDK, with tools that go well and
// badly. Run as a program it speaks over stdio.
import { appendFileSync } from "node:fs";
import { Server } from "@modelcontextprotocol/sdk/server/index.js";
import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js";
import {
  CallToolRequestSchema,
  type CallToolResult,
  ListToolsRequestSchema,
} from "@modelcontextprotocol/sdk/types.js";

const PIXEL = Buffer.from("pixel").toString("base64");

type Call = (
  args: Record<string, unknown>,
  extra: { signal: AbortSignal },
) => CallToolResult | Promise<CallToolResult>;

/** What each tool does with its arguments and with what the SDK says of the call. */
const TOOLS = new Map<string, Call>([
  ["echo", (args) => text(JSON.stringify(args))],
  ["refuse", () => ({ ...text("no such coin"), isError: true })],
  [
    "show",
    () => ({
      content: [
        { type: "text", text: "Look:" },
        { type: "image", data: PIXEL, mimeType: "image/png" },
        { type: "audio", data: PIXEL, mimeType: "audio/wav" },
        { type: "resource_link", name: "notes", uri: "file:///notes.txt" },
        { type: "resource", resource: { uri: "file:///a.txt", text: "the notes" } },
        { type: "resource", resource: { uri: "file:///b.bin", blob: PIXEL } },
      ],
    }),
  ],
  ["measure", () => ({ content: [], structuredContent: { celsius: 21.5 } })],
  ["both", () => ({ ...text("21.5 degrees"), structuredContent: { celsius: 21.5 } })],
  ["environment", () => text(JSON.stringify(Object.keys(process.env).sort()))],
  // Writes to the file named in its arguments when it has begun, and when it was cancelled.
  [
    "hang",
    ({ file }, { signal }) =>
      new Promise(() => {
        signal.addEventListener("abort", () => appendFileSync(String(file), "cancelled\n"));
        appendFileSync(String(file), "begun\n");
      }),
  ],
  ["die", () => process.exit(1)],
]);

function text(content: string): CallToolResult {
  return { content: [{ type: "text", text: content }] };
}

/** Makes a server whose list of tools comes in pages of two. */
export function makeServer(): Server {
  const names = [...TOOLS.keys()];
  const server = new Server({ name: "test", version: "1" }, { capabilities: { tools: {} } });
  server.setRequestHandler(ListToolsRequestSchema, ({ params }) => {
    const from = Number(params?.cursor ?? 0);
    const next = from + 2;
    return {
      tools: names.slice(from, next).map((name) => ({
        name,
        description: `The tool ${name}`,
        inputSchema: { type: "object" },
        // Checked by nobody: what a server returns is told to the model as it is.
        ...(name === "echo" ? { outputSchema: { type: "object", required: ["x"] } } : {}),
      })),
      ...(next < names.length ? { nextCursor: String(next) } : {}),
    };
  });
  server.setRequestHandler(CallToolRequestSchema, ({ params }, extra) => {
    const call = TOOLS.get(params.name);
    if (call === undefined) throw new Error(`no tool ${params.name}`);
    return call(params.arguments ?? {}, extra);
  });
  return server;
}

if (import.meta.url === `file://${process.argv[1]}`) {
  await makeServer().connect(new StdioServerTransport());
}

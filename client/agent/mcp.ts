// Tools of Model Context Protocol servers, over stdio and over streamable HTTP.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import {
  CallToolResultSchema,
  ListToolsResultSchema,
  type Tool as McpTool,
} from "@modelcontextprotocol/sdk/types.js";
import { readableResult } from "./mcp-result.js";
import type { Tool, ToolContext } from "./tools.js";

/** A server that is started as a child process and spoken to over its stdin and stdout. */
export interface McpCommand {
  /** The program. */
  command: string;
  args?: readonly string[] | undefined;
  /** Variables for its environment, beside a few harmless ones such as PATH and HOME. */
  env?: Readonly<Record<string, string>> | undefined;
  /** The directory that it runs in. Default: this process's. */
  cwd?: string | undefined;
}

/** A server that is reached over streamable HTTP. */
export interface McpUrl {
  /** The server's endpoint, for example `https://example.com/mcp`. */
  url: string;
  /** Headers of every request, for example its authorization. */
  headers?: Readonly<Record<string, string>> | undefined;
}

/** A connection to a server. */
export interface McpConnection {
  /** The server's tools, as they were when it was connected to. */
  tools: Tool[];
  /** Ends the connection, and the server's process if it was started. */
  close(): Promise<void>;
}

/** Calls are bounded by whoever makes them; this is the longest that a timer takes. */
const NO_TIMEOUT_MS = 2 ** 31 - 1;
const CONNECT_MS = 30_000;
const PING_MS = 5_000;
const MAX_PAGES = 1_000;
const STDERR_KEPT = 2_000;

/**
 * Connects to a server and lists its tools. A server that goes away is not reconnected to: calls
 * under way and later ones fail, which the model is told.
 *
 * @throws Error when the server does not start, is not reached within 30 s, or does not speak the
 *   protocol; what it last wrote to stderr is part of the message
 */
export async function connectMcp(server: McpCommand | McpUrl): Promise<McpConnection> {
  const transport = "url" in server ? httpTransport(server) : stdioTransport(server);
  const stderr = keepStderr(transport);
  const client = new Client({ name: "agentstore", version: "0.1.0" });
  const lost = new Losses(client, transport);
  const close = async (): Promise<void> => {
    if (transport instanceof StreamableHTTPClientTransport) {
      // A server may well not know how to end its side; it then forgets about us by itself.
      await transport.terminateSession().catch(() => {});
    }
    await client.close();
  };
  try {
    await client.connect(transport, { timeout: CONNECT_MS });
    const listed = await listTools(client);
    return { tools: listed.map((tool) => asTool(tool, client, lost)), close };
  } catch (error) {
    await close();
    const name = "url" in server ? server.url : server.command;
    const said = stderr() === "" ? "" : `; it wrote: ${stderr()}`;
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`no tools from the MCP server ${name}: ${reason}${said}`, { cause: error });
  }
}

type AnyTransport = StdioClientTransport | StreamableHTTPClientTransport;

function httpTransport({ url, headers }: McpUrl): StreamableHTTPClientTransport {
  return new StreamableHTTPClientTransport(new URL(url), {
    requestInit: { headers: { ...headers } },
  });
}

function stdioTransport({ command, args, env, cwd }: McpCommand): StdioClientTransport {
  return new StdioClientTransport({
    command,
    args: [...(args ?? [])],
    env: { ...env },
    ...(cwd === undefined ? {} : { cwd }),
    stderr: "pipe",
  });
}

/** Keeps the end of what the server writes to stderr, for the error when it does not start. */
function keepStderr(transport: AnyTransport): () => string {
  let kept = "";
  if (transport instanceof StdioClientTransport) {
    transport.stderr?.on("data", (chunk: Buffer) => {
      kept = (kept + chunk.toString()).slice(-STDERR_KEPT);
    });
  }
  return () => kept.trim();
}

/** Asks for all pages of the list of tools, without the checks of results that the SDK adds. */
async function listTools(client: Client): Promise<McpTool[]> {
  if (!client.getServerCapabilities()?.tools) return [];
  const tools: McpTool[] = [];
  let cursor: string | undefined;
  for (let page = 0; page < MAX_PAGES; page++) {
    const params = cursor === undefined ? {} : { cursor };
    const answer = await client.request({ method: "tools/list", params }, ListToolsResultSchema, {
      timeout: CONNECT_MS,
    });
    tools.push(...answer.tools);
    cursor = answer.nextCursor;
    if (!cursor) return tools;
  }
  throw new Error(`its list of tools has more than ${MAX_PAGES} pages`);
}

function asTool(tool: McpTool, client: Client, losses: Losses): Tool {
  return {
    name: tool.name,
    description: tool.description,
    inputSchema: tool.inputSchema,
    async call(args: Record<string, unknown>, { signal }: ToolContext): Promise<string> {
      const call = client.request(
        { method: "tools/call", params: { name: tool.name, arguments: args } },
        CallToolResultSchema,
        { signal, timeout: NO_TIMEOUT_MS },
      );
      const result = await losses.orLost(call);
      const text = readableResult(result);
      if (result.isError) throw new Error(text);
      return text;
    },
  };
}

/**
 * Notices that a server is gone while it owes an answer. Over stdio the SDK does; over HTTP a
 * response that breaks off is reported as one error among others, and the call waits on. So after
 * an error the server is asked whether it is there.
 */
class Losses {
  readonly #client: Client;
  readonly #waiting = new Set<(error: Error) => void>();
  #asking = false;

  constructor(client: Client, transport: AnyTransport) {
    this.#client = client;
    if (transport instanceof StreamableHTTPClientTransport) {
      client.onerror = (error) => void this.#check(error);
    }
  }

  /** Waits for a call; throws when the server turns out to be gone. */
  async orLost<T>(call: Promise<T>): Promise<T> {
    let lost = (_error: Error): void => {};
    const loss = new Promise<never>((_resolve, reject) => {
      lost = reject;
      this.#waiting.add(lost);
    });
    try {
      return await Promise.race([call, loss]);
    } finally {
      this.#waiting.delete(lost);
    }
  }

  async #check(error: Error): Promise<void> {
    if (this.#asking || this.#waiting.size === 0) return;
    this.#asking = true;
    try {
      await this.#client.ping({ timeout: PING_MS });
    } catch {
      const message = `the connection to its server was lost: ${error.message}`;
      for (const lost of this.#waiting) lost(new Error(message));
    } finally {
      this.#asking = false;
    }
  }
}

// A server for tests that speaks the chat completions protocol, well or badly as a test wants it.
import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** A request that came in. */
export interface Asked {
  path: string;
  headers: IncomingHttpHeaders;
  body: Record<string, unknown>;
}

/** Answers one request. */
export type Answer = (response: ServerResponse, asked: Asked) => void | Promise<void>;

/** Starts a server that gives the answers one after another. */
export async function completionsServer(...answers: Answer[]): Promise<{
  baseURL: string;
  asked: Asked[];
  close: () => Promise<void>;
}> {
  const asked: Asked[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const body = JSON.parse(Buffer.concat(chunks).toString()) as Record<string, unknown>;
      const one = { path: request.url ?? "", headers: request.headers, body };
      const answer = answers[asked.length];
      asked.push(one);
      if (answer === undefined) response.writeHead(404).end();
      else void answer(response, one);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    baseURL: `http://127.0.0.1:${port}/v1`,
    asked,
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

/** The text of a stream of chunks; each is an event. */
export function events(...chunks: (object | string)[]): string {
  return chunks
    .map((chunk) => (typeof chunk === "string" ? chunk : JSON.stringify(chunk)))
    .map((data) => `data: ${data}\n\n`)
    .join("");
}

/** A chunk with a part of the answer. */
export function delta(part: object, finish_reason: string | null = null): object {
  return {
    id: "chatcmpl-1",
    object: "chat.completion.chunk",
    created: 1,
    model: "m",
    choices: [{ index: 0, delta: part, finish_reason }],
  };
}

/** Begins a stream. */
export function begin(response: ServerResponse): ServerResponse {
  return response.writeHead(200, { "content-type": "text/event-stream" });
}

/** Answers with a whole stream. */
export function stream(...chunks: (object | string)[]): Answer {
  return (response) => void begin(response).end(events(...chunks));
}

/** Answers with JSON. */
export function json(status: number, body: object, headers: Record<string, string> = {}): Answer {
  return (response) =>
    void response
      .writeHead(status, { "content-type": "application/json", ...headers })
      .end(JSON.stringify(body));
}

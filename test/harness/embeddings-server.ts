// An OpenAI-compatible embeddings endpoint for tests, which behaves or misbehaves as it is told. Its
// vectors stand for a few things that texts may be about, whatever words and language they use.
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

const THINGS = [
  ["refund", "money back", "reimburse", "退款", "退钱"],
  ["flight", "plane", "airline", "航班", "飞机"],
  ["cat", "kitten", "猫"],
  ["deadlock", "blocked forever", "死锁"],
  ["bread", "loaf", "面包"],
];

/** How many numbers its vectors have. */
export const DIMENSIONS = THINGS.length + 2;

/** The direction of a text: which things it is about, and a little of nothing in particular. */
export function meaningOf(text: string): number[] {
  const lower = text.toLowerCase();
  const about = THINGS.map((words) => (words.some((word) => lower.includes(word)) ? 1 : 0));
  return [...about, 0.1, (text.length % 7) / 100];
}

/** What it was asked. */
export interface EmbeddingsRequest {
  model: string;
  input: string[];
  dimensions?: number;
  headers: IncomingMessage["headers"];
}

/** Answers a request; returns false to leave it to the ordinary answer. */
export type Behaviour = (
  request: EmbeddingsRequest,
  response: ServerResponse,
) => boolean | Promise<boolean>;

/** The ordinary answer to a request. */
export function answerTo({ model, input }: Pick<EmbeddingsRequest, "model" | "input">) {
  return {
    object: "list",
    model,
    data: input.map((text, index) => ({
      object: "embedding",
      index,
      embedding: meaningOf(text),
    })),
    usage: { prompt_tokens: 1, total_tokens: 1 },
  };
}

/** The endpoint. */
export class EmbeddingsServer {
  /** All requests that have come whole, in their order. */
  readonly requests: EmbeddingsRequest[] = [];
  /** What it does before it answers; nothing: it answers. */
  behaviour: Behaviour | undefined;
  readonly #server = createServer((request, response) => {
    this.#answer(request, response).catch(() => response.destroy());
  });

  /** Starts one on a free port. */
  static async start(): Promise<EmbeddingsServer> {
    const server = new EmbeddingsServer();
    server.#server.listen(0, "127.0.0.1");
    await once(server.#server, "listening");
    return server;
  }

  /** For --embeddings-url. */
  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/v1`;
  }

  /** All texts that it was asked to embed. */
  get texts(): string[] {
    return this.requests.flatMap(({ input }) => input);
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const pieces: Buffer[] = [];
    for await (const piece of request) pieces.push(piece as Buffer);
    const body = JSON.parse(Buffer.concat(pieces).toString()) as Omit<EmbeddingsRequest, "headers">;
    const asked = { ...body, headers: request.headers };
    this.requests.push(asked);
    if (request.url !== "/v1/embeddings") response.writeHead(404).end();
    else if (!(await this.behaviour?.(asked, response))) json(response, answerTo(asked));
  }
}

/** Answers JSON. */
export function json(response: ServerResponse, value: unknown, status = 200): void {
  const headers = { "content-type": "application/json" };
  response.writeHead(status, headers).end(JSON.stringify(value));
}

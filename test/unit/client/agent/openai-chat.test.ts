// Tests the chat function for OpenAI against a server that speaks its protocol.
import OpenAI, { APIConnectionError, APIConnectionTimeoutError, RateLimitError } from "openai";
import { afterAll, afterEach, describe, expect, it, vi } from "vitest";
import type { ChatReply, ChatRequest } from "../../../../client/agent/index.js";
import { type OpenAiChatOptions, openAiChat } from "../../../../client/agent/openai.js";
import {
  type Answer,
  begin,
  completionsServer,
  delta,
  events,
  json,
  stream,
} from "./completions-server.js";
import { gate } from "./scripted.js";

// The package keeps the console's functions from its first use on.
const shown = vi.spyOn(console, "error").mockImplementation(() => {});
afterAll(() => shown.mockRestore());

const closes: (() => Promise<void>)[] = [];
afterEach(async () => {
  await Promise.all(closes.splice(0).map((close) => close()));
  vi.unstubAllEnvs();
});

const USAGE = {
  prompt_tokens: 12,
  completion_tokens: 5,
  total_tokens: 17,
  prompt_tokens_details: { cached_tokens: 8 },
  completion_tokens_details: { reasoning_tokens: 3 },
};
const NEW_USAGE = { inputTokens: 12, outputTokens: 5, cachedTokens: 8, reasoningTokens: 3 };
const TOOL = {
  type: "function" as const,
  function: { name: "add", parameters: { type: "object" } },
};

/** Asks a server that answers so. */
async function ask(
  answers: Answer[],
  request: Partial<ChatRequest> = {},
  options: Partial<OpenAiChatOptions> = {},
) {
  const server = await completionsServer(...answers);
  closes.push(server.close);
  const chat = openAiChat({ model: "m", apiKey: "k", baseURL: server.baseURL, ...options });
  const replying = chat({
    messages: [{ role: "user", content: "Hello" }],
    tools: [],
    signal: new AbortController().signal,
    ...request,
  });
  // Looked at by each test in its own time.
  replying.catch(() => {});
  return { ...server, replying };
}

async function failure(replying: Promise<ChatReply>): Promise<unknown> {
  return replying.then(
    (reply) => expect.unreachable(`it replied ${JSON.stringify(reply)}`),
    (error: unknown) => error,
  );
}

describe("a streamed answer", () => {
  it("arrives in parts, with its usage", async () => {
    let text = "";
    const { replying, asked } = await ask(
      [
        stream(
          delta({ role: "assistant", content: "" }),
          delta({ content: "Hel" }),
          delta({ content: "lo 𝄞" }),
          delta({}, "stop"),
          { choices: [], usage: USAGE },
          "[DONE]",
        ),
      ],
      { onText: (part) => (text += part), tools: [TOOL] },
      { parameters: { temperature: 0 } },
    );
    expect(await replying).toEqual({
      message: { role: "assistant", content: "Hello 𝄞" },
      usage: NEW_USAGE,
    });
    expect(text).toBe("Hello 𝄞");
    expect(asked).toHaveLength(1);
    expect(asked[0]).toMatchObject({ path: "/v1/chat/completions" });
    expect(asked[0]?.headers.authorization).toBe("Bearer k");
    expect(asked[0]?.body).toEqual({
      model: "m",
      messages: [{ role: "user", content: "Hello" }],
      tools: [TOOL],
      temperature: 0,
      stream: true,
      stream_options: { include_usage: true },
    });
  });

  it("is put together from a slow drip that cuts characters and events anywhere", async () => {
    const bytes = Buffer.from(
      events(
        delta({ content: "Zoë 𝄞" }),
        ": a comment",
        delta({ content: "!" }, "stop"),
        "[DONE]",
      ).replace("data: : a comment", ": a comment"),
    );
    const { replying } = await ask([
      async (response) => {
        begin(response);
        for (const byte of bytes) {
          response.write(Buffer.from([byte]));
          await new Promise(setImmediate);
        }
        response.end();
      },
    ]);
    expect(await replying).toEqual({ message: { role: "assistant", content: "Zoë 𝄞!" } });
  });

  it("has its tool calls put together", async () => {
    const part = (index: number, rest: object) => delta({ tool_calls: [{ index, ...rest }] });
    const { replying } = await ask([
      stream(
        delta({ role: "assistant", content: null }),
        part(0, { id: "c1", type: "function", function: { name: "add", arguments: "" } }),
        part(0, { function: { arguments: '{"a"' } }),
        part(1, { id: "c2", type: "function", function: { name: "sub", arguments: "{" } }),
        part(0, { function: { arguments: ":1}" } }),
        part(1, { function: { arguments: "}" } }),
        delta({}, "tool_calls"),
        "[DONE]",
      ),
    ]);
    expect((await replying).message).toEqual({
      role: "assistant",
      content: null,
      tool_calls: [
        { id: "c1", type: "function", function: { name: "add", arguments: '{"a":1}' } },
        { id: "c2", type: "function", function: { name: "sub", arguments: "{}" } },
      ],
    });
  });

  it("has its tool calls told apart where the endpoint does not number them", async () => {
    const part = (id: string | undefined, args: string) =>
      delta({
        tool_calls: [{ id, type: "function", function: { name: id && "f", arguments: args } }],
      });
    const { replying } = await ask([
      stream(part("c1", "{"), part(undefined, "}"), part("c2", "[]"), delta({}, "stop")),
    ]);
    expect((await replying).message.tool_calls).toEqual([
      { id: "c1", type: "function", function: { name: "f", arguments: "{}" } },
      { id: "c2", type: "function", function: { name: "f", arguments: "[]" } },
    ]);
  });

  it("may be a refusal", async () => {
    const { replying } = await ask([
      stream(delta({ refusal: "I can" }), delta({ refusal: "not." }, "stop")),
    ]);
    expect((await replying).message).toEqual({
      role: "assistant",
      content: null,
      refusal: "I cannot.",
    });
  });

  it("is whole when only its usage did not come", async () => {
    const { replying } = await ask([
      (response) => {
        begin(response).write(events(delta({ content: "Hi" }, "stop")), () => response.destroy());
      },
    ]);
    expect(await replying).toEqual({ message: { role: "assistant", content: "Hi" } });
  });

  it("ends with what onText throws", async () => {
    const answered = gate();
    const { replying } = await ask(
      [
        (response) => {
          response.on("close", () => answered.open());
          begin(response).write(events(delta({ content: "Hi" })));
        },
      ],
      {
        onText: () => {
          throw new Error("the screen is gone");
        },
      },
    );
    expect(await failure(replying)).toMatchObject({ message: "the screen is gone" });
    await answered.promise;
  });
});

describe("an answer that breaks off", () => {
  const half = events(delta({ role: "assistant" }), delta({ content: "Half an" }));

  it.each<[string, Answer]>([
    ["dropped", (response) => void begin(response).write(half, () => response.destroy())],
    ["ended without a word", (response) => void begin(response).end(half)],
    ["garbage", (response) => void begin(response).end(`${half}data: {"choi\n\n`)],
    [
      "nothing of the protocol",
      stream(delta({ content: "Half an" }), { choices: [{ delta: { tool_calls: 5 } }] }),
    ],
    [
      "an error in the stream",
      stream(delta({ content: "Half an" }), { error: { message: "overloaded" } }),
    ],
  ])("is returned as incomplete: %s", async (_how, answer) => {
    const { replying, asked } = await ask([answer]);
    const reply = await replying;
    expect(reply).toMatchObject({
      message: { role: "assistant", content: "Half an" },
      incomplete: true,
    });
    expect(reply.cause).toBeInstanceOf(OpenAI.APIError);
    expect(asked).toHaveLength(1);
  });

  it.each<[string, Answer]>([
    [
      "dropped",
      (response) =>
        void begin(response).write(events(delta({ role: "assistant" })), () => response.destroy()),
    ],
    ["ended at once", (response) => void begin(response).end()],
    ["garbage", (response) => void begin(response).end("data: <html>\n\n")],
    ["null", stream("null", "5", '"text"', '{"choices":null}', '{"choices":[]}')],
  ])("throws when no text had come: %s", async (_how, answer) => {
    const { replying } = await ask([answer]);
    expect(await failure(replying)).toBeInstanceOf(APIConnectionError);
  });

  it("does not show what it cannot read on the console", async () => {
    const { replying } = await ask([(response) => void begin(response).end("data: secret\n\n")]);
    await failure(replying);
    expect(shown).not.toHaveBeenCalled();
  });

  it("drops parts of tool calls", async () => {
    const { replying } = await ask([
      (response) =>
        void begin(response).end(
          half + events(delta({ tool_calls: [{ index: 0, id: "c", function: { name: "buy" } }] })),
        ),
    ]);
    expect((await replying).message).toEqual({ role: "assistant", content: "Half an" });
  });

  it("is one that stands still", async () => {
    const ended = gate();
    const still: Answer = (response) => {
      response.on("close", () => ended.open());
      begin(response).write(half);
    };
    const { replying } = await ask([still], {}, { timeoutMs: 50 });
    const { incomplete, cause } = await replying;
    expect(incomplete).toBe(true);
    expect(cause).toBeInstanceOf(APIConnectionTimeoutError);
    await ended.promise;
  });
});

describe("an abort", () => {
  const reason = new Error("enough");

  it("keeps what has arrived, and ends the request", async () => {
    const controller = new AbortController();
    const ended = gate();
    const { replying } = await ask(
      [
        (response) => {
          response.on("close", () => ended.open());
          begin(response).write(events(delta({ content: "Half" })));
        },
      ],
      { signal: controller.signal, onText: () => controller.abort(reason) },
    );
    expect(await replying).toEqual({
      message: { role: "assistant", content: "Half" },
      usage: undefined,
      incomplete: true,
      cause: reason,
    });
    await ended.promise;
  });

  it("throws its reason before anything has arrived", async () => {
    const controller = new AbortController();
    const arrived = gate();
    const { replying } = await ask([() => arrived.open()], { signal: controller.signal });
    await arrived.promise;
    controller.abort(reason);
    expect(await failure(replying)).toBe(reason);
  });

  it("does not wait until a request would be repeated", async () => {
    const controller = new AbortController();
    const refused = gate();
    const busy: Answer = (response) => {
      response.writeHead(429, { "retry-after": "3" }).end("{}");
      refused.open();
    };
    const { replying, asked } = await ask([busy, stream()], { signal: controller.signal });
    await refused.promise;
    controller.abort(reason);
    expect(await failure(replying)).toBe(reason);
    expect(asked).toHaveLength(1);
  });

  it("asks nothing when it came first", async () => {
    const { replying, asked } = await ask([], { signal: AbortSignal.abort(reason) });
    expect(await failure(replying)).toBe(reason);
    expect(asked).toEqual([]);
  });
});

describe("a refusal by the endpoint", () => {
  it("for now is waited out: 429 with retry-after", async () => {
    const times: number[] = [];
    const busy: Answer = (response) => {
      times.push(performance.now());
      response.writeHead(429, { "retry-after": "1" }).end("{}");
    };
    const ready: Answer = (response, asked) => {
      times.push(performance.now());
      return stream(delta({ content: "Now" }, "stop"))(response, asked);
    };
    const { replying } = await ask([busy, ready]);
    expect((await replying).message.content).toBe("Now");
    // Timers count in whole milliseconds, and may be early by a part of one.
    expect(times[1]! - times[0]!).toBeGreaterThanOrEqual(999);
  });

  it("that lasts is thrown as the package's error", async () => {
    const body = { error: { message: "quota", type: "insufficient_quota", code: "quota" } };
    const headers = { "retry-after-ms": "1" };
    const { replying, asked } = await ask(
      [json(429, body, headers), json(429, body, headers)],
      {},
      { maxRetries: 1 },
    );
    const error = await failure(replying);
    expect(error).toBeInstanceOf(RateLimitError);
    expect(error).toMatchObject({ status: 429, code: "quota" });
    expect(asked).toHaveLength(2);
  });

  it.each([
    [400, OpenAI.BadRequestError],
    [401, OpenAI.AuthenticationError],
    [404, OpenAI.NotFoundError],
  ])("for good is thrown at once: %i", async (status, Class) => {
    const { replying, asked } = await ask([json(status, { error: { message: "no" } })]);
    expect(await failure(replying)).toBeInstanceOf(Class);
    expect(asked).toHaveLength(1);
  });

  it("is an APIConnectionError when nobody is there", async () => {
    const server = await completionsServer();
    await server.close();
    const { replying } = await ask([], {}, { baseURL: server.baseURL, maxRetries: 0 });
    expect(await failure(replying)).toBeInstanceOf(APIConnectionError);
  });

  it("is a timeout when it does not begin to answer", async () => {
    const { replying } = await ask([() => {}], {}, { timeoutMs: 50, maxRetries: 0 });
    expect(await failure(replying)).toBeInstanceOf(APIConnectionTimeoutError);
  });
});

describe("an answer that is not streamed", () => {
  const completion = (message: object) => ({
    id: "1",
    object: "chat.completion",
    created: 1,
    model: "m",
    choices: [{ index: 0, finish_reason: "stop", message }],
    usage: USAGE,
  });

  it("is the endpoint's message as it is", async () => {
    const message = { role: "assistant", content: "Hi", refusal: null, annotations: [] };
    let text = "";
    const { replying, asked } = await ask(
      [json(200, completion(message))],
      { onText: (part) => (text += part) },
      { stream: false },
    );
    expect(await replying).toEqual({ message, usage: NEW_USAGE });
    expect(text).toBe("Hi");
    expect(asked[0]?.body).toEqual({ model: "m", messages: [{ role: "user", content: "Hello" }] });
  });

  it.each<[string, Answer]>([
    ["without choices", json(200, { choices: [] })],
    ["an empty object", json(200, {})],
    ["no JSON", (response) => void response.writeHead(200).end("<html>")],
  ])("throws when there is none: %s", async (_what, answer) => {
    const { replying } = await ask([answer], {}, { stream: false, maxRetries: 0 });
    expect(await failure(replying)).toBeInstanceOf(OpenAI.OpenAIError);
  });

  it("throws when it breaks off", async () => {
    const { replying } = await ask(
      [
        (response) => {
          response.writeHead(200, { "content-type": "application/json", "content-length": 1_000 });
          response.write('{"choices":[{"message":{"content":"Half', () => response.destroy());
        },
      ],
      {},
      { stream: false, maxRetries: 0 },
    );
    expect(await failure(replying)).toBeInstanceOf(APIConnectionError);
  });
});

describe("the environment", () => {
  it("says where to ask, and with which key", async () => {
    const server = await completionsServer(stream(delta({ content: "Hi" }, "stop")));
    closes.push(server.close);
    vi.stubEnv("OPENAI_BASE_URL", server.baseURL);
    vi.stubEnv("OPENAI_API_KEY", "from-env");
    const chat = openAiChat({ model: "m" });
    await chat({ messages: [], tools: [], signal: new AbortController().signal });
    expect(server.asked[0]?.headers.authorization).toBe("Bearer from-env");
  });

  it("without a key is an error at once", () => {
    vi.stubEnv("OPENAI_API_KEY", undefined);
    expect(() => openAiChat({ model: "m" })).toThrow(OpenAI.OpenAIError);
  });
});

describe("a usage that makes no sense", () => {
  it("counts as nothing", async () => {
    const usage = { prompt_tokens: -1, completion_tokens: 1.5, prompt_tokens_details: null };
    const { replying } = await ask([
      stream(delta({ content: "Hi" }, "stop"), { choices: [], usage }),
    ]);
    expect((await replying).usage).toEqual({
      inputTokens: 0,
      outputTokens: 0,
      cachedTokens: 0,
      reasoningTokens: 0,
    });
  });
});

it("takes a ready client", async () => {
  const server = await completionsServer(stream(delta({ content: "Hi" }, "stop")));
  closes.push(server.close);
  const client = new OpenAI({
    apiKey: "own",
    baseURL: server.baseURL,
    defaultHeaders: { "x-own": "1" },
  });
  const chat = openAiChat({ model: "m", client });
  await chat({ messages: [], tools: [], signal: new AbortController().signal });
  expect(server.asked[0]?.headers["x-own"]).toBe("1");
});

// Dialogues that live in a session: what is kept of them, and how they go on after whatever stopped
// them.
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import {
  ChatError,
  type ChatReply,
  type DialogueOptions,
  PendingCallsError,
  PersistentDialogue,
  type StartOptions,
  type Tool,
} from "../../client/agent/index.js";
import {
  AgentStoreClient,
  BudgetTooSmallError,
  LastSeqMismatchError,
  SessionNotFoundError,
  UnavailableError,
} from "../../client/index.js";
import { startServer, type TestServer } from "../harness/server.js";
import { calling, gate, result, scripted, type Turn } from "../unit/client/agent/scripted.js";

let server: TestServer;
let store: AgentStoreClient;
beforeAll(async () => {
  server = await startServer();
  store = new AgentStoreClient(server.url);
});
afterAll(async () => {
  store.close();
  await server.stop();
});

const ADD: Tool = {
  name: "add",
  inputSchema: { type: "object" },
  call: ({ a, b }) => String(Number(a) + Number(b)),
};

async function start(turns: Turn[], options: Partial<StartOptions> = {}, client = store) {
  const { chat, asked } = scripted(...turns);
  const dialogue = await PersistentDialogue.start(client, "m", { chat, tools: [ADD], ...options });
  return { dialogue, asked, id: dialogue.conversationId };
}

async function resume(id: bigint, turns: Turn[], options: Partial<DialogueOptions> = {}) {
  const { chat, asked } = scripted(...turns);
  const dialogue = await PersistentDialogue.resume(store, id, { chat, tools: [ADD], ...options });
  return { dialogue, asked };
}

/** The session as lines: `user Hello`, `assistant add add`, `tool c1 3`. */
async function kept(id: bigint): Promise<string[]> {
  const lines: string[] = [];
  for await (const { role, content, toolCalls, toolCallId, metadata } of store.streamMessages(id)) {
    const marks = Object.keys(metadata ?? {}).map((mark) => `(${mark})`);
    const calls = toolCalls.map(({ name }) => name);
    lines.push([role, toolCallId, ...calls, content, ...marks].filter((part) => part).join(" "));
  }
  return lines;
}

/** A client whose next append of a role fails, before or after it was made. */
function failing(role: string, when: "before" | "after") {
  const client = new AgentStoreClient(server.url);
  const add = client.addMessage.bind(client);
  const lost = new UnavailableError({ code: "UNAVAILABLE", message: "the line is dead" });
  let armed = true;
  client.addMessage = (async (...args: Parameters<typeof add>) => {
    if (args[1] !== role || !armed) return add(...args);
    armed = false;
    if (when === "after") await add(...args);
    throw lost;
  }) as typeof add;
  return client;
}

describe("a dialogue", () => {
  it("is kept as it happens, and resumed by another", async () => {
    const asks = calling(["c1", "add", '{"a":1,"b":2}']);
    const usage = { inputTokens: 7, outputTokens: 3 };
    const { dialogue, id } = await start([{ message: asks, usage }, "3"], {
      system: "Be brief.",
      title: "Sums",
      tags: ["demo"],
    });
    const seen: [string, bigint | undefined][] = [];
    const onStep = async (step: { kind: string; stored?: { seq: bigint } | undefined }) => {
      seen.push([step.kind, step.stored?.seq]);
      // What the caller is told of is in the store.
      const { lastSeq } = await store.getSession(id);
      expect(lastSeq).toBeGreaterThanOrEqual(step.stored?.seq ?? 0n);
    };
    expect(await dialogue.send("1 + 2?", { onStep })).toMatchObject({
      response: "3",
      stopped: "answered",
      rounds: 2,
      executions: [{ callId: "c1", content: "3" }],
    });
    await dialogue.close();
    expect(seen).toEqual([
      ["user", 2n],
      ["assistant", 3n],
      ["tool_call", undefined],
      ["tool_result", 4n],
      ["assistant", 5n],
    ]);
    const lines = ["system Be brief.", "user 1 + 2?", "assistant add", "tool c1 3", "assistant 3"];
    expect(await kept(id)).toEqual(lines);
    expect(await store.getSession(id)).toMatchObject({
      modelId: "m",
      title: "Sums",
      tags: ["demo"],
    });
    expect((await store.getSessionStats(id)).totalUsage).toMatchObject({
      inputTokens: 7n,
      outputTokens: 3n,
    });

    const again = await resume(id, ["You are welcome."], { system: "Be brief." });
    expect(again.dialogue.pendingCalls).toEqual([]);
    await again.dialogue.send("Thank you");
    await again.dialogue.close();
    expect(again.asked[0]?.messages).toEqual([
      { role: "system", content: "Be brief." },
      { role: "user", content: "1 + 2?" },
      asks,
      result("c1", "add", "3"),
      { role: "assistant", content: "3" },
      { role: "user", content: "Thank you" },
    ]);
    expect(await kept(id)).toEqual([...lines, "user Thank you", "assistant You are welcome."]);
  });

  it("keeps what OpenAI's form says beyond the typed fields", async () => {
    const message = { role: "assistant", content: "Hi", refusal: null, annotations: [] };
    const { dialogue, id } = await start([message, "Bye"]);
    await dialogue.send("\ud83d half a character");
    await dialogue.close();
    const again = await resume(id, ["Bye"]);
    await again.dialogue.send("x");
    await again.dialogue.close();
    expect(again.asked[0]?.messages.slice(0, 2)).toEqual([
      { role: "user", content: "\ud83d half a character" },
      message,
    ]);
  });

  it("that was started with a request_id is started once", async () => {
    const requestId = "order-17";
    const first = await start(["Hi"], { requestId, system: "Be brief." });
    await first.dialogue.send("Hello");
    await first.dialogue.close();
    const second = await start([], { requestId, system: "Be brief." });
    expect(second.id).toBe(first.id);
    await second.dialogue.close();
    expect(await kept(first.id)).toEqual(["system Be brief.", "user Hello", "assistant Hi"]);
  });

  it("of a session that is not there is an error", async () => {
    await expect(resume(4_000_000_000n, [])).rejects.toBeInstanceOf(SessionNotFoundError);
  });

  it("closes at the end of its block, and is over then", async () => {
    const { dialogue, id } = await start([]);
    await dialogue[Symbol.asyncDispose]();
    await dialogue.close();
    await expect(dialogue.send("x")).rejects.toThrow("the dialogue was closed");
    await expect(dialogue.continue()).rejects.toThrow("the dialogue was closed");
    await (await resume(id, [])).dialogue.close();
  });

  it("has one turn at a time, which closing ends", async () => {
    const asking = gate();
    const hanging: Turn = async ({ signal }) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason));
        asking.open();
      });
    const { dialogue, id } = await start([hanging]);
    const turn = dialogue.send("Hello");
    await asking.promise;
    await expect(dialogue.send("And?")).rejects.toThrow("a turn of this dialogue is under way");
    await dialogue.close();
    expect(await turn).toMatchObject({ stopped: "aborted" });
    expect(await kept(id)).toEqual(["user Hello"]);
    await (await resume(id, [])).dialogue.close();
  });
});

describe("continue", () => {
  it("asks the model when it has not answered", async () => {
    const failed: Turn = () => {
      throw new Error("overloaded");
    };
    const { dialogue, id } = await start([failed, "Hi"]);
    await expect(dialogue.send("Hello")).rejects.toBeInstanceOf(ChatError);
    expect(await dialogue.continue()).toMatchObject({ response: "Hi", rounds: 1 });
    await dialogue.close();
    expect(await kept(id)).toEqual(["user Hello", "assistant Hi"]);
  });

  it("asks nothing when it has", async () => {
    const { dialogue, asked } = await start(["Hi"]);
    await dialogue.send("Hello");
    expect(await dialogue.continue()).toMatchObject({
      response: "Hi",
      stopped: "answered",
      rounds: 0,
    });
    expect(asked).toHaveLength(1);
    await dialogue.close();
  });

  it("goes on after the most rounds", async () => {
    const { dialogue, id } = await start([calling(["c1", "add"]), "Done"], { maxRounds: 1 });
    expect(await dialogue.send("Hello")).toMatchObject({ stopped: "max_rounds", rounds: 1 });
    expect(await dialogue.continue()).toMatchObject({ stopped: "answered", response: "Done" });
    await dialogue.close();
    expect(await kept(id)).toEqual([
      "user Hello",
      "assistant add",
      "tool c1 NaN",
      "assistant Done",
    ]);
  });
});

describe("a message that is sent again under its request_id", () => {
  const first = { requestId: "job-1" };

  it("returns the answer that was given, also after later turns", async () => {
    const { dialogue, id, asked } = await start(["Hi", "Bye"]);
    await dialogue.send("Hello", first);
    expect(await dialogue.send("Hello", first)).toMatchObject({ response: "Hi", rounds: 0 });
    await dialogue.send("Goodbye", { requestId: "job-2" });
    await dialogue.close();
    const again = await resume(id, []);
    const replayed = await again.dialogue.send("Hello", first);
    expect(replayed).toMatchObject({ response: "Hi", stopped: "answered", rounds: 0 });
    await again.dialogue.close();
    expect(asked).toHaveLength(2);
    const lines = ["user Hello", "assistant Hi", "user Goodbye", "assistant Bye"];
    expect(await kept(id)).toEqual(lines);
  });

  it("returns it also when a budget leaves it out, or the application has added something", async () => {
    const { dialogue, id } = await start(["one", "two", "three"]);
    for (const text of ["1", "2", "3"]) await dialogue.send(text, { requestId: text });
    await store.addMessage(id, "system", "The market has closed.");
    await dialogue.close();
    const again = await resume(id, [], { context: { maxMessages: 3 } });
    const answers: string[] = [];
    for (const text of ["1", "2", "3"]) {
      const { response } = await again.dialogue.send(text, { requestId: text });
      answers.push(response);
    }
    expect(answers).toEqual(["one", "two", "three"]);
    expect(await again.dialogue.continue()).toMatchObject({ response: "three", rounds: 0 });
    await again.dialogue.close();
    expect(await kept(id)).toHaveLength(7);
  });

  it("goes on with its turn where that stopped", async () => {
    const { dialogue, id } = await start([() => Promise.reject(new Error("overloaded"))]);
    await expect(dialogue.send("Hello", first)).rejects.toBeInstanceOf(ChatError);
    await dialogue.close();
    const again = await resume(id, ["Hi"]);
    expect(await again.dialogue.send("Hello", first)).toMatchObject({ response: "Hi", rounds: 1 });
    await again.dialogue.close();
    expect(await kept(id)).toEqual(["user Hello", "assistant Hi"]);
  });
});

describe("interrupted tool calls", () => {
  /** A session whose last turn asks for two calls, of which one has a result. */
  async function interrupted() {
    const session = await store.createSession("m");
    await store.addMessages(session.id, [
      { role: "user", content: "1 + 2? 3 + 4?" },
      {
        role: "assistant",
        toolCalls: [
          { id: "c1", name: "add", arguments: '{"a":1,"b":2}' },
          { id: "c2", name: "add", arguments: '{"a":3,"b":4}' },
        ],
      },
      { role: "tool", toolCallId: "c2", content: "7" },
    ]);
    return session.id;
  }
  const PENDING = [{ id: "c1", name: "add", arguments: '{"a":1,"b":2}' }];
  const BEFORE = ["user 1 + 2? 3 + 4?", "assistant add add", "tool c2 7"];

  it("are executed, exactly those, when the caller chose so", async () => {
    const id = await interrupted();
    const { dialogue, asked } = await resume(id, ["Done"], { interruptedCalls: "execute" });
    expect(dialogue.pendingCalls).toEqual(PENDING);
    expect(await dialogue.continue()).toMatchObject({
      response: "Done",
      executions: [{ callId: "c1", content: "3" }],
    });
    await dialogue.close();
    expect(await kept(id)).toEqual([...BEFORE, "tool c1 3", "assistant Done"]);
    expect(asked[0]?.messages.slice(2)).toEqual([
      result("c1", "add", "3"),
      { role: "tool", tool_call_id: "c2", content: "7" },
    ]);
  });

  it("are executed before something new is sent", async () => {
    const id = await interrupted();
    const { dialogue } = await resume(id, ["Done"], { interruptedCalls: "execute" });
    expect(await dialogue.send("Well?")).toMatchObject({ executions: [{ callId: "c1" }] });
    await dialogue.close();
    expect(await kept(id)).toEqual([...BEFORE, "tool c1 3", "user Well?", "assistant Done"]);
  });

  it("wait for the caller otherwise: nothing is done", async () => {
    const id = await interrupted();
    const { dialogue, asked } = await resume(id, []);
    expect(dialogue.pendingCalls).toEqual(PENDING);
    expect(await dialogue.continue()).toMatchObject({ stopped: "pending", rounds: 0 });
    const error: unknown = await dialogue.send("Well?").catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(PendingCallsError);
    expect((error as PendingCallsError).calls).toEqual(PENDING);
    await dialogue.close();
    expect(asked).toEqual([]);
    expect(await kept(id)).toEqual(BEFORE);
  });

  it("may then be executed", async () => {
    const id = await interrupted();
    const { dialogue } = await resume(id, ["Done"]);
    expect(await dialogue.executePending()).toMatchObject({
      stopped: "pending",
      executions: [{ callId: "c1", content: "3" }],
    });
    expect(dialogue.pendingCalls).toEqual([]);
    await dialogue.continue();
    await dialogue.close();
    expect(await kept(id)).toEqual([...BEFORE, "tool c1 3", "assistant Done"]);
  });

  it("may then be answered by the caller", async () => {
    const id = await interrupted();
    const { dialogue } = await resume(id, ["Done"]);
    await expect(dialogue.supplyResult("c2", "8")).rejects.toThrow(
      'no tool call "c2" is without a result',
    );
    await dialogue.supplyResult("c1", "three");
    await dialogue.continue();
    await dialogue.close();
    expect(await kept(id)).toEqual([...BEFORE, "tool c1 three", "assistant Done"]);
  });

  it("may then be closed, and the model is sent that behind its call", async () => {
    const id = await interrupted();
    await store.addMessage(id, "user", "Are you there?");
    const { dialogue, asked } = await resume(id, ["Sorry"]);
    await dialogue.repair();
    expect(dialogue.pendingCalls).toEqual([]);
    expect(await dialogue.continue()).toMatchObject({ response: "Sorry" });
    await dialogue.close();
    expect((await kept(id)).slice(3)).toEqual([
      "user Are you there?",
      expect.stringMatching(/^tool c1 .*interrupted.*\(interrupted\)$/),
      "assistant Sorry",
    ]);
    expect(asked[0]?.messages.map(({ role }) => role)).toEqual([
      "user",
      "assistant",
      "tool",
      "tool",
      "user",
    ]);
    expect(asked[0]?.messages[2]).toMatchObject({ tool_call_id: "c1" });
  });

  it("are those that an abort leaves, too; what came out is kept", async () => {
    const controller = new AbortController();
    const never: Tool = { ...ADD, name: "never", call: () => new Promise(() => {}) };
    const { dialogue, id } = await start([calling(["c1", "never"], ["c2", "add"]), "Done"], {
      tools: [ADD, never],
    });
    const aborted = await dialogue.send("Hello", {
      signal: controller.signal,
      onStep: ({ kind }) => {
        if (kind === "tool_result") controller.abort(new Error("enough"));
      },
    });
    expect(aborted).toMatchObject({ stopped: "aborted", cause: { message: "enough" } });
    expect(dialogue.pendingCalls).toMatchObject([{ id: "c1" }]);
    await dialogue.supplyResult("c1", "never mind");
    expect(await dialogue.continue()).toMatchObject({ response: "Done" });
    await dialogue.close();
    expect(await kept(id)).toEqual([
      "user Hello",
      "assistant never add",
      "tool c2 NaN",
      "tool c1 never mind",
      "assistant Done",
    ]);
  });
});

describe("an answer that broke off", () => {
  const half: ChatReply = { message: { role: "assistant", content: "Half an" }, incomplete: true };

  it("is kept as such, and asked for anew without it", async () => {
    const { dialogue, id } = await start([half]);
    expect(await dialogue.send("Hello")).toMatchObject({
      stopped: "incomplete",
      response: "Half an",
    });
    await dialogue.close();
    expect(await kept(id)).toEqual(["user Hello", "assistant Half an (incomplete)"]);

    const again = await resume(id, ["Half an answer is none.", "Bye"]);
    expect(await again.dialogue.continue()).toMatchObject({ response: "Half an answer is none." });
    await again.dialogue.send("Goodbye");
    await again.dialogue.close();
    expect(again.asked.map(({ messages }) => messages)).toEqual([
      [{ role: "user", content: "Hello" }],
      [
        { role: "user", content: "Hello" },
        { role: "assistant", content: "Half an answer is none." },
        { role: "user", content: "Goodbye" },
      ],
    ]);
    expect(await kept(id)).toEqual([
      "user Hello",
      "assistant Half an (incomplete)",
      "assistant Half an answer is none.",
      "user Goodbye",
      "assistant Bye",
    ]);
  });

  it("is what the model said when the user replies to it", async () => {
    const { dialogue, asked } = await start([half, "Fine"]);
    await dialogue.send("Hello");
    await dialogue.send("That is enough");
    await dialogue.close();
    expect(asked[1]?.messages.map(({ content }) => content)).toEqual([
      "Hello",
      "Half an",
      "That is enough",
    ]);
  });

  it("is kept when the caller aborts, too", async () => {
    const controller = new AbortController();
    const stopping: Turn = () => {
      controller.abort();
      return half;
    };
    const { dialogue, id } = await start([stopping]);
    expect(await dialogue.send("Hello", { signal: controller.signal })).toMatchObject({
      stopped: "aborted",
      response: "Half an",
    });
    await dialogue.close();
    expect(await kept(id)).toEqual(["user Hello", "assistant Half an (incomplete)"]);
  });
});

describe("a store that is away", () => {
  it.each<["before" | "after"]>([["before"], ["after"]])(
    "in an append of the user's message, %s it was made: sending it again is once",
    async (when) => {
      const client = failing("user", when);
      const { dialogue, id } = await start(["Hi"], {}, client);
      await expect(dialogue.send("Hello")).rejects.toBeInstanceOf(UnavailableError);
      expect(await dialogue.send("Hello")).toMatchObject({ response: "Hi" });
      await dialogue.close();
      client.close();
      expect(await kept(id)).toEqual(["user Hello", "assistant Hi"]);
    },
  );

  it("and something else is sent then: both are kept", async () => {
    const client = failing("user", "before");
    const { dialogue, id } = await start(["Hi"], {}, client);
    await expect(dialogue.send("Hello")).rejects.toBeInstanceOf(UnavailableError);
    await dialogue.send("Anyone?");
    await dialogue.close();
    client.close();
    expect(await kept(id)).toEqual(["user Hello", "user Anyone?", "assistant Hi"]);
  });

  it.each<["assistant" | "tool", "before" | "after"]>([
    ["assistant", "before"],
    ["assistant", "after"],
    ["tool", "before"],
    ["tool", "after"],
  ])(
    "in an append of the %s's message, %s it was made: nothing is lost or done twice",
    async (role, when) => {
      const client = failing(role, when);
      const called: string[] = [];
      const counted: Tool = {
        ...ADD,
        call: (_args, { callId }) => {
          called.push(callId);
          return callId;
        },
      };
      const asks = calling(["c1", "add"], ["c2", "add"]);
      const options = { tools: [counted], interruptedCalls: "execute" as const };
      const { dialogue, id, asked } = await start([asks, "Done"], options, client);
      await expect(dialogue.send("Hello")).rejects.toBeInstanceOf(UnavailableError);
      expect(await dialogue.continue()).toMatchObject({ response: "Done" });
      await dialogue.close();
      client.close();
      expect(called).toEqual(["c1", "c2"]);
      expect(asked).toHaveLength(2);
      expect(await kept(id)).toEqual([
        "user Hello",
        "assistant add add",
        "tool c1 c1",
        "tool c2 c2",
        "assistant Done",
      ]);
    },
  );

  it("for longer: the append is tried again each time", async () => {
    const client = new AgentStoreClient(server.url);
    const add = client.addMessage.bind(client);
    const ids = new Set<unknown>();
    let away = 3;
    client.addMessage = (async (...args: Parameters<typeof add>) => {
      ids.add(args[3]?.requestId);
      if (away-- > 0) throw new UnavailableError({ code: "UNAVAILABLE", message: "away" });
      return add(...args);
    }) as typeof add;
    const { dialogue, id } = await start(["Hi"], {}, client);
    await expect(dialogue.send("Hello")).rejects.toBeInstanceOf(UnavailableError);
    await expect(dialogue.continue()).rejects.toBeInstanceOf(UnavailableError);
    await expect(dialogue.continue()).rejects.toBeInstanceOf(UnavailableError);
    expect(ids.size).toBe(1);
    expect(await dialogue.continue()).toMatchObject({ response: "Hi" });
    await dialogue.close();
    client.close();
    expect(await kept(id)).toEqual(["user Hello", "assistant Hi"]);
  });
});

describe("someone else who appends to the session", () => {
  it("between turns is heard", async () => {
    const { dialogue, id, asked } = await start(["Hi", "I see"]);
    await dialogue.send("Hello");
    await store.addMessage(id, "system", "The market has closed.");
    await dialogue.send("Well?");
    await dialogue.close();
    expect(asked[1]?.messages).toContainEqual({
      role: "system",
      content: "The market has closed.",
    });
  });

  it("while a tool runs does not make its result lost, and is heard", async () => {
    const { dialogue, id, asked } = await start([calling(["c1", "add"]), "Done"], {
      tools: [
        {
          ...ADD,
          async call() {
            await store.addMessage(dialogue.conversationId, "user", "Hurry!");
            return "3";
          },
        },
      ],
    });
    await dialogue.send("Hello");
    await dialogue.close();
    expect(asked[1]?.messages.map(({ role, content }) => content || role)).toEqual([
      "Hello",
      "assistant",
      "3",
      "Hurry!",
    ]);
    expect(await kept(id)).toEqual([
      "user Hello",
      "assistant add",
      "user Hurry!",
      "tool c1 3",
      "assistant Done",
    ]);
  });

  it("while the model is asked makes its answer one to another question: it is asked again", async () => {
    let told = false;
    const { dialogue, id, asked } = await start([
      async () => {
        await store.addMessage(dialogue.conversationId, "user", "Wait, I meant goodbye");
        told = true;
        return { message: { role: "assistant", content: "Hi" } };
      },
      "Bye",
    ]);
    await expect(dialogue.send("Hello")).rejects.toBeInstanceOf(LastSeqMismatchError);
    expect(told).toBe(true);
    expect(await dialogue.continue()).toMatchObject({ response: "Bye" });
    await dialogue.close();
    expect(asked[1]?.messages).toHaveLength(2);
    expect(await kept(id)).toEqual(["user Hello", "user Wait, I meant goodbye", "assistant Bye"]);
  });
});

describe("a budget", () => {
  it("bounds what the model is sent, turn by turn", async () => {
    const options = { context: { maxMessages: 3 }, system: "Be brief." };
    const { dialogue, asked, id } = await start(["one", "two", "three"], options);
    await dialogue.send("1");
    await dialogue.send("2");
    await dialogue.send("3");
    await dialogue.close();
    expect(asked.map(({ messages }) => messages.map(({ content }) => content))).toEqual([
      ["Be brief.", "1"],
      ["Be brief.", "1", "one", "2"],
      ["Be brief.", "2", "two", "3"],
    ]);
    expect(await kept(id)).toHaveLength(7);
  });

  it("that the newest turn exceeds is an error, not a model that is asked nothing", async () => {
    const { dialogue, id } = await start(["x".repeat(100)]);
    await dialogue.send("Hello");
    await dialogue.close();
    await expect(resume(id, [], { context: { maxCharacters: 50 } })).rejects.toBeInstanceOf(
      BudgetTooSmallError,
    );
    // And the lease is given back.
    await (await resume(id, [])).dialogue.close();
  });
});

describe("a signal that has aborted before", () => {
  it("keeps a message from being sent", async () => {
    const { dialogue, id } = await start([]);
    const signal = AbortSignal.abort(new Error("enough"));
    await expect(dialogue.send("Hello", { signal })).rejects.toThrow("enough");
    await dialogue.close();
    expect(await kept(id)).toEqual([]);
  });
});

it("calls onText", async () => {
  const onText = vi.fn<(delta: string) => void>();
  const { dialogue } = await start([
    (request) => {
      request.onText?.("Hi");
      return { message: { role: "assistant", content: "Hi" } };
    },
  ]);
  await dialogue.send("Hello", { onText });
  await dialogue.close();
  expect(onText).toHaveBeenCalledExactlyOnceWith("Hi");
});

// Tests dialogues with tools that go well, and everything that can go wrong in them.
import { describe, expect, it, vi } from "vitest";
import {
  ChatError,
  type DialogueStep,
  type Tool,
  ToolExecutor,
  type ToolExecutorOptions,
} from "../../../../client/agent/index.js";
import type { OpenAiMessage } from "../../../../client/index.js";
import { calling, gate, result, scripted, type Turn, toolCall } from "./scripted.js";

const USER: OpenAiMessage = { role: "user", content: "Hello" };
const ADD: Tool = {
  name: "add",
  description: "Adds",
  inputSchema: { type: "object", properties: { a: { type: "number" }, b: { type: "number" } } },
  call: ({ a, b }) => String(Number(a) + Number(b)),
};

function tool(name: string, call: Tool["call"]): Tool {
  return { name, inputSchema: { type: "object" }, call };
}

function dialogue(turns: Turn[], options: Partial<ToolExecutorOptions> = {}) {
  const { chat, asked } = scripted(...turns);
  const executor = new ToolExecutor({ chat, tools: [ADD], ...options });
  return { executor, asked };
}

describe("a dialogue", () => {
  it("without tool calls is one round", async () => {
    const { executor, asked } = dialogue(["Hi"]);
    expect(await executor.run([USER])).toEqual({
      response: "Hi",
      stopped: "answered",
      cause: undefined,
      rounds: 1,
      executions: [],
      messages: [USER, { role: "assistant", content: "Hi" }],
    });
    expect(asked[0]?.tools).toEqual([
      {
        type: "function",
        function: { name: "add", description: "Adds", parameters: ADD.inputSchema },
      },
    ]);
  });

  it("carries out calls round after round", async () => {
    const first = calling(["c1", "add", '{"a":1,"b":2}'], ["c2", "add", '{"a":3,"b":4}']);
    const second = calling(["c3", "add", '{"a":3,"b":7}']);
    const { executor, asked } = dialogue([first, second, "10"]);
    const history = [USER];
    const { messages, executions, ...rest } = await executor.run(history);
    expect(rest).toMatchObject({ response: "10", stopped: "answered", rounds: 3 });
    expect(messages).toEqual([
      USER,
      first,
      result("c1", "add", "3"),
      result("c2", "add", "7"),
      second,
      result("c3", "add", "10"),
      { role: "assistant", content: "10" },
    ]);
    expect(asked.map((request) => request.messages)).toEqual([
      [USER],
      messages.slice(0, 4),
      messages.slice(0, 6),
    ]);
    expect(executions).toMatchObject([
      { callId: "c1", name: "add", arguments: '{"a":1,"b":2}', outcome: "succeeded", content: "3" },
      { callId: "c2", outcome: "succeeded" },
      { callId: "c3", outcome: "succeeded" },
    ]);
    expect(history).toEqual([USER]);
  });

  it("tells of each step when it happens, and waits for whoever is told", async () => {
    const { executor } = dialogue([calling(["c1", "add"]), "Done"]);
    const told: string[] = [];
    const onStep = async (step: DialogueStep): Promise<void> => {
      told.push(step.kind);
      await Promise.resolve();
      told.push(`${step.kind} kept`);
    };
    await executor.run([USER], { onStep });
    expect(told).toEqual([
      "assistant",
      "assistant kept",
      "tool_call",
      "tool_call kept",
      "tool_result",
      "tool_result kept",
      "assistant",
      "assistant kept",
    ]);
  });

  it("hands the text on as it arrives", async () => {
    const streaming: Turn = ({ onText }) => {
      onText?.("Hel");
      onText?.("lo");
      return { message: { role: "assistant", content: "Hello" } };
    };
    const { executor } = dialogue([streaming]);
    let text = "";
    await executor.run([USER], { onText: (delta) => (text += delta) });
    expect(text).toBe("Hello");
  });

  it("ends after the most rounds, with results for all calls", async () => {
    const turns = Array.from({ length: 3 }, (_, index) => calling([`c${index}`, "add"]));
    const { executor } = dialogue([...turns, "never"], { maxRounds: 3 });
    const { stopped, rounds, executions, messages } = await executor.run([USER]);
    expect({ stopped, rounds }).toEqual({ stopped: "max_rounds", rounds: 3 });
    expect(executions).toHaveLength(3);
    expect(messages.at(-1)).toEqual(result("c2", "add", "NaN"));
  });

  it("has ten rounds unless told otherwise", async () => {
    const turns = Array.from({ length: 11 }, (_, index) => calling([`c${index}`, "add"]));
    expect(await dialogue(turns).executor.run([USER])).toMatchObject({ rounds: 10 });
  });

  it("begins with the calls of its history that have no results", async () => {
    const asks = calling(["c1", "add", '{"a":1,"b":1}'], ["c2", "add", '{"a":2,"b":2}']);
    const { executor, asked } = dialogue(["Done"]);
    await executor.run([USER, asks, result("c2", "add", "4")]);
    expect(asked[0]?.messages).toEqual([
      USER,
      asks,
      result("c1", "add", "2"),
      result("c2", "add", "4"),
    ]);
  });

  it("executes pending calls alone when asked to", async () => {
    const { executor, asked } = dialogue([]);
    const { stopped, rounds, messages } = await executor.executePending([
      USER,
      calling(["c1", "add", '{"a":1,"b":1}']),
    ]);
    expect({ stopped, rounds, last: messages.at(-1) }).toEqual({
      stopped: "pending",
      rounds: 0,
      last: result("c1", "add", "2"),
    });
    expect(asked).toEqual([]);
  });
});

describe("calls of one round", () => {
  it("run side by side up to the bound, and are answered in their order", async () => {
    const gates = new Map(["1", "2", "3"].map((id) => [id, gate<string>()]));
    const begun: string[] = [];
    const slow = tool("slow", async (_args, { callId }) => {
      begun.push(callId);
      return gates.get(callId)!.promise;
    });
    const asks = calling(["1", "slow"], ["2", "slow"], ["3", "slow"]);
    const { executor } = dialogue([asks, "Done"], { tools: [slow], concurrency: 2 });
    const arrived: string[] = [];
    const third = gate();
    const running = executor.run([USER], {
      onStep: (step) => {
        if (step.kind === "tool_call" && step.call.id === "3") third.open();
        if (step.kind === "tool_result") arrived.push(step.execution.callId);
      },
    });
    await vi.waitFor(() => expect(begun).toEqual(["1", "2"]));
    gates.get("2")!.open("two");
    await third.promise;
    gates.get("3")!.open("three");
    await vi.waitFor(() => expect(arrived).toEqual(["2", "3"]));
    gates.get("1")!.open("one");
    const { messages, executions } = await running;
    expect(messages.slice(2, 5)).toEqual([
      result("1", "slow", "one"),
      result("2", "slow", "two"),
      result("3", "slow", "three"),
    ]);
    expect(executions.map(({ callId }) => callId)).toEqual(["1", "2", "3"]);
    expect(arrived).toEqual(["2", "3", "1"]);
  });
});

describe("what goes wrong with a tool is told to the model", () => {
  async function outcome(
    call: [id: string, name: string, args?: string],
    options: Partial<ToolExecutorOptions> = {},
  ) {
    const { executor } = dialogue([calling(call), "Done"], options);
    const { executions, messages, stopped } = await executor.run([USER]);
    expect(stopped).toBe("answered");
    expect(messages[2]).toEqual(result(call[0], call[1], executions[0]!.content));
    return executions[0]!;
  }

  it("an unknown tool", async () => {
    expect(await outcome(["c", "subtract"])).toMatchObject({
      outcome: "unknown_tool",
      content: 'Error: there is no tool named "subtract". The tools are: add.',
    });
    expect((await outcome(["c", "x"], { tools: [] })).content).toMatch(/The tools are: none\.$/);
    expect((await outcome(["c", "__proto__"])).outcome).toBe("unknown_tool");
  });

  it.each(['{"a":', "[1]", '"text"', "null", "5"])(
    "arguments that are no object: %s",
    async (args) => {
      const call = vi.fn<() => string>(() => "never");
      const { outcome: came, content } = await outcome(["c", "t", args], {
        tools: [tool("t", call)],
      });
      expect(came).toBe("invalid_arguments");
      expect(content).toMatch(/^Error: the arguments are not .*The tool was not run\.$/s);
      expect(call).not.toHaveBeenCalled();
    },
  );

  it.each(["", "  "])("but not arguments that were left out: %j", async (args) => {
    const echo = tool("echo", (given) => JSON.stringify(given));
    expect(await outcome(["c", "echo", args], { tools: [echo] })).toMatchObject({
      outcome: "succeeded",
      content: "{}",
    });
  });

  it.each<[string, Tool["call"]]>([
    [
      "at once",
      () => {
        throw new Error("the disk is full");
      },
    ],
    ["later", async () => Promise.reject(new Error("the disk is full"))],
    [
      "without an Error",
      () => {
        throw "the disk is full";
      },
    ],
  ])("a tool that fails %s", async (_when, call) => {
    expect(await outcome(["c", "t"], { tools: [tool("t", call)] })).toMatchObject({
      outcome: "failed",
      content: "Error: the tool failed: the disk is full",
    });
  });

  it("a tool that returns no text", async () => {
    const odd = tool("odd", () => 5 as unknown as string);
    expect(await outcome(["c", "odd"], { tools: [odd] })).toMatchObject({
      outcome: "failed",
      content: "Error: the tool failed: it returned no text",
    });
  });

  it("a tool that does not answer in time, whose signal aborts", async () => {
    const seen = gate<unknown>();
    const hanging = tool("hang", (_args, { signal }) => {
      signal.addEventListener("abort", () => seen.open(signal.reason));
      return new Promise<string>(() => {});
    });
    const execution = await outcome(["c", "hang"], { tools: [hanging], toolTimeoutMs: 20 });
    expect(execution).toMatchObject({
      outcome: "timed_out",
      content:
        "Error: the tool did not answer within 20 ms and was cancelled. " +
        "Whether it took effect is not known.",
    });
    expect(await seen.promise).toMatchObject({ name: "TimeoutError" });
  });

  it("a result that is too long", async () => {
    const long = tool("long", () => "x".repeat(11));
    expect(await outcome(["c", "long"], { tools: [long], maxResultLength: 10 })).toMatchObject({
      outcome: "too_large",
      content:
        "Error: what the tool returned is too long: 11 characters, of at most 10. Ask for less.",
    });
    const exact = tool("long", () => "x".repeat(10));
    expect((await outcome(["c", "long"], { tools: [exact], maxResultLength: 10 })).outcome).toBe(
      "succeeded",
    );
  });

  it("an error text that is too long", async () => {
    const fails = tool("t", () => {
      throw new Error("x".repeat(1_000));
    });
    const { outcome: came, content } = await outcome(["c", "t"], {
      tools: [fails],
      maxResultLength: 100,
    });
    expect(came).toBe("failed");
    expect(content).toMatch(/too long/);
  });

  it("each by itself: its neighbours succeed", async () => {
    const asks = calling(["1", "none"], ["2", "add", '{"a":1,"b":1}'], ["3", "add", "{"]);
    const { executor } = dialogue([asks, "Done"]);
    const { executions } = await executor.run([USER]);
    expect(executions.map(({ outcome: came }) => came)).toEqual([
      "unknown_tool",
      "succeeded",
      "invalid_arguments",
    ]);
  });
});

describe("calls that cannot be told apart get ids of their own", () => {
  it.each<[string, OpenAiMessage[], OpenAiMessage]>([
    ["empty", [], calling(["", "add"], ["", "add"])],
    ["the same twice", [], calling(["c", "add"], ["c", "add"])],
    [
      "one of an earlier turn",
      [calling(["c", "add"]), result("c", "add", "1")],
      calling(["c", "add"]),
    ],
    ["too long", [], calling(["c".repeat(1025), "add"])],
    ["with a U+0000", [], calling(["c\0", "add"])],
  ])("%s", async (_what, earlier, asks) => {
    const { executor, asked } = dialogue([asks, "Done"]);
    const history = [USER, ...earlier];
    const { messages, stopped } = await executor.run(history);
    expect(stopped).toBe("answered");
    const calls = messages[history.length]?.tool_calls ?? [];
    const ids = [...earlier.flatMap(({ tool_calls }) => tool_calls ?? []), ...calls].map(
      ({ id }) => id,
    );
    expect(new Set(ids).size).toBe(ids.length);
    const results = asked[1]?.messages.filter(({ role }) => role === "tool") ?? [];
    expect(results.map((message) => message.tool_call_id)).toEqual(ids);
  });

  it("but usable ids stay, and so do unknown keys", async () => {
    const asks = {
      role: "assistant",
      content: null,
      tool_calls: [{ ...toolCall("c", "add"), index: 0 }],
      extra: 1,
    };
    const { executor } = dialogue([asks, "Done"]);
    expect((await executor.run([USER])).messages[1]).toEqual(asks);
  });

  it("and calls of any shape are answered", async () => {
    const odd = [
      null,
      {},
      { id: "a", type: "function" },
      { id: "b", type: "function", function: { name: "add", arguments: { a: 1, b: 2 } } },
      { id: "c", type: "custom", custom: { name: "free", input: "text" } },
    ];
    const asks = { role: "assistant", tool_calls: odd } as unknown as OpenAiMessage;
    const { executor } = dialogue([asks, "Done"]);
    const { executions } = await executor.run([USER]);
    expect(executions.map(({ name, outcome: came }) => [name, came])).toEqual([
      ["", "unknown_tool"],
      ["", "unknown_tool"],
      ["", "unknown_tool"],
      ["add", "succeeded"],
      ["free", "unknown_tool"],
    ]);
  });
});

describe("an answer that breaks off", () => {
  it("is a result, without its tool calls", async () => {
    const cause = new Error("the line is dead");
    const message = { ...calling(["c", "add"]), content: "Let me" };
    const { executor } = dialogue([{ message, incomplete: true, cause }]);
    const steps: DialogueStep[] = [];
    const run = await executor.run([USER], { onStep: (step) => void steps.push(step) });
    expect(run).toMatchObject({ stopped: "incomplete", response: "Let me", cause, rounds: 1 });
    const kept = { role: "assistant", content: "Let me" };
    expect(run.messages).toEqual([USER, kept]);
    expect(steps).toEqual([
      { kind: "assistant", message: kept, usage: undefined, incomplete: true },
    ]);
  });
});

describe("a model that cannot be asked", () => {
  class RateLimit extends Error {}

  it.each<[string, Turn]>([
    ["rejects", async () => Promise.reject(new RateLimit("slow down"))],
    [
      "throws",
      () => {
        throw new RateLimit("slow down");
      },
    ],
  ])("throws a ChatError with all that was done: it %s", async (_how, failing) => {
    const { executor } = dialogue([calling(["c", "add", '{"a":1,"b":1}']), failing]);
    const error: unknown = await executor.run([USER]).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ChatError);
    const { message, cause, result: done } = error as ChatError;
    expect(message).toBe("the model could not be asked: slow down");
    expect(cause).toBeInstanceOf(RateLimit);
    expect(done).toMatchObject({ rounds: 2, executions: [{ callId: "c" }] });
    expect(done.messages.at(-1)).toEqual(result("c", "add", "2"));
  });

  it.each([undefined, null, {}, { message: null }, { message: { role: "user", content: "x" } }])(
    "is one that replies %j",
    async (reply) => {
      const { executor } = dialogue([() => reply as never]);
      await expect(executor.run([USER])).rejects.toThrow(
        "the chat function returned no message of the role assistant",
      );
    },
  );
});

describe("an abort", () => {
  it("before the first round asks nothing", async () => {
    const { executor, asked } = dialogue(["never"]);
    const signal = AbortSignal.abort(new Error("enough"));
    expect(await executor.run([USER], { signal })).toMatchObject({
      stopped: "aborted",
      rounds: 0,
      cause: { message: "enough" },
      messages: [USER],
    });
    expect(asked).toEqual([]);
  });

  it("ends a model that listens, and keeps what had arrived", async () => {
    const controller = new AbortController();
    const listens: Turn = async ({ signal }) => {
      controller.abort();
      expect(signal.aborted).toBe(true);
      return { message: { role: "assistant", content: "Half" }, incomplete: true };
    };
    const { executor } = dialogue([listens]);
    expect(await executor.run([USER], { signal: controller.signal })).toMatchObject({
      stopped: "aborted",
      response: "Half",
      messages: [USER, { role: "assistant", content: "Half" }],
    });
  });

  it.each<[string, Turn]>([
    ["rejects", async ({ signal }) => Promise.reject(signal.reason)],
    ["does not listen", async () => new Promise(() => {})],
  ])("ends a model that %s", async (_how, turn) => {
    const controller = new AbortController();
    const aborting: Turn = (request) => {
      controller.abort();
      return (turn as (given: typeof request) => Promise<never>)(request);
    };
    const { executor } = dialogue([aborting]);
    const run = await executor.run([USER], { signal: controller.signal });
    expect(run).toMatchObject({ stopped: "aborted", rounds: 1, messages: [USER] });
  });

  it("leaves calls under way without a result, and loses none that came out", async () => {
    const controller = new AbortController();
    const stopped = gate();
    const tools = [
      tool("quick", () => "quick"),
      tool("deaf", () => new Promise<string>(() => {})),
      tool(
        "stops",
        (_args, { signal }) =>
          new Promise<string>((_resolve, reject) => {
            signal.addEventListener("abort", () => {
              stopped.open();
              reject(new Error("stopped"));
            });
          }),
      ),
      tool(
        "finishes",
        (_args, { signal }) =>
          new Promise<string>((resolve) => {
            signal.addEventListener("abort", () => resolve("just made it"));
          }),
      ),
      tool("late", () => "never begun"),
    ];
    const asks = calling(...tools.map(({ name }): [string, string] => [name, name]));
    const { executor } = dialogue([asks, "never"], { tools });
    const run = await executor.run([USER], {
      signal: controller.signal,
      onStep: (step) => {
        if (step.kind === "tool_result" && step.execution.name === "quick") controller.abort();
      },
    });
    await stopped.promise;
    expect(run).toMatchObject({ stopped: "aborted", rounds: 1 });
    expect(run.executions.map(({ name, content }) => [name, content])).toEqual([
      ["quick", "quick"],
      ["finishes", "just made it"],
    ]);
    expect(run.messages.slice(2)).toEqual([
      result("quick", "quick", "quick"),
      result("finishes", "finishes", "just made it"),
    ]);
  });

  it("leaves no listener on the signal", async () => {
    const { signal } = new AbortController();
    const added = vi.spyOn(signal, "addEventListener");
    const removed = vi.spyOn(signal, "removeEventListener");
    const { executor } = dialogue([calling(["1", "add"], ["2", "none"]), "Done"]);
    await executor.run([USER], { signal });
    expect(added).toHaveBeenCalled();
    expect(removed.mock.calls.length).toBe(added.mock.calls.length);
  });
});

describe("a step that cannot be kept", () => {
  it("ends the run, and tells the other tools to stop", async () => {
    const stopped = gate();
    const tools = [
      tool("quick", () => "quick"),
      tool(
        "other",
        (_args, { signal }) =>
          new Promise<string>((resolve) => {
            signal.addEventListener("abort", () => {
              stopped.open();
              resolve("made it");
            });
          }),
      ),
    ];
    const { executor } = dialogue([calling(["1", "quick"], ["2", "other"]), "never"], { tools });
    const told: string[] = [];
    const running = executor.run([USER], {
      onStep: (step) => {
        if (step.kind !== "tool_result") return;
        told.push(step.execution.name);
        if (step.execution.name === "quick") throw new Error("the store is away");
      },
    });
    await expect(running).rejects.toThrow("the store is away");
    await stopped.promise;
    // What came out nevertheless is told before the run ends, so that it can be kept later.
    expect(told).toEqual(["quick", "other"]);
  });
});

describe("an executor", () => {
  it.each<[Partial<ToolExecutorOptions>, string]>([
    [{ tools: [ADD, ADD] }, 'two tools are named "add"'],
    [{ tools: [{ ...ADD, name: "" }] }, "a tool needs a name"],
    [{ maxRounds: 0 }, "maxRounds must be a whole number from 1 to"],
    [{ concurrency: 1.5 }, "concurrency must be a whole number from 1 to 1000"],
    [{ toolTimeoutMs: 2 ** 31 }, "toolTimeoutMs must be a whole number from 1 to 2147483647"],
    [{ maxResultLength: -1 }, "maxResultLength must be a whole number from 1 to 1000000"],
  ])("refuses %j", (options, message) => {
    expect(() => dialogue([], options).executor).toThrow(TypeError);
    expect(() => dialogue([], options).executor).toThrow(message);
  });
});

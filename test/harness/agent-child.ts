// An agent in a process of its own, which ends itself with SIGKILL at the step that a test names. Its
// steps count themselves: before and after each write to the store, each call of the model and the
// side effect of each tool.
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { type DialogueStep, PersistentDialogue, type Tool } from "../../client/agent/index.js";
import { AgentStoreClient, type OpenAiMessage } from "../../client/index.js";

/** What an agent is told. */
export interface Orders {
  /** The server. */
  url: string;
  /** The model of the agent's one session. */
  name: string;
  /** The file that side effects are written to, a line each. */
  effects: string;
  /** The step to end the process at, from 1; 0 to live. */
  killAt: number;
  /** What becomes of interrupted tool calls. */
  interruptedCalls: "execute" | "pending";
}

/** What an agent says at its end. */
export interface Ended {
  conversationId: string;
  steps: string[];
}

const RESULTS: Record<string, string> = {
  "call-1a": "BTC costs 65000",
  "call-1b": "ETH costs 2000",
  "call-2": "bought 0.1 BTC",
};

/** Runs an agent to its end. */
async function runAgent(orders: Orders): Promise<Ended> {
  const steps: string[] = [];
  const step = (name: string): void => {
    steps.push(name);
    if (steps.length !== orders.killAt) return;
    process.kill(process.pid, "SIGKILL");
    // The signal is on its way; nothing more may happen.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  };
  const begun = new Set<string>();
  let firstIsKept = (): void => {};
  const afterFirst = new Promise<void>((resolve) => {
    firstIsKept = resolve;
  });
  const tool = (name: string): Tool => ({
    name,
    inputSchema: { type: "object" },
    async call(_args, { callId }) {
      begun.add(callId);
      // The second call of a round comes out second, so that all runs are alike.
      if (callId === "call-1b" && begun.has("call-1a")) await afterFirst;
      step(`before effect ${callId}`);
      appendFileSync(orders.effects, `${callId}\n`);
      step(`after effect ${callId}`);
      return RESULTS[callId] ?? "";
    },
  });
  const onStep = (told: DialogueStep): void => {
    if (told.kind === "tool_result" && told.execution.callId === "call-1a") firstIsKept();
  };
  const options = {
    async chat({ messages }: { messages: readonly OpenAiMessage[] }) {
      step("before chat");
      const message = reply(messages);
      step("after chat");
      return { message, usage: { inputTokens: messages.length, outputTokens: 1 } };
    },
    tools: [tool("price"), tool("buy")],
    system: "You trade.",
    leaseTtlMs: 1_000,
    leaseWaitMs: 60_000,
    interruptedCalls: orders.interruptedCalls,
  };

  const store = new SteppedClient(orders.url, step);
  const [known] = (await store.listSessions(orders.name)).sessions;
  const dialogue = known
    ? await PersistentDialogue.resume(store, known.session.id, options)
    : await PersistentDialogue.start(store, orders.name, options);
  for (const [index, text] of ["Buy if it is cheap", "Thank you"].entries()) {
    if (orders.interruptedCalls === "pending") await decide(dialogue, orders.effects, onStep);
    const result = await dialogue.send(text, { requestId: `input-${index}`, onStep });
    if (result.stopped !== "answered") throw new Error(`it stopped: ${result.stopped}`);
  }
  await dialogue.close();
  store.close();
  return { conversationId: String(dialogue.conversationId), steps };
}

/** What a caller does who can find out whether a call took effect: here, by the file. */
async function decide(
  dialogue: PersistentDialogue,
  effects: string,
  onStep: (step: DialogueStep) => void,
): Promise<void> {
  const happened = existsSync(effects) ? readFileSync(effects, "utf8").split("\n") : [];
  for (const { id } of dialogue.pendingCalls) {
    if (happened.includes(id)) await dialogue.supplyResult(id, RESULTS[id] ?? "");
  }
  if (dialogue.pendingCalls.length > 0) await dialogue.executePending({ onStep });
}

/** A model that answers the same whenever it is asked the same. */
function reply(messages: readonly OpenAiMessage[]): OpenAiMessage {
  const last = messages.at(-1);
  const content = String(last?.content);
  if (last?.role === "user" && content.startsWith("Buy")) {
    return calls(["call-1a", "price", '{"coin":"BTC"}'], ["call-1b", "price", '{"coin":"ETH"}']);
  }
  if (last?.tool_call_id === "call-1b") return calls(["call-2", "buy", '{"amount":0.1}']);
  return { role: "assistant", content: `After ${messages.length} messages: ${content}` };
}

function calls(...named: [id: string, name: string, args: string][]): OpenAiMessage {
  return {
    role: "assistant",
    content: null,
    tool_calls: named.map(([id, name, args]) => ({
      id,
      type: "function",
      function: { name, arguments: args },
    })),
  };
}

type AnyCall = (...args: unknown[]) => Promise<unknown>;

/** A client with a step before and after each of its writes, whatever they are. */
class SteppedClient extends AgentStoreClient {
  constructor(url: string, step: (name: string) => void) {
    super(url);
    const own = this as unknown as Record<string, AnyCall>;
    for (const name of Object.getOwnPropertyNames(AgentStoreClient.prototype)) {
      // Renewals come by the clock.
      if (/^(get|list|load|renew|wait)/.test(name)) continue;
      const call = own[name];
      if (call?.constructor.name !== "AsyncFunction") continue;
      own[name] = async (...args) => {
        const what = name === "addMessage" ? `${name} ${String(args[1])}` : name;
        step(`before ${what}`);
        const result = await call.apply(this, args);
        step(`after ${what}`);
        return result;
      };
    }
  }
}

const orders = JSON.parse(process.argv[2] ?? "[]") as Orders[];
process.stdout.write(JSON.stringify(await Promise.all(orders.map(runAgent))));

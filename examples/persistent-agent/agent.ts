// The agent of the demo: a model with tools, in a conversation that the store keeps.
import path from "node:path";
import type { AgentStoreClient, OpenAiMessage } from "@agentstore/client";
import {
  type DialogueOptions,
  type DialogueResult,
  type DialogueStep,
  PersistentDialogue,
} from "@agentstore/client/agent";
import { connectMcp } from "@agentstore/client/agent/mcp";
import type { Model } from "./model.js";
import { count, fact, message } from "./screen.js";

/** What the scenarios share. */
export interface Demo {
  store: AgentStoreClient;
  model: Model;
  /** Where the tools keep the portfolio. */
  dataDir: string;
  /** Aborts when the demo is interrupted. */
  signal: AbortSignal;
}

/** An agent in a conversation. */
export interface Agent {
  conversationId: bigint;
  /** What was said before, as the model is told it. */
  history: readonly OpenAiMessage[];
  /** Asks, and shows each message once it is saved. */
  ask: (question: string) => Promise<DialogueResult>;
}

const SYSTEM_PROMPT =
  "You are a trading assistant on a play market. Ask the tools for every price, and be brief.";

/** Works with an agent: in a new conversation, or in one that goes on where it stopped. */
export async function withAgent<T>(
  demo: Demo,
  conversation: { title: string } | { id: bigint },
  work: (agent: Agent) => Promise<T>,
): Promise<T> {
  const { model, signal } = demo;
  const market = await connectMarket(demo);
  try {
    const options = {
      chat: model.chat,
      tools: market.tools,
      signal,
      // A process that was killed holds the conversation for another 5 s: they are waited for.
      leaseTtlMs: 5_000,
      leaseWaitMs: 10_000,
    };
    const dialogue =
      "id" in conversation
        ? await resume(demo, conversation.id, options)
        : await start(demo, conversation.title, options);
    try {
      const { conversationId, messages: history } = dialogue;
      const ask = async (question: string) => {
        const result = await dialogue.send(question, { signal, onStep: show });
        signal.throwIfAborted();
        return result;
      };
      return await work({ conversationId, history, ask });
    } finally {
      // From here on, another process may go on with the conversation.
      await dialogue.close();
    }
  } finally {
    await market.close();
  }
}

async function start(
  { store, model }: Demo,
  title: string,
  options: DialogueOptions,
): Promise<PersistentDialogue> {
  const dialogue = await PersistentDialogue.start(store, model.id, {
    ...options,
    title,
    system: SYSTEM_PROMPT,
  });
  const { messages } = await store.getMessages(dialogue.conversationId);
  for (const stored of messages) message(stored);
  return dialogue;
}

async function resume(
  { store, signal }: Demo,
  id: bigint,
  options: DialogueOptions,
): Promise<PersistentDialogue> {
  // A purchase that was interrupted may have been made all the same: it is not made again.
  const interruptedCalls = "pending";
  const dialogue = await PersistentDialogue.resume(store, id, { ...options, interruptedCalls });
  const pending = dialogue.pendingCalls;
  if (pending.length > 0) {
    const names = pending.map(({ name }) => name).join(", ");
    fact("pending", `${count(pending.length, "tool call")} (${names}) whose outcome is not known`);
    await dialogue.repair();
  }
  const last = dialogue.messages.at(-1)?.role;
  if (last === "user" || last === "tool") await dialogue.continue({ signal, onStep: show });
  return dialogue;
}

function show(step: DialogueStep): void {
  if ("stored" in step && step.stored) message(step.stored);
}

/** Starts the play market, a process that speaks the Model Context Protocol. */
function connectMarket({ dataDir }: Demo): ReturnType<typeof connectMcp> {
  const server = path.join(import.meta.dirname, "market-server.js");
  const portfolio = path.join(dataDir, "portfolio.json");
  return connectMcp({ command: process.execPath, args: [server, portfolio] });
}

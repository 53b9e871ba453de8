// Scenario 1: a conversation with tools, every step of which is saved when it happens.
import { type Agent, type Demo, withAgent } from "./agent.js";
import { count, fact, gap, heading } from "./screen.js";
import { figures, findTrading, TRADING } from "./sessions.js";

const REQUEST = "Check BTC price and if it's below $70000, buy 0.1 BTC";

/** Begins a conversation, or goes on with the one that an earlier run has left. */
export async function converse(demo: Demo): Promise<void> {
  const left = await findTrading(demo);
  if (left) {
    const { session, messageCount } = left;
    heading(1, "The conversation of the last run goes on");
    fact("found", `session ${session.id}, with ${count(messageCount, "message")}`);
    gap();
    await withAgent(demo, { id: session.id }, (agent) => request(demo, agent));
  } else {
    heading(1, "A new conversation");
    await withAgent(demo, { title: TRADING }, (agent) => request(demo, agent));
  }
}

async function request({ store }: Demo, { conversationId, ask }: Agent): Promise<void> {
  const { rounds, executions } = await ask(REQUEST);
  const stats = await store.getSessionStats(conversationId);
  gap();
  fact(
    "asked",
    `the model ${count(rounds, "time")}, the tools ${count(executions.length, "time")}`,
  );
  fact("session", `${conversationId}: ${figures(stats)}`);
}

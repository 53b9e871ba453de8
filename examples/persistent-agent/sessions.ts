// The demo's sessions in the store, and how they are shown.
import type { SessionStats, SessionSummary } from "@agentstore/client";
import type { Demo } from "./agent.js";
import { count, table } from "./screen.js";

/** The conversation that goes on: in the second scenario, and in the next run. */
export const TRADING = "Trading BTC";
/** The conversation that is deleted at the end. */
export const COMPARING = "BTC against ETH";

/** Lists the demo's sessions, those of the latest activity first. */
export async function listSessions({ store, model }: Demo): Promise<SessionSummary[]> {
  const { sessions } = await store.listSessions(model.id);
  return sessions.filter(({ session }) => [TRADING, COMPARING].includes(session.title));
}

/** Finds the conversation that goes on, if there is one already. */
export async function findTrading(demo: Demo): Promise<SessionSummary | undefined> {
  return (await listSessions(demo)).find(({ session }) => session.title === TRADING);
}

/** Shows sessions with their statistics. */
export async function showSessions({ store }: Demo, sessions: SessionSummary[]): Promise<void> {
  const rows = sessions.map(async ({ session, lastMessageTime }) => {
    const stats = await store.getSessionStats(session.id);
    return [
      String(session.id),
      session.title,
      String(stats.totalMessages),
      String(stats.userMessages),
      String(stats.assistantMessages),
      String(stats.toolMessages),
      String(stats.totalCharacters),
      lastMessageTime?.toISOString().slice(0, 16).replace("T", " ") ?? "",
    ];
  });
  const header = [
    "SESSION",
    "TITLE",
    "MESSAGES",
    "USER",
    "ASSISTANT",
    "TOOL",
    "CHARS",
    "LAST (UTC)",
  ];
  table([header, ...(await Promise.all(rows))]);
}

/** A session's statistics on one line. */
export function figures(stats: SessionStats): string {
  const { systemMessages, userMessages, assistantMessages, toolMessages } = stats;
  const tokens = stats.totalUsage.inputTokens + stats.totalUsage.outputTokens;
  return (
    `${count(stats.totalMessages, "message")} (${systemMessages} system, ${userMessages} user, ` +
    `${assistantMessages} assistant, ${toolMessages} tool), ` +
    count(stats.totalCharacters, "character") +
    (tokens > 0n ? `, ${count(tokens, "token")}` : "")
  );
}

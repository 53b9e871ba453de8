// Scenario 4: manages sessions: lists them with their statistics, and deletes one.
import type { Demo } from "./agent.js";
import { count, fact, gap, heading } from "./screen.js";
import { COMPARING, listSessions, showSessions } from "./sessions.js";

/** Deletes what the third scenario has left, so that the first conversation stays. */
export async function manage(demo: Demo): Promise<void> {
  heading(4, "Sessions: list and delete");
  const sessions = await listSessions(demo);
  await showSessions(demo, sessions);
  gap();
  for (const { session, messageCount } of sessions) {
    if (session.title !== COMPARING) continue;
    await demo.store.deleteSession(session.id);
    fact("deleted", `session ${session.id}, with its ${count(messageCount, "message")}`);
  }
  const left = await listSessions(demo);
  fact("left", left.map(({ session }) => `session ${session.id}, ${session.title}`).join("; "));
}

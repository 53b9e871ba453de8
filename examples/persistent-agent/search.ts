// Scenario 3: finds what was said, in whichever conversation that was.
import { type Demo, withAgent } from "./agent.js";
import { count, fact, gap, heading, hit } from "./screen.js";
import { COMPARING } from "./sessions.js";

const WANTED = "BTC";
const SHOWN = 6;

/** Holds a second conversation, then searches them all. */
export async function search(demo: Demo): Promise<void> {
  heading(3, `Search for ${WANTED}`);
  await withAgent(demo, { title: COMPARING }, ({ ask }) => ask("Compare BTC with ETH"));
  gap();
  const found = await demo.store.searchMessages(demo.model.id, WANTED, { limit: 1_000 });
  const sessions = new Set(found.map(({ conversationId }) => conversationId)).size;
  fact("found", `${count(found.length, "message")} in ${count(sessions, "session")}; the newest:`);
  gap();
  for (const message of found.slice(0, SHOWN)) hit(message, WANTED);
}

// Scenario 2: a new process goes on with the conversation.
//
//     AGENTSTORE_URL=… node resume.js DATA-DIRECTORY
import { AgentStoreClient } from "@agentstore/client";
import { type Demo, withAgent } from "./agent.js";
import { chooseModel } from "./model.js";
import { DemoError, runProgram } from "./program.js";
import { count, fact, gap, heading } from "./screen.js";
import { figures, findTrading, listSessions, showSessions } from "./sessions.js";

await runProgram(async (signal) => {
  const [dataDir] = process.argv.slice(2);
  if (dataDir === undefined) throw new DemoError("usage: resume.js DATA-DIRECTORY");
  const store = new AgentStoreClient();
  try {
    await resume({ store, model: await chooseModel(), dataDir, signal });
  } finally {
    store.close();
  }
});

async function resume(demo: Demo): Promise<void> {
  const { store } = demo;
  heading(2, "Resumed by a new process");
  fact("process", `${process.pid}, which knows no more than where the store is`);
  gap();
  await showSessions(demo, await listSessions(demo));
  gap();
  const found = await findTrading(demo);
  if (!found) throw new DemoError("there is no conversation to resume", "Run the demo first.");
  const { id, lastSeq } = found.session;
  await withAgent(demo, { id }, async ({ history, ask }) => {
    fact("loaded", `${count(history.length, "message")} of session ${id}`);
    gap();
    await ask("What did you do last?");
    await ask("What is my portfolio worth now?");
  });
  gap();
  const { messages } = await store.getMessages(id, { afterSeq: lastSeq });
  const range = `#${messages.at(0)?.seq} to #${messages.at(-1)?.seq}`;
  fact("saved", `${count(messages.length, "new message")}, ${range}; those before were only read`);
  fact("session", `${id}: ${figures(await store.getSessionStats(id))}`);
}

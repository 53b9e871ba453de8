// `agentstore repair`: closes the tool calls of a session that were interrupted.
import { Command } from "commander";
import type { AgentStoreClient } from "../../client/index.js";
import { type PrintOptions, sessionId, withJsonOption, withStoreOptions } from "../options.js";
import { write, writeJson } from "../output.js";

/** Defines the command. */
export function repairCommand(): Command {
  const command = new Command("repair")
    .summary("close the interrupted tool calls of a session")
    .description(
      "Appends a tool message that says so for each tool call of a session that was interrupted " +
        "before its result was stored. Takes the session's lease meanwhile, so it does nothing " +
        "to a session that an agent holds.",
    )
    .argument("<id>", "the session's id", sessionId);
  return withStoreOptions(withJsonOption(command, "a JSON line for each message appended"))
    .addHelpText(
      "after",
      `
Examples:
  agentstore repair 42
  agentstore repair 42 --json | jq -r .toolCallId

Environment:
  AGENTSTORE_URL          as --url
  AGENTSTORE_TOKEN        as --token`,
    )
    .action(async (id: bigint, flags: PrintOptions) => {
      const { withStore } = await import("../connect.js");
      await withStore(flags, (store) => repair(store, id, flags));
    });
}

async function repair(store: AgentStoreClient, id: bigint, flags: PrintOptions): Promise<void> {
  const { fencingToken } = await store.acquireLease(id, "agentstore repair");
  let closed = 0;
  try {
    for (;;) {
      const messages = await store.repairSession(id, { fencingToken });
      if (messages.length === 0) break;
      closed += messages.length;
      if (flags.json) for (const message of messages) await writeJson(message);
    }
  } finally {
    await store.releaseLease(id, fencingToken);
  }
  if (flags.json) return;
  const calls = `${closed} interrupted tool ${closed === 1 ? "call" : "calls"}`;
  await write(`Session ${id}: ${closed === 0 ? "nothing to repair" : `${calls} closed`}.\n`);
}

// `agentstore fork`: makes a session that begins as another one does.
import { Command } from "commander";
import {
  integer,
  type PrintOptions,
  sessionId,
  withJsonOption,
  withStoreOptions,
} from "../options.js";
import { write, writeJson } from "../output.js";

interface ForkFlags extends PrintOptions {
  at?: number;
}

/** Defines the command. */
export function forkCommand(): Command {
  const command = new Command("fork")
    .summary("make a session that begins as another one does")
    .description("Makes a new session with the messages of another one, and prints its id.")
    .argument("<id>", "the session's id", sessionId)
    .option("--at <seq>", "the last message to take over, 0 for none", integer(0, 2 ** 53 - 1));
  return withStoreOptions(withJsonOption(command, "the new session, as one document"))
    .addHelpText(
      "after",
      `
Examples:
  agentstore fork 42
  agentstore fork 42 --at 10 --json | jq -r .id

Environment:
  AGENTSTORE_URL          as --url
  AGENTSTORE_TOKEN        as --token`,
    )
    .action(async (id: bigint, flags: ForkFlags) => {
      const { withStore } = await import("../connect.js");
      await withStore(flags, async (store) => {
        const options = flags.at === undefined ? {} : { atSeq: flags.at };
        const session = await store.forkSession(id, options);
        if (flags.json) await writeJson(session);
        else await write(`${session.id}\n`);
      });
    });
}

// `agentstore state`: shows the JSON document that an agent keeps with a session.
import { Command } from "commander";
import { type PrintOptions, sessionId, withJsonOption, withStoreOptions } from "../options.js";
import { visible, write, writeJson } from "../output.js";

/** Defines the command. */
export function stateCommand(): Command {
  const command = new Command("state")
    .summary("show the state that an agent keeps with a session")
    .description("Prints the JSON document of a session, as it was written.")
    .argument("<id>", "the session's id", sessionId);
  return withStoreOptions(withJsonOption(command, "the document with its etag, as one document"))
    .addHelpText(
      "after",
      `
Examples:
  agentstore state 42 | jq .
  agentstore state 42 --json | jq -r .etag

Environment:
  AGENTSTORE_URL          as --url
  AGENTSTORE_TOKEN        as --token`,
    )
    .action(async (id: bigint, flags: PrintOptions) => {
      const { withStore } = await import("../connect.js");
      await withStore(flags, async (store) => {
        const state = await store.getState(id);
        if (flags.json) await writeJson(state);
        else if (state.etag === "") await write(`The session ${id} has no state.\n`);
        else await write(`${process.stdout.isTTY ? visible(state.state) : state.state}\n`);
      });
    });
}

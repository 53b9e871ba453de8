// `agentstore delete`: removes sessions for good.
import { Command } from "commander";
import { confirm } from "../confirm.js";
import { type PrintOptions, sessionIds, withJsonOption, withStoreOptions } from "../options.js";
import { write, writeJson } from "../output.js";

interface DeleteFlags extends PrintOptions {
  yes?: boolean;
}

/** Defines the command. */
export function deleteCommand(): Command {
  const command = new Command("delete")
    .summary("remove sessions for good")
    .description(
      "Removes sessions and all their messages for good. A session that is not there is no error.",
    )
    .argument("<id...>", "the sessions' ids", sessionIds)
    .option("-y, --yes", "do not ask; needed where there is no terminal to ask on");
  return withStoreOptions(withJsonOption(command, "a JSON line for each session"))
    .addHelpText(
      "after",
      `
Examples:
  agentstore delete 42
  agentstore sessions --model test --json | jq -r .session.id | xargs agentstore delete --yes

Environment:
  AGENTSTORE_URL          as --url
  AGENTSTORE_TOKEN        as --token`,
    )
    .action(deleteSessions);
}

async function deleteSessions(ids: bigint[], flags: DeleteFlags): Promise<void> {
  const unique = [...new Set(ids)];
  if (!flags.yes) await confirm(question(unique));
  const { withStore } = await import("../connect.js");
  await withStore(flags, async (store) => {
    for (const id of unique) {
      const deleted = await store.deleteSession(id);
      if (flags.json) await writeJson({ conversationId: id, deleted });
      else await write(deleted ? `Session ${id} deleted.\n` : `Session ${id} was not there.\n`);
    }
  });
}

function question(ids: readonly bigint[]): string {
  const what = ids.length === 1 ? `session ${ids[0]}` : `${ids.length} sessions`;
  return `Delete ${what} and all messages for good?`;
}

// `agentstore history`: lists the versions of a message.
import { Command } from "commander";
import {
  integer,
  type PrintOptions,
  sessionId,
  withJsonOption,
  withStoreOptions,
} from "../options.js";
import { oneLine, table, terminalWidth, write, writeJson } from "../output.js";

/** Defines the command. */
export function historyCommand(): Command {
  const command = new Command("history")
    .summary("list the versions of a message")
    .description("Lists what a message was, newest version first: which change, who, when.")
    .argument("<id>", "the session's id", sessionId)
    .argument("<seq>", "the message's place in the session", integer(1, 2 ** 53 - 1));
  return withStoreOptions(withJsonOption(command, "a JSON line for each version"))
    .addHelpText(
      "after",
      `
Examples:
  agentstore history 42 3
  agentstore history 42 3 --json | jq -r .message.content

Environment:
  AGENTSTORE_URL          as --url
  AGENTSTORE_TOKEN        as --token`,
    )
    .action(listVersions);
}

async function listVersions(id: bigint, seq: number, flags: PrintOptions): Promise<void> {
  const { withStore } = await import("../connect.js");
  await withStore(flags, async (store) => {
    const rows: string[][] = [];
    for await (const version of store.iterateMessageVersions(id, seq)) {
      const { message, change, changedBy, changedAt } = version;
      if (flags.json) await writeJson(version);
      else {
        rows.push([
          String(message.version),
          change,
          oneLine(changedBy),
          changedAt?.toISOString() ?? "",
          oneLine(message.content),
        ]);
      }
    }
    if (!flags.json) await write(table(COLUMNS, rows, terminalWidth()));
  });
}

const COLUMNS = [
  { header: "VERSION", align: "right" },
  { header: "CHANGE" },
  { header: "BY" },
  { header: "AT" },
  { header: "CONTENT", shrinks: true },
] as const;

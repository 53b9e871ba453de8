// `agentstore tags`: lists the tags that sessions have.
import { Command } from "commander";
import { type PrintOptions, withJsonOption, withStoreOptions } from "../options.js";
import { oneLine, table, terminalWidth, write, writeJson } from "../output.js";

/** Defines the command. */
export function tagsCommand(): Command {
  const command = new Command("tags")
    .summary("list the tags that sessions have")
    .description("Lists each tag with the number of sessions that have it.");
  return withStoreOptions(withJsonOption(command, "a JSON line for each tag"))
    .addHelpText(
      "after",
      `
Examples:
  agentstore tags
  agentstore sessions --tag urgent

Environment:
  AGENTSTORE_URL          as --url
  AGENTSTORE_TOKEN        as --token`,
    )
    .action(listTags);
}

async function listTags(flags: PrintOptions): Promise<void> {
  const { withStore } = await import("../connect.js");
  await withStore(flags, async (store) => {
    const rows: string[][] = [];
    for await (const { tag, sessionCount } of store.iterateTags({ pageSize: 1000 })) {
      if (flags.json) await writeJson({ tag, sessionCount });
      else rows.push([oneLine(tag), String(sessionCount)]);
    }
    if (flags.json) return;
    if (rows.length === 0) await write("No session has a tag.\n");
    else await write(table(COLUMNS, rows, terminalWidth()));
  });
}

const COLUMNS = [
  { header: "TAG", shrinks: true },
  { header: "SESSIONS", align: "right" },
] as const;

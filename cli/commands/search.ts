// `agentstore search`: finds messages by their text.
import { Command } from "commander";
import type { AgentMessage } from "../../client/index.js";
import {
  integer,
  type PrintOptions,
  required,
  withJsonOption,
  withStoreOptions,
} from "../options.js";
import { oneLine, table, terminalWidth, write, writeJson } from "../output.js";
import { formatMessageTime } from "../show/text.js";

interface SearchFlags extends PrintOptions {
  model?: string;
  limit: number;
}

/** Defines the command. */
export function searchCommand(): Command {
  const command = new Command("search")
    .summary("find messages that contain a text")
    .description(
      "Finds the messages whose content contains a text, upper and lower case alike, newest first.",
    )
    .argument("<query>", "the text, taken literally", required)
    .option("--model <model>", "only in the sessions of this model")
    .option("--limit <number>", "how many messages to find at the most", integer(1, 1000), 20);
  return withStoreOptions(withJsonOption(command, "a JSON line for each message"))
    .addHelpText(
      "after",
      `
Examples:
  agentstore search "refund"
  agentstore search 发票 --limit 5
  agentstore search timeout --json | jq -r '[.conversationId, .seq] | @tsv'

Environment:
  AGENTSTORE_URL          as --url
  AGENTSTORE_TOKEN        as --token`,
    )
    .action(search);
}

async function search(query: string, flags: SearchFlags): Promise<void> {
  const { withStore } = await import("../connect.js");
  await withStore(flags, async (store) => {
    const { limit } = flags;
    const found = await store.searchMessages(flags.model ?? "", query, { limit });
    if (flags.json) {
      for (const message of found) await writeJson(message);
    } else if (found.length === 0) {
      await write("No message contains this text.\n");
    } else {
      const rows = found.map((message) => row(message, query));
      await write(table(COLUMNS, rows, terminalWidth()));
    }
  });
}

const COLUMNS = [
  { header: "SESSION", align: "right" },
  { header: "SEQ", align: "right" },
  { header: "ROLE" },
  { header: "TIME" },
  { header: "TEXT", shrinks: true },
] as const;

function row(message: AgentMessage, query: string): string[] {
  return [
    String(message.conversationId),
    String(message.seq),
    message.role,
    formatMessageTime(message),
    excerpt(message.content, query),
  ];
}

const BEFORE = 24;
const AFTER = 160;

/** What stands around the first place of a text, on one line. */
function excerpt(content: string, query: string): string {
  const at = Math.max(0, content.toLowerCase().indexOf(query.toLowerCase()));
  const from = Math.max(0, at - BEFORE);
  const to = Math.min(content.length, at + query.length + AFTER);
  const middle = oneLine(content.slice(from, to).toWellFormed());
  return `${from > 0 ? "…" : ""}${middle}${to < content.length ? "…" : ""}`;
}

// `agentstore sessions`: lists sessions by last activity.
import { Command } from "commander";
import type { SessionSummary } from "../../client/index.js";
import { type FilterFlags, filterOf, withFilterOptions } from "../filter-options.js";
import { integer, type PrintOptions, withJsonOption, withStoreOptions } from "../options.js";
import { table, terminalWidth, write, writeJson } from "../output.js";
import { formatTime } from "../show/text.js";

interface SessionsFlags extends PrintOptions, FilterFlags {
  model?: string;
  limit: number;
}

/** Defines the command. */
export function sessionsCommand(): Command {
  const command = new Command("sessions")
    .summary("list sessions, those with the latest messages first")
    .description("Lists sessions by last activity, newest first; those without messages last.")
    .option("--model <model>", "only the sessions of this model")
    .option("--limit <number>", "how many to list at the most", integer(1, 1_000_000), 50);
  return withStoreOptions(
    withJsonOption(withFilterOptions(command), "a JSON line for each session"),
  )
    .addHelpText(
      "after",
      `
Examples:
  agentstore sessions --limit 10
  agentstore sessions --model gpt-4 --json | jq -r .session.id
  agentstore sessions --owner alice --tag urgent --metadata '{"env":"prod"}'

Environment:
  AGENTSTORE_URL          as --url
  AGENTSTORE_TOKEN        as --token`,
    )
    .action(listSessions);
}

async function listSessions(flags: SessionsFlags): Promise<void> {
  const { withStore } = await import("../connect.js");
  await withStore(flags, async (store) => {
    const rows: string[][] = [];
    let left = flags.limit;
    const filter = filterOf(flags);
    const pages = store.iterateSessionPages(flags.model ?? "", {
      pageSize: Math.min(left, 1000),
      filter,
    });
    for await (const { sessions } of pages) {
      for (const summary of sessions.slice(0, left)) {
        if (flags.json) await writeJson(summary);
        else rows.push(row(summary));
      }
      left -= sessions.length;
      if (left <= 0) break;
    }
    if (flags.json) return;
    if (rows.length === 0) {
      const of = flags.model === undefined ? "" : ` of the model ${flags.model}`;
      await write(
        filter
          ? `No session${of} is as asked for.\n`
          : `There are no sessions${of}. \`agentstore import FILE\` brings some in.\n`,
      );
      return;
    }
    await write(table(COLUMNS, rows, terminalWidth()));
  });
}

const COLUMNS = [
  { header: "ID", align: "right" },
  { header: "MODEL", shrinks: true },
  { header: "TITLE", shrinks: true },
  { header: "MESSAGES", align: "right" },
  { header: "LAST ACTIVITY" },
  { header: "FIRST MESSAGE", shrinks: true },
] as const;

function row({ session, messageCount, lastMessageTime, firstMessage }: SessionSummary): string[] {
  return [
    String(session.id),
    session.modelId,
    session.title,
    String(messageCount),
    lastMessageTime ? formatTime(lastMessageTime) : "-",
    firstMessage ?? "-",
  ];
}

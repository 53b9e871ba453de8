// `agentstore export`: writes sessions to a file or to stdout.
import { Command, Option } from "commander";
import type { AgentStoreClient, ExportFormat, SessionFilter } from "../../client/index.js";
import { CliError, exitCodes, UsageError } from "../errors.js";
import { required, type StoreOptions, sessionIds, withStoreOptions } from "../options.js";

interface ExportFlags extends StoreOptions {
  format: ExportFormat;
  output?: string;
  model?: string;
  tag?: string[];
  owner?: string;
}

/** Defines the command. */
export function exportCommand(): Command {
  const command = new Command("export")
    .summary("write sessions to a file")
    .description(
      "Exports sessions, in the order of their ids, as they all were at one moment. " +
        "An export to a file that is cut off goes on by itself.",
    )
    .argument(
      "[id...]",
      "the sessions' ids; none: all, or those that the options choose",
      sessionIds,
    )
    .addOption(
      new Option(
        "--format <format>",
        "jsonl: all that the store knows, for agentstore import (default); json: one array of " +
          "sessions with their messages; csv: a row for each message, for spreadsheets; " +
          'openai: a line {"messages":[…]} for each session',
      )
        .choices(["jsonl", "json", "csv", "openai"])
        .default("jsonl", "jsonl"),
    )
    .option("-o, --output <file>", "the file to write (default: stdout)", required)
    .option("--model <model>", "only the sessions of this model", required)
    .option("--tag <tag...>", "only the sessions that have all of these tags")
    .option("--owner <owner>", "only the sessions of this owner", required);
  return withStoreOptions(command)
    .addHelpText(
      "after",
      `
Examples:
  agentstore export -o sessions.jsonl
  agentstore export 42 43 --format openai > conversations.jsonl
  agentstore export --model gpt-4 --tag paid --format csv -o paid.csv

Environment:
  AGENTSTORE_URL          as --url
  AGENTSTORE_TOKEN        as --token`,
    )
    .action(exportSessions);
}

async function exportSessions(ids: bigint[] | undefined, flags: ExportFlags): Promise<void> {
  const conversationIds = ids ?? [];
  const filter: SessionFilter = {
    ...(flags.tag && { allTags: flags.tag }),
    ...(flags.owner !== undefined && { ownerId: flags.owner }),
  };
  const chosen = flags.model !== undefined || Object.keys(filter).length > 0;
  if (conversationIds.length > 0 && chosen) {
    throw new UsageError("ids do not go with --model, --tag and --owner", "Name one or the other.");
  }
  const what = { conversationIds, modelId: flags.model, filter };
  const [{ withStore }, { toFile, toStdout }] = await Promise.all([
    import("../connect.js"),
    import("../export/write.js"),
  ]);
  const interruption = new AbortController();
  // Once only: a second signal ends the process at once, as it always does.
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => interruption.abort(signal));
  }
  const { signal } = interruption;
  await withStore(flags, async (store: AgentStoreClient) => {
    try {
      const { output, format } = flags;
      if (output === undefined) await toStdout(store, format, what, signal);
      else await toFile(store, format, what, output, signal);
    } catch (error) {
      if (!signal.aborted) throw error;
      throw new CliError("interrupted", "The output is not complete.", exitCodes.interrupted);
    }
  });
}

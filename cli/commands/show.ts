// `agentstore show`: prints one session.
import { Command, Option } from "commander";
import type { AgentStoreClient } from "../../client/index.js";
import { UsageError } from "../errors.js";
import {
  integer,
  type PrintOptions,
  sessionId,
  withJsonOption,
  withStoreOptions,
} from "../options.js";
import { write, writeJson } from "../output.js";
import type { Envelope } from "../show/json-line.js";
import { transcriptHeader, transcriptMessage } from "../show/text.js";

type Format = "text" | "openai" | "source" | "json";

interface ShowFlags extends PrintOptions {
  format?: Format;
  last?: number;
  deleted?: boolean;
}

/** Defines the command. */
export function showCommand(): Command {
  const command = new Command("show")
    .summary("print a session")
    .description("Prints the messages of a session, oldest first, however many there are.")
    .argument("<id>", "the session's id", sessionId)
    .addOption(
      new Option(
        "--format <format>",
        'text: a transcript to read (default); openai: one JSON line {"messages":[…]} of OpenAI ' +
          "chat messages; source: one JSON line in the form that the session was imported from; " +
          "json: a JSON line for each message with all that the store knows of it",
      ).choices(["text", "openai", "source", "json"]),
    )
    .option("--last <number>", "only the last so many messages", integer(1, 2 ** 31 - 1))
    .option("--deleted", "deleted messages too", false);
  return withStoreOptions(withJsonOption(command, "as --format json does"))
    .addHelpText(
      "after",
      `
Examples:
  agentstore show 42
  agentstore show 42 --last 10 --json | jq -r .content
  agentstore show 42 --format openai > conversation.jsonl

Environment:
  AGENTSTORE_URL          as --url
  AGENTSTORE_TOKEN        as --token
  NO_COLOR                no colours on a terminal either`,
    )
    .action(async (id: bigint, flags: ShowFlags) => {
      const format = chooseFormat(flags);
      const { withStore } = await import("../connect.js");
      await withStore(flags, (store) => show(store, id, format, flags));
    });
}

function chooseFormat({ format, json }: ShowFlags): Format {
  if (json && format !== undefined && format !== "json") {
    throw new UsageError(`--json and --format ${format} are two formats`, "Name one of them.");
  }
  return json ? "json" : (format ?? "text");
}

async function show(
  store: AgentStoreClient,
  id: bigint,
  format: Format,
  { last, deleted }: Pick<ShowFlags, "last" | "deleted">,
): Promise<void> {
  const session = await store.getSession(id);
  const messages = store.streamMessages(id, { lastN: last, showDeleted: deleted });
  if (format === "json") {
    for await (const message of messages) await writeJson(message);
  } else if (format === "text") {
    const { totalMessages } = await store.getSessionStats(id);
    await write(transcriptHeader(session, totalMessages));
    for await (const message of messages) await write(transcriptMessage(message));
  } else {
    const { openAiEnvelope, sourceEnvelope } = await import("../show/json-line.js");
    const envelope: Envelope = format === "source" ? sourceEnvelope(session) : openAiEnvelope();
    await write(envelope.before);
    let separator = "";
    for await (const message of messages) {
      await write(separator + envelope.message(message));
      separator = ",";
    }
    await write(`${envelope.after}\n`);
  }
}

// `agentstore embeddings`: how far search by meaning is, and what could not be embedded.
import { Command } from "commander";
import type { EmbeddingFailure, SearchStatus } from "../../client/index.js";
import {
  integer,
  type PrintOptions,
  sessionId,
  withJsonOption,
  withStoreOptions,
} from "../options.js";
import { oneLine, table, terminalWidth, write, writeJson } from "../output.js";
import { formatTime } from "../show/text.js";

interface SessionFlags extends PrintOptions {
  session?: bigint;
}

interface FailuresFlags extends SessionFlags {
  limit: number;
}

const ENVIRONMENT = `
Environment:
  AGENTSTORE_URL          as --url
  AGENTSTORE_TOKEN        as --token; one that the server's token file marks with admin`;

/** Defines the command. */
export function embeddingsCommand(): Command {
  return new Command("embeddings")
    .summary("see what waits for its embedding, and what could not be embedded")
    .description("The embeddings of the token's tenant, which search by meaning rests on.")
    .addCommand(statusCommand())
    .addCommand(failuresCommand())
    .addCommand(retryCommand());
}

function statusCommand(): Command {
  const command = new Command("status").description("Shows how far search is behind.");
  return withStoreOptions(withJsonOption(command, "one JSON document"))
    .addHelpText("after", ENVIRONMENT)
    .action(status);
}

function failuresCommand(): Command {
  const command = new Command("failures")
    .description("Lists the messages that the endpoint would not embed, and why.")
    .option("--session <id>", "only those of this session", sessionId)
    .option("--limit <number>", "how many to list at the most", integer(1, 1_000), 100);
  return withStoreOptions(withJsonOption(command, "a JSON line for each"))
    .addHelpText("after", ENVIRONMENT)
    .action(failures);
}

function retryCommand(): Command {
  const command = new Command("retry")
    .description("Has them tried again.")
    .option("--session <id>", "only those of this session", sessionId);
  return withStoreOptions(withJsonOption(command, "one JSON document"))
    .addHelpText("after", ENVIRONMENT)
    .action(retry);
}

async function status(flags: PrintOptions): Promise<void> {
  const { withStore } = await import("../connect.js");
  await withStore(flags, async (store) => {
    const found = await store.getSearchStatus();
    if (flags.json) await writeJson(found);
    else await write(lines(found));
  });
}

async function failures(flags: FailuresFlags): Promise<void> {
  const { withStore } = await import("../connect.js");
  await withStore(flags, async (store) => {
    const { limit, session } = flags;
    const page = await store.listEmbeddingFailures({ conversationId: session, pageSize: limit });
    if (flags.json) {
      for (const failure of page.failures) await writeJson(failure);
    } else if (page.failures.length === 0) {
      await write("There are none.\n");
    } else {
      await write(table(COLUMNS, page.failures.map(row), terminalWidth()));
    }
  });
}

async function retry(flags: SessionFlags): Promise<void> {
  const { withStore } = await import("../connect.js");
  await withStore(flags, async (store) => {
    const retried = await store.retryEmbeddings({ conversationId: flags.session });
    if (flags.json) await writeJson({ retried });
    else await write(`${retried} ${retried === 1n ? "message waits" : "messages wait"} again.\n`);
  });
}

const COLUMNS = [
  { header: "SESSION", align: "right" },
  { header: "SEQ", align: "right" },
  { header: "TRIES", align: "right" },
  { header: "GIVEN UP" },
  { header: "WHY", shrinks: true },
] as const;

function row({ conversationId, seq, tries, failedAt, error }: EmbeddingFailure): string[] {
  return [
    String(conversationId),
    String(seq),
    String(tries),
    failedAt ? formatTime(failedAt) : "-",
    oneLine(error),
  ];
}

function lines(found: SearchStatus): string {
  const { embeddingModel, embeddingDimensions, embeddingBackfilled, embeddingError } = found;
  const facts: [string, string][] = [
    ["not in the index of full text", found.unindexedMessages.toLocaleString("en")],
    ["model of embeddings", oneLine(embeddingModel) || "none on this server"],
    ["messages that wait", found.pendingEmbeddings.toLocaleString("en")],
    ["longest wait", `${(Number(found.embeddingLagMs) / 1000).toFixed(1)} s`],
    ["messages given up", found.failedEmbeddings.toLocaleString("en")],
  ];
  if (embeddingModel !== "") {
    facts.push(["numbers of a vector", embeddingDimensions ? String(embeddingDimensions) : "-"]);
    facts.push(["older messages", embeddingBackfilled ? "all queued" : "being queued"]);
    facts.push(["index of vectors", found.embeddingIndexed ? "yes" : "no"]);
  }
  if (embeddingError !== "") facts.push(["the endpoint", oneLine(embeddingError)]);
  return facts.map(([name, value]) => `${name.padEnd(32)}${value}\n`).join("");
}

// `agentstore tail`: follows a session, or many, in the terminal.
import { Command } from "commander";
import type { AgentStoreClient, SessionEvent } from "../../client/index.js";
import { UsageError } from "../errors.js";
import { several } from "../filter-options.js";
import {
  integer,
  modelName,
  type PrintOptions,
  required,
  sessionId,
  withJsonOption,
  withStoreOptions,
} from "../options.js";
import { oneLine, write, writeJson } from "../output.js";
import { transcriptEvent, transcriptHeader } from "../show/text.js";

interface TailFlags extends PrintOptions {
  last?: number;
  fromStart?: boolean;
  model?: string;
  owner?: string;
  tag?: string[];
}

const LAST = 10;

/** Defines the command. */
export function tailCommand(): Command {
  const command = new Command("tail")
    .summary("follow a session, or many, as it happens")
    .description(
      "Prints the last messages of a session, then what happens to it as it happens, changes and " +
        "deletions too, until the session is deleted or Ctrl-C. Without an id: what happens to all " +
        "sessions, or to those that are asked for. When the server is away, it waits for it and goes " +
        "on: nothing is left out.",
    )
    .argument("[id]", "the session's id; none to follow many", sessionId)
    .option(
      "--last <number>",
      `with an id: how many messages to print first (default: ${LAST})`,
      integer(0, 2 ** 31 - 1),
    )
    .option("--from-start", "print all that is there first, however much it is")
    .option("--model <model>", "only sessions of this model", modelName)
    .option("--owner <id>", "only sessions of this owner", required)
    .option("--tag <tag>", "only sessions with this tag; several times: with all of them", several);
  return withStoreOptions(withJsonOption(command, "a JSON line for each event"))
    .addHelpText(
      "after",
      `
Examples:
  agentstore tail 42
  agentstore tail 42 --last 100
  agentstore tail 42 --from-start --json | jq -r 'select(.kind == "message_appended").message.content'
  agentstore tail --model gpt-4 --tag urgent

Events of --json, each with its kind, conversationId and revision:
  message_appended, message_updated, message_deleted   with the message
  session_changed                                      with the session
  session_deleted
  caught_up, fell_behind                               from here on as it happens; from storage

Exit code: 0 also after Ctrl-C. That the connection was lost, and is back, is told on stderr.

Environment:
  AGENTSTORE_URL          as --url
  AGENTSTORE_TOKEN        as --token
  NO_COLOR                no colours on a terminal either`,
    )
    .action(tail);
}

async function tail(id: bigint | undefined, flags: TailFlags): Promise<void> {
  check(id, flags);
  const interruption = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) {
    process.once(name, () => interruption.abort(name));
  }
  const { signal } = interruption;
  const { withStore } = await import("../connect.js");
  await withStore(flags, async (store) => {
    try {
      if (id === undefined) await followMany(store, flags, signal);
      else await followOne(store, id, flags, signal);
    } catch (error) {
      // That is how it is ended.
      if (!signal.aborted) throw error;
    }
  });
}

function check(id: bigint | undefined, { last, fromStart, model, owner, tag }: TailFlags): void {
  if (id !== undefined && (model ?? owner ?? tag) !== undefined) {
    throw new UsageError("--model, --owner and --tag choose sessions", "Leave the id out.");
  }
  if (last !== undefined && (fromStart || id === undefined)) {
    throw new UsageError(
      fromStart ? "--last and --from-start are two beginnings" : "--last needs the id of a session",
      fromStart ? "Name one of them." : "--from-start prints the whole history of many.",
    );
  }
}

async function followOne(
  store: AgentStoreClient,
  id: bigint,
  { json, fromStart, last = LAST }: TailFlags,
  signal: AbortSignal,
): Promise<void> {
  const session = await store.getSession(id, { signal });
  if (!json) {
    const { totalMessages } = await store.getSessionStats(id, { signal });
    await write(transcriptHeader(session, totalMessages));
  }
  const print = printer(json, false);
  // The messages that are printed as they were later than the watch begins.
  const later = new Map<bigint, bigint>();
  if (fromStart || last > 0) {
    const beforeSeq = session.lastSeq + 1n;
    const range = fromStart ? { beforeSeq } : { beforeSeq, lastN: last };
    for await (const message of store.streamMessages(id, { ...range, signal })) {
      const { seq, revision } = message;
      if (revision > session.revision) later.set(seq, revision);
      await print({ kind: "message_appended", conversationId: id, revision, message });
    }
  }
  for await (const event of store.watchSession(id, { after: session.revision, signal })) {
    if (event.kind === "caught_up") later.clear();
    const printed = "message" in event ? later.get(event.message.seq) : undefined;
    if (printed === undefined || printed < event.revision) await print(event);
  }
}

async function followMany(
  store: AgentStoreClient,
  { json, fromStart, model, owner, tag }: TailFlags,
  signal: AbortSignal,
): Promise<void> {
  const print = printer(json, true);
  const after = fromStart ? "" : undefined;
  const chosen = { modelId: model, ownerId: owner, tags: tag };
  for await (const { events } of store.watchSessions({ ...chosen, after, signal })) {
    for (const event of events) await print(event);
  }
}

function printer(json = false, many: boolean): (event: SessionEvent) => Promise<void> {
  return async (event) => {
    if (event.kind === "interrupted") {
      process.stderr.write(
        `the connection was lost, trying again: ${oneLine(event.error.message)}\n`,
      );
    } else if (event.kind === "reconnected") {
      process.stderr.write("connected again, going on where it broke off\n");
    } else if (json) {
      await writeJson(event);
    } else {
      await write(transcriptEvent(event, many));
    }
  };
}

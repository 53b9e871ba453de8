// `agentstore snapshots`: lists, takes and goes back to the snapshots of a session.
import { Command } from "commander";
import {
  type PrintOptions,
  type StoreOptions,
  sessionId,
  snapshotId,
  withJsonOption,
  withStoreOptions,
} from "../options.js";
import { oneLine, table, terminalWidth, write, writeJson } from "../output.js";

const ENVIRONMENT = `
Environment:
  AGENTSTORE_URL          as --url
  AGENTSTORE_TOKEN        as --token`;

/** Defines the command and its subcommands. */
export function snapshotsCommand(): Command {
  return new Command("snapshots")
    .summary("list, take and go back to the snapshots of a session")
    .addCommand(listCommand())
    .addCommand(takeCommand())
    .addCommand(restoreCommand())
    .addCommand(deleteCommand())
    .addHelpText(
      "after",
      `
Examples:
  agentstore snapshots take 42 --name "before the tools"
  agentstore snapshots list 42
  agentstore snapshots restore 42 7
  agentstore snapshots restore 42 7 --roll-back
${ENVIRONMENT}`,
    );
}

function listCommand(): Command {
  const command = new Command("list")
    .description("Lists the snapshots of a session, newest first.")
    .argument("<id>", "the session's id", sessionId);
  return withStoreOptions(withJsonOption(command, "a JSON line for each snapshot"))
    .addHelpText("after", ENVIRONMENT)
    .action(async (id: bigint, flags: PrintOptions) => {
      const { withStore } = await import("../connect.js");
      await withStore(flags, async (store) => {
        const rows: string[][] = [];
        for await (const snapshot of store.iterateSnapshots(id)) {
          if (flags.json) await writeJson(snapshot);
          else {
            rows.push([
              String(snapshot.id),
              snapshot.createdAt.toISOString(),
              oneLine(snapshot.createdBy),
              String(snapshot.lastSeq),
              oneLine(snapshot.name),
            ]);
          }
        }
        if (flags.json) return;
        if (rows.length === 0) await write(`The session ${id} has no snapshot.\n`);
        else await write(table(COLUMNS, rows, terminalWidth()));
      });
    });
}

function takeCommand(): Command {
  const command = new Command("take")
    .description("Takes a snapshot of a session as it is now, and prints its id.")
    .argument("<id>", "the session's id", sessionId)
    .option("--name <name>", "a name for people", "");
  return withStoreOptions(command)
    .addHelpText("after", ENVIRONMENT)
    .action(async (id: bigint, flags: StoreOptions & { name: string }) => {
      const { withStore } = await import("../connect.js");
      await withStore(flags, async (store) => {
        await write(`${(await store.createSnapshot(id, { name: flags.name })).id}\n`);
      });
    });
}

function restoreCommand(): Command {
  const command = new Command("restore")
    .description(
      "Makes a new session of a snapshot and prints its id; with --roll-back, makes the session " +
        "itself what it was, and keeps what is undone as versions.",
    )
    .argument("<id>", "the session's id", sessionId)
    .argument("<snapshot>", "the snapshot's id", snapshotId)
    .option("--roll-back", "change the session itself", false);
  return withStoreOptions(command)
    .addHelpText("after", ENVIRONMENT)
    .action(async (id: bigint, snapshot: bigint, flags: StoreOptions & { rollBack: boolean }) => {
      const { withStore } = await import("../connect.js");
      const mode = flags.rollBack ? "roll_back" : "fork";
      await withStore(flags, async (store) => {
        await write(`${(await store.restoreSnapshot(id, snapshot, mode)).id}\n`);
      });
    });
}

function deleteCommand(): Command {
  const command = new Command("delete")
    .description("Removes a snapshot; the session stays as it is.")
    .argument("<id>", "the session's id", sessionId)
    .argument("<snapshot>", "the snapshot's id", snapshotId);
  return withStoreOptions(command)
    .addHelpText("after", ENVIRONMENT)
    .action(async (id: bigint, snapshot: bigint, flags: StoreOptions) => {
      const { withStore } = await import("../connect.js");
      await withStore(flags, async (store) => {
        const deleted = await store.deleteSnapshot(id, snapshot);
        await write(
          deleted ? `Removed the snapshot ${snapshot}.\n` : "There is no such snapshot.\n",
        );
      });
    });
}

const COLUMNS = [
  { header: "ID", align: "right" },
  { header: "TAKEN AT" },
  { header: "BY" },
  { header: "LAST SEQ", align: "right" },
  { header: "NAME", shrinks: true },
] as const;

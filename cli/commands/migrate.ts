// `agentstore migrate`: brings the database's schema up to date and ends.
import { Command } from "commander";
import { write } from "../output.js";
import { addDatabaseOptions, chooseDatabase, type DatabaseFlags } from "./database-options.js";

/** Defines the command. */
export function migrateCommand(): Command {
  const command = new Command("migrate")
    .summary("bring the database's schema up to date")
    .description(
      "Applies the migrations that the database does not have yet and prints from which version " +
        "to which it went. `agentstore serve` does the same when it starts.",
    );
  return addDatabaseOptions(command)
    .addHelpText(
      "after",
      `
Examples:
  agentstore migrate --database-url postgres://app@db/agents
  DATABASE_URL=postgres://app@db/agents agentstore migrate

Environment:
  DATABASE_URL            as --database-url`,
    )
    .action(async (flags: DatabaseFlags) => {
      const { runMigrate } = await import("../../server/main.js");
      const { from, to } = await runMigrate({ ...chooseDatabase(flags), logLevel: "warn" });
      await write(
        from === to
          ? `The schema is up to date at version ${to}.\n`
          : `The schema went from version ${from} to version ${to}.\n`,
      );
    });
}

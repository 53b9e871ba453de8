// The options of the commands that work on the database itself.
import { type Command, Option } from "commander";
import { required } from "../options.js";

/** What the command line says about the database. */
export interface DatabaseFlags {
  databaseUrl?: string;
  dataDir?: string;
}

/** Adds --database-url and --data-dir. */
export function addDatabaseOptions(command: Command): Command {
  return command
    .addOption(
      new Option("--database-url <url>", "the Postgres to use: postgres://USER@HOST/DATABASE")
        .conflicts("dataDir")
        .argParser(required),
    )
    .addOption(
      new Option(
        "--data-dir <directory>",
        "run a Postgres of its own there (default: ./agentstore-data, unless DATABASE_URL is set)",
      ).argParser(required),
    );
}

/**
 * Chooses the database: what the command line names goes before DATABASE_URL. Neither of the two:
 * the server's default directory.
 */
export function chooseDatabase({ databaseUrl, dataDir }: DatabaseFlags): DatabaseFlags {
  if (dataDir !== undefined) return { dataDir };
  const url = databaseUrl ?? process.env["DATABASE_URL"];
  return url ? { databaseUrl: url } : {};
}

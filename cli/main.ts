#!/usr/bin/env node
// The `agentstore` command: its subcommands, and how it ends.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Command, CommanderError } from "commander";
import { projectRoot } from "../server/paths.js";
import { auditCommand } from "./commands/audit.js";
import { deleteCommand } from "./commands/delete.js";
import { embeddingsCommand } from "./commands/embeddings.js";
import { eraseCommand } from "./commands/erase.js";
import { exportCommand } from "./commands/export.js";
import { forkCommand } from "./commands/fork.js";
import { historyCommand } from "./commands/history.js";
import { importCommand } from "./commands/import.js";
import { migrateCommand } from "./commands/migrate.js";
import { repairCommand } from "./commands/repair.js";
import { searchCommand } from "./commands/search.js";
import { serveCommand } from "./commands/serve.js";
import { sessionsCommand } from "./commands/sessions.js";
import { showCommand } from "./commands/show.js";
import { snapshotsCommand } from "./commands/snapshots.js";
import { stateCommand } from "./commands/state.js";
import { statsCommand } from "./commands/stats.js";
import { tagsCommand } from "./commands/tags.js";
import { exitCodes, reportError } from "./errors.js";
import { exitOnClosedPipe } from "./output.js";

const COMMANDS = [
  serveCommand,
  migrateCommand,
  importCommand,
  exportCommand,
  sessionsCommand,
  showCommand,
  historyCommand,
  forkCommand,
  snapshotsCommand,
  searchCommand,
  embeddingsCommand,
  statsCommand,
  repairCommand,
  stateCommand,
  tagsCommand,
  deleteCommand,
  eraseCommand,
  auditCommand,
];

function program(): Command {
  const root = new Command("agentstore")
    .description("Keeps the conversations of AI agents: durable, in order, and easy to find again.")
    .version(version(), "-V, --version", "print the version")
    .addHelpText(
      "after",
      `
Examples:
  agentstore serve                       start a server, with a database of its own
  agentstore import conversations.jsonl  bring conversations in
  agentstore sessions                    see what is there
  agentstore show 1                      read one

Environment:
  AGENTSTORE_URL     the server that commands talk to (default agentstore://127.0.0.1:50051)
  AGENTSTORE_TOKEN   the bearer token that they send
  DATABASE_URL       the Postgres that serve and migrate use
  NO_COLOR           no colours

Exit code: 0 done, 1 something failed, 2 wrong usage, 130 interrupted.
\`agentstore COMMAND --help\` says more about each command.`,
    );
  for (const define of COMMANDS) root.addCommand(define());
  for (const command of withSubcommands(root)) {
    command
      .exitOverride()
      .showHelpAfterError(`\`${commandLine(command)} --help\` shows what is possible.`);
  }
  return root;
}

function withSubcommands(command: Command): Command[] {
  return [command, ...command.commands.flatMap(withSubcommands)];
}

function commandLine(command: Command): string {
  return command.parent ? `${commandLine(command.parent)} ${command.name()}` : command.name();
}

function version(): string {
  const manifest = readFileSync(join(projectRoot, "package.json"), "utf8");
  return (JSON.parse(manifest) as { version: string }).version;
}

exitOnClosedPipe();
try {
  await program().parseAsync();
} catch (error) {
  // Commander has written its message already. It exits with 1 for wrong usage.
  if (!(error instanceof CommanderError)) process.exitCode = reportError(error);
  else process.exitCode = error.exitCode === 0 ? exitCodes.done : exitCodes.usage;
}

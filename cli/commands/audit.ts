// `agentstore audit`: who changed what, and whether that record is intact.
import { Command, InvalidArgumentError } from "commander";
import type { AuditAnchor, AuditEvent, ListAuditEventsOptions } from "../../client/index.js";
import { exitCodes } from "../errors.js";
import {
  integer,
  type PrintOptions,
  sessionId,
  withJsonOption,
  withStoreOptions,
} from "../options.js";
import { oneLine, table, terminalWidth, write, writeJson } from "../output.js";
import { formatTime } from "../show/text.js";

interface ListFlags extends PrintOptions {
  session?: bigint;
  principal?: string;
  rpc?: string;
  since?: Date;
  until?: Date;
  requestId?: string;
  limit: number;
}

interface VerifyFlags extends PrintOptions {
  after?: AuditAnchor;
}

const ENVIRONMENT = `
Environment:
  AGENTSTORE_URL          as --url
  AGENTSTORE_TOKEN        as --token; one that the server's token file marks with admin`;

/** Defines the command. */
export function auditCommand(): Command {
  return new Command("audit")
    .summary("show and verify the audit log")
    .description("The audit log of the token's tenant: who changed what, from where and when.")
    .addCommand(listCommand())
    .addCommand(verifyCommand());
}

function listCommand(): Command {
  const command = new Command("list")
    .description("Lists changes, newest first.")
    .option("--session <id>", "only changes to this session", sessionId)
    .option("--principal <name>", "only changes by this principal")
    .option("--rpc <name>", "only changes by this RPC, for example DeleteSession")
    .option("--since <time>", "only changes at this time or later, in RFC 3339", time)
    .option("--until <time>", "only changes before this time", time)
    .option("--request-id <id>", "only changes with this request_id")
    .option("--limit <number>", "how many to list at the most", integer(1, 1_000_000), 50);
  return withStoreOptions(withJsonOption(command, "a JSON line for each change"))
    .addHelpText(
      "after",
      `
Examples:
  agentstore audit list --session 42
  agentstore audit list --rpc DeleteSession --since 2026-01-01T00:00:00Z --json
${ENVIRONMENT}`,
    )
    .action(list);
}

function verifyCommand(): Command {
  const command = new Command("verify")
    .description(
      "Holds the audit log against its hashes. Says where it was changed, and what to keep: " +
        "verified after an anchor that was kept elsewhere, a log that was written anew shows too.",
    )
    .option("--after <anchor>", "begin behind POSITION:CHAIN, as an earlier run said", anchor);
  return withStoreOptions(withJsonOption(command, "the result"))
    .addHelpText(
      "after",
      `
Examples:
  agentstore audit verify
  agentstore audit verify --after 1000:5f2b…

Exit code:
  0  the log is intact
  1  it is not, or the server failed
${ENVIRONMENT}`,
    )
    .action(verify);
}

async function list(flags: ListFlags): Promise<void> {
  const { withStore } = await import("../connect.js");
  const options: ListAuditEventsOptions = {
    conversationId: flags.session,
    principal: flags.principal,
    rpc: flags.rpc,
    startTime: flags.since,
    endTime: flags.until,
    requestId: flags.requestId,
    pageSize: Math.min(flags.limit, 1_000),
    newestFirst: true,
  };
  await withStore(flags, async (store) => {
    const rows: string[][] = [];
    let left = flags.limit;
    for await (const event of store.iterateAuditEvents(options)) {
      if (flags.json) await writeJson(plain(event));
      else rows.push(row(event));
      if (--left === 0) break;
    }
    if (flags.json) return;
    if (rows.length === 0) await write("There are no such changes.\n");
    else await write(table(COLUMNS, rows, terminalWidth()));
  });
}

async function verify(flags: VerifyFlags): Promise<void> {
  const { withStore } = await import("../connect.js");
  await withStore(flags, async (store) => {
    const { checked, fault, end } = await store.verifyAudit({
      after: flags.after,
      onProgress: (events) => process.stderr.write(`… ${events.toLocaleString("en")} events\n`),
    });
    const kept = `${end.position}:${hex(end.chain)}`;
    if (fault) process.exitCode = exitCodes.failed;
    if (flags.json) {
      await writeJson({ intact: fault === undefined, checked, fault, end: kept });
      return;
    }
    const events = `${checked.toLocaleString("en")} ${checked === 1n ? "event" : "events"}`;
    if (fault) {
      await write(`The audit log is NOT intact: ${oneLine(fault.description)} (${fault.kind}).\n`);
      await write(`${events} before it ${checked === 1n ? "is" : "are"} right.\n`);
      return;
    }
    await write(`The audit log is intact: ${events} checked.\n`);
    if (end.position > 0n) await write(`Keep this elsewhere, for --after: ${kept}\n`);
  });
}

const COLUMNS = [
  { header: "POSITION", align: "right" },
  { header: "TIME" },
  { header: "PRINCIPAL", shrinks: true },
  { header: "PEER", shrinks: true },
  { header: "RPC" },
  { header: "SESSION", align: "right" },
  { header: "SEQ", align: "right" },
  { header: "FIELDS", shrinks: true },
  { header: "REQUEST ID", shrinks: true },
] as const;

function row(event: AuditEvent): string[] {
  return [
    String(event.position),
    formatTime(event.time),
    event.principal,
    event.peer || "-",
    event.rpc,
    event.conversationId === 0n ? "-" : String(event.conversationId),
    event.seq === 0n ? "-" : String(event.seq),
    event.fields.join(",") || "-",
    event.requestId || "-",
  ];
}

function plain({ hash, chain, ...event }: AuditEvent): object {
  return { ...event, hash: hex(hash), chain: hex(chain) };
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

function time(text: string): Date {
  const value = new Date(text);
  if (!/^\d{4}-\d{2}-\d{2}/.test(text) || Number.isNaN(value.getTime())) {
    throw new InvalidArgumentError("It must be a time such as 2026-01-31T12:00:00Z.");
  }
  return value;
}

function anchor(text: string): AuditAnchor {
  const [, position = "", chain = ""] = /^(\d{1,18}):([0-9a-f]{64})$/i.exec(text) ?? [];
  if (position === "") {
    throw new InvalidArgumentError("It must be POSITION:CHAIN, as `audit verify` says.");
  }
  return { position: BigInt(position), chain: Buffer.from(chain, "hex") };
}

// JSONL: all that the store knows, a line of the contract's ExportLine each.
import { ExportLine } from "../../../gen/agentstore/v1/transfer.js";
import type { ExportedMessage, Format } from "./format.js";

/** The form of the lines that this server writes and reads. */
export const SCHEMA_VERSION = 1;

type Line = NonNullable<ExportLine["line"]>;

export const jsonl: Format = {
  begin: (time) => line({ $case: "header", value: { schemaVersion: SCHEMA_VERSION, time } }),
  beginSession: (value) => line({ $case: "session", value }),
  message: (message) => messageLine("message", message),
  endSession: ({ id }, { messages, versions, snapshots }) =>
    line({
      $case: "end",
      value: {
        conversationId: id,
        messages: BigInt(messages),
        versions: BigInt(versions),
        snapshots: BigInt(snapshots),
      },
    }),
  end: () => "",
  whole: {
    version: (message) => messageLine("version", message),
    state: (state) => line({ $case: "state", value: { ...state, etag: "" } }),
    snapshot: (value) => line({ $case: "snapshot", value }),
  },
};

function line(value: Line): string {
  return `${JSON.stringify(ExportLine.toJSON({ line: value }))}\n`;
}

function messageLine(kind: "message" | "version", { version, timed }: ExportedMessage): string {
  const json = ExportLine.toJSON({ line: { $case: kind, value: version } }) as {
    [kind]: { message: { timestampMs?: string } };
  } & Record<typeof kind, { message: { timestampMs?: string } }>;
  // Zero is left out, and here it differs from none.
  if (timed) json[kind].message.timestampMs ??= "0";
  return `${JSON.stringify(json)}\n`;
}

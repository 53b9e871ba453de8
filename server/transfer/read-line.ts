// Reads a line of an import: strictly, as the contract's ExportLine in protobuf's JSON mapping.
import { createFileRegistry, fromJson, type JsonValue, toBinary } from "@bufbuild/protobuf";
import { ExportLine } from "../../gen/agentstore/v1/transfer.js";
import { RpcError } from "../errors/rpc-error.js";
import { present } from "../present.js";
import { decodeRequest } from "../rpc/decode.js";
import { descriptorSet } from "../rpc/descriptors.js";

/** What a line holds. */
export type Line = NonNullable<ExportLine["line"]>;

/** A line, and what its JSON knows beyond its fields. */
export interface ReadLine {
  line: Line;
  /** Does its message have a timestamp_ms, if it is 0? */
  timed: boolean;
}

const UTF_8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const schema = present(createFileRegistry(descriptorSet).getMessage("agentstore.v1.ExportLine"));

/**
 * Reads a line.
 *
 * @throws RpcError that says what is wrong, without quoting the line
 */
export function readLine(bytes: Buffer): ReadLine {
  const json = parse(bytes);
  let encoded: Uint8Array;
  try {
    encoded = toBinary(schema, fromJson(schema, json));
  } catch (error) {
    throw new RpcError("INVALID_IMPORT", whatIsWrong(error));
  }
  // As requests are read, with their checks of what no Struct or Timestamp holds.
  const { line } = decodeRequest(
    (input) => ExportLine.decode(input),
    "ExportLine",
    encoded,
  ) as ExportLine;
  if (!line) throw new RpcError("INVALID_IMPORT", "holds none of the members of an ExportLine");
  return { line, timed: hasTime(json) };
}

function parse(bytes: Buffer): JsonValue {
  let text: string;
  try {
    text = UTF_8.decode(bytes);
  } catch {
    throw new RpcError("INVALID_IMPORT", "is not valid UTF-8");
  }
  try {
    return JSON.parse(text) as JsonValue;
  } catch {
    // A RangeError, too: it is nested too deeply.
    throw new RpcError("INVALID_IMPORT", "is not valid JSON");
  }
}

// The library's texts quote values, so only the names in them are told.
function whatIsWrong(error: unknown): string {
  const text = error instanceof Error ? error.message : "";
  if (text.includes("recursion depth")) return "is nested too deeply";
  const [, name = "ExportLine"] =
    /^cannot decode \w+ (?:agentstore\.v1\.)?([\w.]+)/.exec(text) ?? [];
  return /key ".*" is unknown/s.test(text)
    ? `${name} has a member that this server does not know`
    : `${name} has a value that its type does not allow`;
}

function hasTime(json: JsonValue): boolean {
  const line = json as { message?: TimedVersion; version?: TimedVersion };
  return (line.message ?? line.version)?.message?.timestampMs !== undefined;
}

interface TimedVersion {
  message?: { timestampMs?: string };
}

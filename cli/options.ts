// The options that several commands share, and the parsers of their values.
import { type Command, InvalidArgumentError, Option } from "commander";

/** Where the server is and who asks. */
export interface StoreOptions {
  url?: string;
  token?: string;
}

/** Options of the commands that print what they find. */
export interface PrintOptions extends StoreOptions {
  json?: boolean;
}

const MAX_ID = 2n ** 63n - 1n;

/** Adds --url and --token. The client reads the environment itself, so these have no default. */
export function withStoreOptions(command: Command): Command {
  return command
    .addOption(
      new Option(
        "--url <url>",
        "the server: agentstore://HOST[:PORT][?tls=true&ca=FILE] " +
          "(env: AGENTSTORE_URL, default: agentstore://127.0.0.1:50051)",
      ),
    )
    .addOption(
      new Option(
        "--token <token>",
        "the bearer token; better in env: AGENTSTORE_TOKEN, which other users do not see",
      ),
    );
}

/** Adds --json. */
export function withJsonOption(command: Command, what: string): Command {
  return command.option("--json", `print ${what}, 64-bit integers as strings`);
}

/** A parser of whole numbers. Both bounds are included. */
export function integer(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^-?\d+$/.test(text) || value < least || value > most) {
      throw new InvalidArgumentError(`It must be a whole number from ${least} to ${most}.`);
    }
    return value;
  };
}

/** Parses a session's id. */
export function sessionId(text: string): bigint {
  const id = /^\d{1,19}$/.test(text) ? BigInt(text) : 0n;
  if (id < 1n || id > MAX_ID) {
    throw new InvalidArgumentError(
      "It must be a session's id, a positive whole number; agentstore sessions lists them.",
    );
  }
  return id;
}

/** Collects the ids of a variadic argument. */
export function sessionIds(text: string, before: bigint[] = []): bigint[] {
  return [...before, sessionId(text)];
}

/** Parses a text that must not be empty. */
export function required(text: string): string {
  if (text === "") throw new InvalidArgumentError("It must not be empty.");
  return text;
}

/** Parses the name of a model. */
export function modelName(text: string): string {
  if (!isModel(text)) throw new InvalidArgumentError("It must have 1 to 256 characters.");
  return text;
}

/** Whether the store takes a text as the name of a model: 1 to 256 characters, none U+0000. */
export function isModel(text: string): boolean {
  return (
    text !== "" && Array.from(text).length <= 256 && text.isWellFormed() && !text.includes("\0")
  );
}

/** Parses a snapshot's id. */
export function snapshotId(text: string): bigint {
  const id = /^\d{1,19}$/.test(text) ? BigInt(text) : 0n;
  if (id < 1n || id > MAX_ID) {
    throw new InvalidArgumentError(
      "It must be a snapshot's id, a positive whole number; agentstore snapshots list shows them.",
    );
  }
  return id;
}

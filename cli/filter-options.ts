// The options that choose sessions, for the commands that work on several.
import { type Command, InvalidArgumentError, Option } from "commander";
import type { JsonObject, SessionFilter } from "../client/index.js";
import { required } from "./options.js";

/** What withFilterOptions adds. */
export interface FilterFlags {
  tag?: string[];
  anyTag?: string[];
  owner?: string;
  metadata?: JsonObject;
  state?: "active" | "expired";
  since?: Date;
  until?: Date;
}

/** Adds --tag, --any-tag, --owner, --metadata, --state, --since and --until. */
export function withFilterOptions(command: Command): Command {
  return command
    .option("--tag <tag>", "only sessions with this tag; several times: with all of them", several)
    .option("--any-tag <tag>", "only sessions with this tag, or another one so named", several)
    .option("--owner <id>", "only sessions of this owner", required)
    .option("--metadata <json>", "only sessions whose metadata contains this object", jsonObject)
    .addOption(
      new Option("--state <state>", "only sessions in this state").choices(["active", "expired"]),
    )
    .option("--since <time>", "only sessions whose last message is not older (RFC 3339)", time)
    .option("--until <time>", "only sessions whose last message is older (RFC 3339)", time);
}

/** The filter that the options ask for; undefined for none. */
export function filterOf(flags: FilterFlags): SessionFilter | undefined {
  const { tag, anyTag, owner, metadata, state, since, until } = flags;
  const filter: SessionFilter = {
    allTags: tag,
    anyTags: anyTag,
    ownerId: owner,
    metadata,
    state,
    lastMessage: since || until ? { start: since, end: until } : undefined,
  };
  return Object.values(filter).some((value) => value !== undefined) ? filter : undefined;
}

/** Collects the values of an option that may be given several times. */
export function several(text: string, before: string[] = []): string[] {
  return [...before, required(text)];
}

function jsonObject(text: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new InvalidArgumentError("It must be JSON.");
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new InvalidArgumentError('It must be a JSON object, for example {"env":"prod"}.');
  }
  return value as JsonObject;
}

/** Reads a time. */
export function time(text: string): Date {
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) {
    throw new InvalidArgumentError("It must be a time, for example 2026-03-01T12:00:00Z.");
  }
  return date;
}

// How far a WatchSessions has come, and the opaque position that says so to a watcher.
import { isPosition } from "../changes/position.js";
import { fieldError } from "../errors/rpc-error.js";
import { decodeTextPageToken, encodeTextPageToken } from "../rpc/page-token.js";

/** How far a watch has come. */
export interface Progress {
  /** Where it stands in the change log, for the sessions up to `walked`. */
  position: string;
  /**
   * From the beginning, sessions are walked through by their ids: those up to this one have been
   * told as they were at the position. Absent: all.
   */
  walked?: bigint | undefined;
  /** In the middle of a stretch of the log: the position at its end. Its sessions go by id. */
  until?: string | undefined;
  /** In the middle of a session: up to which revision it has been told. */
  session?: { id: bigint; revision: bigint } | undefined;
}

/** What a position belongs to: a cluster of Postgres, and a request. */
export interface ProgressOwner {
  cluster: string;
  query: unknown[];
}

/** Makes the position of a response. */
export function encodeProgress(
  { position, walked, until, session }: Progress,
  { cluster, query }: ProgressOwner,
): string {
  const parts = [cluster, position, walked, until, session?.id, session?.revision];
  return encodeTextPageToken(query, parts.map((part) => String(part ?? "")).join("/"));
}

/**
 * Reads the position of a request.
 *
 * @returns null when it is another cluster's
 * @throws INVALID_PAGE_TOKEN when it was altered or is another request's
 */
export function decodeProgress(token: string, { cluster, query }: ProgressOwner): Progress | null {
  const text = decodeTextPageToken(token, query, FIELD) ?? "";
  const [from, position = "", walked = "", until = "", id = "", revision = "", ...rest] =
    text.split("/");
  const numbers = [walked, id, revision];
  const intact =
    isPosition(position) &&
    (until === "" || isPosition(until)) &&
    numbers.every((number) => /^\d{0,18}$/.test(number)) &&
    rest.length === 0;
  if (!intact) throw fieldError("INVALID_PAGE_TOKEN", FIELD, "is not what a watch has sent");
  if (from !== cluster) return null;
  return {
    position,
    walked: walked === "" ? undefined : BigInt(walked),
    until: until || undefined,
    session: id === "" ? undefined : { id: BigInt(id), revision: BigInt(revision || 0) },
  };
}

const FIELD = "after_position";

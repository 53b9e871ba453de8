// The processes of `agentstore serve --workers N`, and what they log.
import { readFileSync } from "node:fs";
import { childrenOf } from "./chaos.js";
import type { SpawnedServer } from "./server.js";

/** A line of the log. */
export interface LogLine {
  pid?: number;
  msg: string;
  method?: string;
  /** Whom a line of the parent is about. */
  worker?: number;
}

/** The workers of a server that run. */
export function workersOf(server: SpawnedServer): number[] {
  return childrenOf(server.child.pid!).filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("worker.js");
    } catch {
      return false;
    }
  });
}

/** What a server and its workers have logged so far. */
export function loggedBy(server: SpawnedServer): LogLine[] {
  return server
    .output()
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as LogLine);
}
